"""Runs of reproductions that were not trained at all, but are finished by all that their folders tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oracles.finished_runs import model_options
from oracles.tiny_runs import tiny_run
from stillmotion.metrics.results import RESULTS
from stillmotion.models import files
from stillmotion.recipes.reproduce import Plan
from stillmotion.training.runs import RUN_FILE
from stillmotion.training.settings import Part, Run

PLAN = Plan(quick=True, show=False, command="test")


def untrained(run: Run, folder: Path, plan: Plan) -> Path:
    """In the place of `train_once`."""
    files.save(files.build(run.model.name, run.model.options, run.seed).eval(), folder / files.INNER)
    (folder / RUN_FILE).write_text(json.dumps({"command": "test", "run": run.model_dump(mode="json")}), encoding="utf-8")
    (folder / RESULTS).write_text(json.dumps({"figures": {}, "minutes": 0.5}), encoding="utf-8")
    return folder


def small_recipe(name: str, **options: Any) -> Callable[..., Run]:
    """In the place of a recipe: a small VDSM on 16 x 16 frames of this data; the name of the recipe tells what is grouped by."""

    def recipe(size: str = "laptop", *, data: dict[str, Any] | None = None, seed: int = 0, group_by: str | None = None) -> Run:
        part = Part(name=name, options={"size": 16, **options, **(data or {})})
        run = tiny_run(data=part, model=Part(name="vdsm", options=model_options(16)), seed=seed)
        return run.model_copy(update={"recipe": f"{name} by {group_by}"})

    return recipe
