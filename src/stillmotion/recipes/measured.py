"""Runs that were measured, as far as their folders tell what they were measured on and how."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.metrics.results import RESULTS, by_protocol, read_results
from stillmotion.models import files
from stillmotion.recipes.judge import what
from stillmotion.training.runs import RUN_FILE, read_run

KINETICS = "frechet_kinetics"
Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """A run with figures.

    name: short, unlike those of the other runs. series: alike for runs that differ in their seed alone. data: name and options.
    split: of the data; clips: the hash of those held out; weights: that of the Kinetics weights; each empty where it was not written
    down. moving: the factors that were said to move, sorted; None where that was not written down. figures: by protocol. evaluated:
    whether more was measured than after training.
    """

    name: str
    folder: Path
    recipe: str
    seeds: tuple[int, ...]
    series: str
    data: dict[str, Any]
    split: str
    clips: str
    moving: tuple[str, ...] | None
    weights: str
    judge: dict[str, Any] | None
    figures: dict[str, Figures]
    evaluated: bool


def read_runs(folders: Sequence[Path]) -> list[Measured]:
    """The runs in the folders, each once.

    Raises FileRefused for a folder without results, UserError where a run has no figures and where no folder is given.
    """
    if not folders:
        raise UserError("at least one run folder", "none")
    once = list({folder.resolve(): folder for folder in folders}.values())
    return [_read(folder, name) for folder, name in zip(once, _short_names(once), strict=True)]


def _read(folder: Path, name: str) -> Measured:
    results = _results(folder)
    if not results["figures"]:
        raise UserError("a run with figures", f"{folder}, whose {RESULTS} has none", f"Measure it with `stillmotion evaluate {folder}`.")
    evaluation = results.get("evaluation") or {}
    recipe, seeds = str(results.get("recipe", "")), tuple(results.get("seeds") or ())
    data, series = _described(folder, recipe)
    told, moving = evaluation.get("data") or data, evaluation.get("moving")
    clips = str(told.get("clips_sha256") or results.get("clips_sha256") or "")
    data = {"name": told["name"], "options": told.get("options") or {}}
    return Measured(
        name=name, folder=folder, recipe=recipe, seeds=seeds, series=series or json.dumps([recipe, data], sort_keys=True), data=data,
        split=str(evaluation.get("split", "")), clips=clips, moving=None if moving is None else tuple(sorted(moving)),
        weights=_weights(evaluation), judge=results.get("judge"), figures=by_protocol(results), evaluated=bool(evaluation),
    )  # fmt: skip


def _weights(evaluation: dict[str, Any]) -> str:
    """Of the evaluation that took the distances on Kinetics features: a later one may have had none."""
    told = (evaluation.get("protocols") or {}).get(KINETICS) or evaluation
    return str(((told.get("extras") or {}).get("kinetics") or {}).get("sha256") or "")


def _results(folder: Path) -> dict[str, Any]:
    if (folder / RESULTS).is_file() or not (folder / files.INNER / files.CONFIG).is_file():
        return read_results(folder)
    remedy = f"Measure it with `stillmotion evaluate {folder}`."
    raise FileRefused(f"a run with {RESULTS}", f"{folder}, which was never evaluated", remedy)


def _described(folder: Path, recipe: str) -> tuple[dict[str, Any], str]:
    """The data of a run, and a text that is alike for all runs that differ in the seed alone, as far as its folder tells them."""
    if not (folder / RUN_FILE).is_file():
        return {"name": recipe.rsplit("/", 1)[-1], "options": {}}, ""
    run = read_run(folder)
    same = run.model_dump(mode="json", include={"recipe", "data", "model", "stages", "precision"})
    return what(run.data), json.dumps(same, sort_keys=True)


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path; more of it where several end alike."""
    paths = [folder.resolve() for folder in folders]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names
