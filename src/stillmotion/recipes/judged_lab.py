"""What reproductions with one data set and one judge share: its runs, and what the judge finds in clips of unknown characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.metrics.judge_files import LoadedJudge, load_judge
from stillmotion.models import files
from stillmotion.recipes import lab as labs
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.evaluate import told_of_judge
from stillmotion.recipes.held_out import clips_sha256
from stillmotion.recipes.judge import NARROW, default_folder, judge_run, train_judge
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.recipes.reproduce import measured_once
from stillmotion.training.machine import choose_device, choose_precision
from stillmotion.training.runs import load_part
from stillmotion.training.settings import Part

SURE = 0.995
"""Of real clips a judge must be right on more than this, of every factor."""
QUICK_JUDGE = 60
"""Steps of the narrow judge of a quick reproduction, which need not be sure."""
QUICK_CHARACTERS = (24, 6, 6)
"""Of the training, validation and test clips that a quick reproduction measures."""
CHARACTER = "character"


@dataclass
class JudgedLab(labs.Lab):
    """A folder and a plan, with one data set and one judge for all. source: the data set, whose clips tell their `character`."""

    source: Part = field(default_factory=lambda: Part(name="sprites"))

    @cached_property
    def splits(self) -> Splits:
        return load_part(self.source, show=False)

    @cached_property
    def judge_folder(self) -> Path:
        """Of a judge that this reproduction trained, else of the one that every evaluation of this data takes, else newly trained."""
        own, usual = self.folder / "judge", default_folder(self.source)
        if not own.exists() and _finished(usual):
            return usual
        if not _finished(own):
            plain: dict[str, Any] = {"channels": NARROW.channels, "steps": QUICK_JUDGE} if self.plan.quick else {}
            lessons = judge_run(self.source, self.splits, **plain)
            train_judge(lessons, self.splits, own, command=self.plan.command, show=self.plan.show)
        return own

    @cached_property
    def judge(self) -> LoadedJudge:
        """Raises UserError for one that is not sure enough."""
        loaded = load_judge(self.judge_folder)
        if not self.plan.quick:
            check_sure(loaded.facts, self.judge_folder, self.source)
        return loaded

    @cached_property
    def told_of_judge(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return told_of_judge(self.judge_folder, self.judge, self.source, clips_sha256(self.splits))

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Those that can be asked for, by name."""
        return MEASURES

    def measure(self, run: Path, names: Sequence[str], characters: int | None = None) -> Figures:
        """Figures of the measures, by their names in `measures`, and what `taken` adds; measured once for the same weights.

        characters: test characters that are measured, all by default.
        """
        splits = few(self.splits, QUICK_CHARACTERS) if self.plan.quick else few(self.splits, (None, None, characters))
        seen = f"test clips {labs.fingerprint(splits.test)}, judge {self.judge.sha256[:12]}"
        found = measured_once(run, f"{', '.join(names)} of {seen}", partial(self._measured, run, names, splits))
        return {name: Figure(**figure) for name, figure in found.items()}

    def taken(self, bench: Bench, names: Sequence[str]) -> Figures:
        """The figures of all measures that can be taken of a model."""
        found: Figures = {}
        for name in names:
            if not self.measures[name].lacking(bench):
                found |= self.measures[name].take(bench)
        return found

    def _measured(self, run: Path, names: Sequence[str], splits: Splits) -> dict[str, Any]:
        device = choose_device("auto")
        model, judge = labs.load(run).to(device), self.judge.judge.to(device)
        bench = Bench(model, splits, judge, splits.train.moving, low=choose_precision("auto", device) == "bfloat16")
        return {name: asdict(figure) for name, figure in self.taken(bench, names).items()}


def check_sure(facts: Mapping[str, Any], folder: Path, data: Part) -> None:
    """Raises UserError for a judge of this data that is not right on more than SURE of the real clips."""
    accuracy = {factor: told["value"] for factor, told in facts["accuracy"].items()}
    poor = [f"{factor} {100 * value:.2f} %" for factor, value in accuracy.items() if value <= SURE]
    if poor or not accuracy:
        options = "".join(f" --data {name}={value}" for name, value in data.options.items())
        remedy = f"Remove it and train another: stillmotion judge train {data.name}{options} -o {folder} --steps 2000"
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


def _finished(folder: Path) -> bool:
    return (folder / files.INNER / files.CONFIG).is_file()
