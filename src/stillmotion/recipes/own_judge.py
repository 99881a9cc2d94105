"""What reproductions measure with: their trained models, and judges of their own, on the device that is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stillmotion.core.abilities import Model
from stillmotion.data.base import Splits
from stillmotion.metrics.judge_files import LoadedJudge, load_judge
from stillmotion.models import files
from stillmotion.recipes.evaluate import told_of_judge
from stillmotion.recipes.held_out import clips_sha256
from stillmotion.recipes.judge import NARROW, judge_run, train_judge
from stillmotion.recipes.lab import load
from stillmotion.recipes.reproduce import Plan
from stillmotion.training.machine import choose_device
from stillmotion.training.settings import Part, Run

SURE = 0.995
"""Of real clips a judge must be right on more than this, of every factor."""
QUICK: dict[str, Any] = {"channels": NARROW.channels, "steps": 60}
"""Lessons of the judges of quick reproductions, which need not be sure."""


def lessons_for(data: Part, splits: Splits, plan: Plan, **lessons: Any) -> Run:
    """The run of a judge of this data. lessons: what `judge_run` is given; channels and steps where they are not those of the data set."""
    return judge_run(data, splits, **(lessons | QUICK if plan.quick else lessons))


def finished(folder: Path) -> bool:
    """Whether a folder holds a judge, or another model, that was trained to its end."""
    return (folder / files.INNER / files.CONFIG).is_file()


def taught(lessons: Run, splits: Callable[[], Splits], folder: Path, plan: Plan) -> LoadedJudge:
    """The judge of a folder, trained where it is not there or was stopped, on what `splits` then makes."""
    if not finished(folder):
        train_judge(lessons, splits(), folder, command=plan.command, show=plan.show)
    loaded = load_judge(folder)
    loaded.judge.to(choose_device("auto"))
    return loaded


def ready(run: Path) -> Model:
    """The trained model of a run folder."""
    return load(run).to(choose_device("auto"))


def facts_of(judge: LoadedJudge, lessons: Run, splits: Splits, folder: Path) -> dict[str, Any]:
    """What results.json holds of it: how often it is right on real clips that were kept from it."""
    return told_of_judge(folder, judge, lessons.data, clips_sha256(splits))


def unsure(facts: Mapping[str, Any]) -> dict[str, float]:
    """The factors of which a judge is not right on more than SURE of the real clips, with the share of those that it is right on."""
    return {factor: told["value"] for factor, told in facts["accuracy"].items() if told["value"] <= SURE}


def doubt(facts: Mapping[str, Any]) -> str:
    """A sentence for the page, where a judge errs too often; else nothing."""
    poor = " and ".join(unsure(facts))
    return f" Of the {poor} that is not more than {100 * SURE:.1f} %, as it should be, and limits what it measures." if poor else ""


def accuracy(facts: Mapping[str, Any], factor: str) -> str:
    """How often the judge is right on real clips that it never saw, in per cent with its interval."""
    told = facts["accuracy"][factor]
    value, low, high = (100 * told[name] for name in ("value", "low", "high"))
    return f"{value:.2f} % ({low:.1f} to {high:.1f})"
