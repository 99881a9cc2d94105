"""What reproductions with one data set and one judge share: its runs, and what the judge finds in clips of unknown characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.metrics.judge_files import LoadedJudge, load_judge
from stillmotion.recipes import lab as labs
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.evaluate import told_of_judge
from stillmotion.recipes.held_out import clips_sha256, held_out
from stillmotion.recipes.judge import default_folder
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.recipes.own_judge import SURE, finished, lessons_for, taught, unsure
from stillmotion.recipes.reproduce import measured_once
from stillmotion.training.machine import choose_device, choose_precision
from stillmotion.training.runs import load_part
from stillmotion.training.settings import Part

Characters: TypeAlias = tuple[int | None, int | None, int | None]
"""So many of the training, validation and test clips; None for all of them."""
QUICK_CHARACTERS: Characters = (24, 6, 6)
"""Of the training, validation and test clips that a quick reproduction measures."""
CHARACTER = "character"
IDENTITIES = (CHARACTER, "identity")
"""What data sets call who is seen."""


@dataclass
class JudgedLab(labs.Lab):
    """A folder and a plan, with one data set and one judge for all.

    source: the data set, whose clips tell who is seen. strict: a judge that is not sure enough is refused; else the page has to say so.
    """

    source: Part = field(default_factory=lambda: Part(name="sprites"))
    strict: bool = True
    _chosen: dict[Characters, tuple[Splits, str]] = field(default_factory=dict)

    @cached_property
    def splits(self) -> Splits:
        return load_part(self.source, show=False)

    @cached_property
    def judge_folder(self) -> Path:
        """Of a judge that this reproduction trained, else of the one that every evaluation of this data takes, else newly trained."""
        own, usual = self.folder / "judge", default_folder(self.source)
        if not own.exists() and finished(usual):
            return usual
        if not finished(own):
            taught(lessons_for(self.source, self.splits, self.plan), lambda: self.splits, own, self.plan)
        return own

    @cached_property
    def judge(self) -> LoadedJudge:
        """Raises UserError for one that is not sure enough, and for one of another split, which may have seen the measured clips."""
        loaded = load_judge(self.judge_folder)
        if not self.plan.quick:
            if self.strict:
                check_sure(loaded.facts, self.judge_folder, self.source)
            check_apart(self._told(loaded), self.source)
        return loaded

    @cached_property
    def told_of_judge(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return self._told(self.judge)

    def _told(self, loaded: LoadedJudge) -> dict[str, Any]:
        return told_of_judge(self.judge_folder, loaded, self.source, clips_sha256(self.splits))

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Those that can be asked for, by name."""
        return MEASURES

    def measure(self, run: Path, names: Sequence[str], characters: int | None = None) -> Figures:
        """Figures of the measures, by their names in `measures`, and what `taken` adds; measured once for the same weights.

        characters: test characters that are measured, all by default.
        """
        return self.measure_of(run, names, QUICK_CHARACTERS if self.plan.quick else (None, None, characters))

    def measure_of(self, run: Path, names: Sequence[str], characters: Characters) -> Figures:
        """As `measure`, on some of the clips of each split: test clips, and validation clips where no test character is asked for."""
        if characters not in self._chosen:
            splits = few(self.splits, characters)
            self._chosen[characters] = splits, labs.fingerprint(held_out(splits).clips)
        splits, clips = self._chosen[characters]
        key = f"{', '.join(names)} of {held_out(splits).split} clips {clips}, judge {self.judge.sha256[:12]}"
        found = measured_once(run, key, partial(self._measured, run, names, splits))
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
    poor = [f"{factor} {100 * value:.2f} %" for factor, value in unsure(facts).items()]
    if poor or not facts["accuracy"]:
        wanted, got = f"a judge that is right on more than {100 * SURE:.1f} % of real clips", f"{folder}: {', '.join(poor)}"
        raise UserError(wanted, got, _another(folder, data, " --steps 2000"))


def check_apart(told: Mapping[str, Any], data: Part) -> None:
    """Raises UserError for a judge that was trained on another split than that of this data."""
    if told["other_split"]:
        got = f"{told['folder']}, which was trained on another and may have seen the test clips"
        raise UserError("a judge of this very split", got, _another(Path(told["folder"]), data))


def _another(folder: Path, data: Part, more: str = "") -> str:
    options = "".join(f" --data {name}={value}" for name, value in data.options.items())
    return f"Remove it and train another: stillmotion judge train {data.name}{options} -o {folder}{more}"


def few(splits: Splits, characters: Characters) -> Splits:
    """The clips of so many characters of each split, evenly spread: those that follow one another look alike."""
    return Splits(*(_people(part, count) for part, count in zip(splits, characters, strict=True)))


def _people(clips: ClipSet, count: int | None) -> ClipSet:
    if count is None:
        return clips
    seen = clips.labels[identity_of(clips)]
    who = torch.unique(seen)
    chosen = who[torch.linspace(0, len(who) - 1, min(count, len(who))).round().long()]
    return clips.subset(torch.isin(seen, chosen))


def identity_of(clips: ClipSet) -> str:
    """The factor that says who is seen."""
    return next(factor for factor in IDENTITIES if factor in clips.labels)
