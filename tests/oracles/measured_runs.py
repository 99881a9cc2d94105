"""Run folders that hold nothing but how they were trained and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stillmotion.metrics.protocols import protocol_of

JUDGE = {
    "folder": "judge", "sha256": "0123456789abcdef", "other_split": False, "data": {"name": "sprites", "options": {"version": "standard"}},
    "accuracy": {"hair": {"value": 0.998, "low": 0.99, "high": 0.999, "clips": 2664}}, "calibration": {"hair": {"ece": 0.002, "nll": 0.01}},
}  # fmt: skip


def entry(value: float, margin: float | None = 0.01, clips: int = 2664) -> dict[str, Any]:
    bounds = {} if margin is None else {"low": value - margin, "high": value + margin}
    return {"value": value, **bounds, "clips": clips, "paper": None}


def measured_results(
    figures: dict[str, Any], *, seed: int = 0, data: dict[str, Any] | None = None, judge: dict[str, Any] | None = JUDGE, **evaluation: Any
) -> dict[str, Any]:
    """results.json of an evaluated run. figures: name -> value, or the whole entry."""
    told = {name: value if isinstance(value, dict) else entry(value) for name, value in figures.items()}
    told = {name: {"protocol": protocol_of(name), **value} for name, value in told.items()}
    about = {"command": "stillmotion evaluate RUN", "commit": "f00d", "minutes": 1.5, "seed": 0, "split": "test", "clips": 2664,
             "data": data or {"name": "sprites", "options": {}}, "skipped": {}, **evaluation}  # fmt: skip
    return {"recipe": "vdsm/sprites", "seeds": [seed], "judge": judge, "evaluation": about, "figures": told}


def older_results(figures: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """results.json of a run from before there were protocols."""
    return {"recipe": "vdsm/sprites", "seeds": [seed], "judge": None, "figures": {name: entry(value) for name, value in figures.items()}}


def write_run(folder: Path, results: dict[str, Any] | None, *, steps: int = 5, data: dict[str, Any] | None = None) -> Path:
    """A run folder without its model."""
    folder.mkdir(parents=True)
    seed = (results or {"seeds": [0]})["seeds"][0]
    run = {
        "recipe": "vdsm/sprites", "seed": seed, "data": data or {"name": "sprites", "options": {}}, "model": {"name": "vdsm"},
        "stages": [{"name": "poses", "steps": steps}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps({"command": "stillmotion train sprites", "commit": None, "run": run}))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    return folder
