"""What the reproduction of the DSA report works with: its runs, its judge, and what that judge finds in clips of unknown characters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch

from stillmotion.core.abilities import Model
from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.figure import Figure, Figures, mean
from stillmotion.metrics.judge_files import LoadedJudge, load_judge
from stillmotion.metrics.protocols import unit_of
from stillmotion.models import files
from stillmotion.recipes import lab as labs
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.dsa import Size, sprites
from stillmotion.recipes.evaluate import told_of_judge
from stillmotion.recipes.held_out import clips_sha256
from stillmotion.recipes.judge import NARROW, default_folder, judge_run, train_judge
from stillmotion.recipes.measures import MEASURES
from stillmotion.recipes.reproduce import measured_once
from stillmotion.training.machine import choose_device, choose_precision
from stillmotion.training.runs import load_part

SURE = 0.995
"""Of real clips a judge must be right on more than this, of every factor."""
QUICK_JUDGE = 60
"""Steps of the narrow judge of a quick reproduction, which need not be sure."""
QUICK_CHARACTERS = (24, 6, 6)
"""Of the training, validation and test clips that a quick reproduction measures."""
CHARACTER, DIRECTION = "character", "direction"
CLIPS_OF_ONE = 9
WHOLE = (
    "reconstruction", "swaps", "two factors", "two factors, aggregate posterior", "resampling", "leakage of means", "leakage of samples",
    "entropies", "entropies, aggregate posterior", "disagreement",
)  # fmt: skip
SHORT = ("reconstruction", "swaps", "two factors", "disagreement")
"""What is measured of models that are only compared with one another."""
BOTH_WAYS = ("swaps", "two factors", "disagreement")
"""In which it matters whether the direction is counted to what moves."""


class Lab(labs.Lab):
    """A folder and a plan, with one data set and one judge for all."""

    @property
    def size(self) -> Size:
        """Of the runs."""
        return cast(Size, super().size)

    @cached_property
    def splits(self) -> Splits:
        return load_part(sprites().data, show=False)

    @cached_property
    def judge_folder(self) -> Path:
        """Of a judge that this reproduction trained, else of the one that every evaluation of this data takes, else newly trained."""
        own, usual = self.folder / "judge", default_folder(sprites().data)
        if not own.exists() and _finished(usual):
            return usual
        if not _finished(own):
            plain: dict[str, Any] = {"channels": NARROW.channels, "steps": QUICK_JUDGE} if self.plan.quick else {}
            lessons = judge_run(sprites().data, self.splits, **plain)
            train_judge(lessons, self.splits, own, command=self.plan.command, show=self.plan.show)
        return own

    @cached_property
    def judge(self) -> LoadedJudge:
        """Raises UserError for one that is not sure enough."""
        loaded = load_judge(self.judge_folder)
        if not self.plan.quick:
            check_sure(loaded.facts, self.judge_folder)
        return loaded

    @cached_property
    def told_of_judge(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return told_of_judge(self.judge_folder, self.judge, sprites().data, clips_sha256(self.splits))

    def measure(self, run: Path, names: Sequence[str], characters: int | None = None) -> Figures:
        """Figures of the measures, by the names of their protocols, and those of `divergences`; measured once for the same weights.

        characters: test characters that are measured, all by default. The direction is counted to what moves; figures that count it
        to what stays, too, have `_as_static` in their names.
        """
        splits = few(self.splits, QUICK_CHARACTERS) if self.plan.quick else few(self.splits, (None, None, characters))
        seen = f"test clips {labs.fingerprint(splits.test)}, judge {self.judge.sha256[:12]}"
        key = f"{', '.join(names)} of {seen}"
        found = measured_once(run, key, partial(self._measured, run, names, splits))
        return {name: Figure(**figure) for name, figure in found.items()}

    def _measured(self, run: Path, names: Sequence[str], splits: Splits) -> dict[str, Any]:
        device = choose_device("auto")
        model, judge = labs.load(run).to(device), self.judge.judge.to(device)
        bench = Bench(model, splits, judge, splits.train.moving, low=choose_precision("auto", device) == "bfloat16")
        found = _taken(bench, names)
        # on the same bench, as the judge's verdicts on most clips are there already, and do not depend on what is said to move
        bench.moving = tuple(factor for factor in bench.moving if factor != DIRECTION)
        again = _taken(bench, [name for name in names if name in BOTH_WAYS])
        found |= {as_static(name): figure for name, figure in again.items() if DIRECTION in name and "action" not in name}
        return {name: asdict(figure) for name, figure in {**found, **divergences(model, splits.test)}.items()}


def _taken(bench: Bench, names: Sequence[str]) -> Figures:
    """The figures of all measures that can be taken."""
    found: Figures = {}
    for name in names:
        if not MEASURES[name].lacking(bench):
            found |= MEASURES[name].take(bench)
    return found


def check_sure(facts: Mapping[str, Any], folder: Path) -> None:
    """Raises UserError for a judge that is not right on more than SURE of the real clips."""
    accuracy = {factor: told["value"] for factor, told in facts["accuracy"].items()}
    poor = [f"{factor} {100 * value:.2f} %" for factor, value in accuracy.items() if value <= SURE]
    if poor or not accuracy:
        remedy = f"Remove it and train another: stillmotion judge train sprites -o {folder} --steps 2000"
        raise UserError(f"a judge that is right on more than {100 * SURE:.1f} % of real clips", f"{folder}: {', '.join(poor)}", remedy)


def few(splits: Splits, characters: tuple[int | None, int | None, int | None]) -> Splits:
    """The clips of so many characters of each split, evenly spread: those that follow one another look alike. None: all of them."""
    return Splits(*(_people(part, count) for part, count in zip(splits, characters, strict=True)))


def _people(clips: ClipSet, count: int | None) -> ClipSet:
    if count is None:
        return clips
    who = torch.unique(clips.labels[CHARACTER])
    chosen = who[torch.linspace(0, len(who) - 1, min(count, len(who))).round().long()]
    return clips.subset(torch.isin(clips.labels[CHARACTER], chosen))


def as_static(name: str) -> str:
    """The name of a figure of the direction, where that is counted to what stays: `swap_direction_as_static_accuracy`."""
    return name.replace(DIRECTION, f"{DIRECTION}_as_static")


@torch.inference_mode()
def divergences(model: Model, clips: ClipSet) -> Figures:
    """How much the codes say of a clip, in nats: `kl_static` of f, and `kl_path` of z over all frames. Clips lie character by character."""
    noise, device = torch.Generator().manual_seed(seed_of("divergences")), next(model.parameters()).device
    parts = torch.split(torch.arange(len(clips)), CLIPS_OF_ONE)
    terms = [model.loss(clips.clips(part).to(device), {}, noise).values for part in parts]
    values = {name: torch.stack([each[f"{name}_kl"] for each in terms]).cpu() for name in ("static", "path")}
    return {f"kl_{name}": replace(mean(value, noise), clips=len(clips)) for name, value in values.items()}


def over_seeds(found: Sequence[Figures]) -> Figures:
    """The mean over seeds of each figure that all of them have.

    Seeds vary (Student's t, where there are several), and so do clips, the same for all: half-widths are added as squares. Intervals of
    shares end at 0 and 1.
    """
    joined = {name: _joined([each[name] for each in found]) for name in found[0] if all(name in each for each in found)}
    return {name: _within(figure) if unit_of(name) == "share" else figure for name, figure in joined.items()}


def _joined(figures: Sequence[Figure]) -> Figure:
    from scipy.stats import t as student

    values = torch.tensor([figure.value for figure in figures], dtype=torch.float64)
    if len(values) < 2:
        return figures[0]
    value = float(values.mean())
    spread = float(student.ppf(0.975, len(values) - 1)) * float(values.std()) / math.sqrt(len(values))
    down, up = (sum(abs(getattr(figure, end) - figure.value) for figure in figures) / len(figures) for end in ("low", "high"))
    return Figure(value, value - math.hypot(spread, down), value + math.hypot(spread, up), figures[0].clips)


def _within(figure: Figure) -> Figure:
    return replace(figure, low=max(0.0, figure.low), high=min(1.0, figure.high))


def _finished(folder: Path) -> bool:
    return (folder / files.INNER / files.CONFIG).is_file()
