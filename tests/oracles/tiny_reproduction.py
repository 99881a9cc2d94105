"""A reproduction of a few training steps, to be registered as `oracles.tiny_reproduction:reproduce`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from oracles.finished_runs import PENDULA, model_options, quickly
from oracles.tiny_runs import tiny_run
from stillmotion.metrics.exhibits import Curves, Line, Page, Pictures, Table
from stillmotion.metrics.figure import Figure
from stillmotion.models import files
from stillmotion.recipes import execute
from stillmotion.recipes.reproduce import Plan, Reproduced, measured_once, train_once
from stillmotion.training.settings import Part, Run

PLACE = "oracles.tiny_reproduction:reproduce"
calls: list[str] = []
"""What was measured since it was last cleared."""
stops: list[type[BaseException]] = []
"""Raised one after the other, once all is trained."""


def run(seed: int = 0, steps: int = 1) -> Run:
    """Two stages on 16 x 16 pendula."""
    plain = tiny_run(steps=steps).model_dump(mode="json")
    for stage in plain["stages"]:
        stage["feed"] = {"batch": 4}
    parts = {"data": Part(name="pendula", options=PENDULA), "model": Part(name="vdsm", options=model_options(16)), "seed": seed}
    return Run.model_validate(plain | parts)


def train(folder: Path, plan: Plan, seed: int = 0) -> Path:
    """As a reproduction trains it, with one thread, without TensorBoard and without the figures that every run is given."""
    with quickly(), patch.object(execute, "write_results", _no_figures):
        return train_once(run(seed), folder, plan)


def reproduce(folder: Path, plan: Plan) -> Reproduced:
    """Tiny pendula: sizes of networks.

    Nothing of it was ever published.
    """
    runs = [train(folder / "runs" / f"tiny_{seed}", plan, seed) for seed in range(plan.seeds)]
    if stops:
        raise stops.pop(0)
    sizes = [measured_once(run, "parameters", lambda run=run: parameters(run)) for run in runs]
    table = Table("sizes", "How large they are", ("seed", "parameters"), tuple((str(seed), size) for seed, size in enumerate(sizes)))
    curves = Curves("curve", "A curve", "x", "y", (Line("ours", (0.0, 1.0), (1.0, 2.0)),))
    pictures = Pictures("noise", "Noise", np.zeros((1, 2, 3, 1, 4, 4), dtype=np.uint8))
    size, errors = Figure(sizes[0], sizes[0], sizes[0], len(sizes)), Figure(0.0123456, 0.01, 0.02, 9)
    figures = {"size_of_networks": size, "imputation_smooth_p50": errors}
    return Reproduced(Page("Tiny pendula", "A test.", (table, curves, pictures)), figures, {"imputation_smooth_p50": 0.0075})


def parameters(folder: Path) -> int:
    """How many there are in the trained model."""
    calls.append(folder.name)
    return sum(one.numel() for one in files.load(folder).model.parameters())


def _no_figures(folder: Path, *circumstances: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps({"figures": {}}))
    return path
