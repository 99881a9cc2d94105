"""What reproductions share: trained runs by name, and the data they were trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillmotion.core.abilities import Model
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.exhibits import Table
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.metrics.protocols import unit_of
from stillmotion.metrics.results import read_results
from stillmotion.models import files
from stillmotion.recipes.override import override
from stillmotion.recipes.reproduce import Plan, train_once
from stillmotion.training.runs import RUN_FILE, branch, load_data
from stillmotion.training.settings import Run

PIECE = 1024
"""Frames that are hashed at once."""


@dataclass
class Lab:
    """A folder and a plan. few: options of the data in a quick reproduction. trained: the runs so far, name -> run folder."""

    folder: Path
    plan: Plan
    few: Mapping[str, Any] = field(default_factory=dict)
    trained: dict[str, Path] = field(default_factory=dict)
    _data: dict[str, Splits] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """Of the runs."""
        return "quick" if self.plan.quick else self.plan.size

    def train(self, name: str, run: Run, begun: Path | None = None) -> Path:
        """The folder of the finished run, trained where it is not there yet.

        begun: the folder of a finished run whose stages are the first ones of this one; it is not trained over again.
        """
        folder = self.folder / "runs" / name
        if begun is not None and not (folder / RUN_FILE).exists():
            branch(begun, folder)
        self.trained[name] = train_once(self._held(run), folder, self.plan)
        return self.trained[name]

    def data(self, run: Run) -> Splits:
        """The data of a run, as it is trained here."""
        part = self._held(run).data
        key = repr(part)
        if key not in self._data:
            self._data[key] = load_data(self._held(run), show=False)
        return self._data[key]

    def _held(self, run: Run) -> Run:
        return override(run, {"data": dict(self.few)}) if self.plan.quick else run

    def runs_table(self, name: str) -> Table:
        """What was trained, and how long it took."""
        rows = tuple((run, round(float(read_results(folder)["minutes"]), 2)) for run, folder in self.trained.items())
        note = "Minutes of training alone, on the machine that results.json tells of."
        return Table(name, "What was trained", ("run", "minutes"), rows, note)


def fingerprint(clips: ClipSet, *masks: Tensor) -> str:
    """A hash of what is measured: all frames of the clips, where each clip lies in them, and masks."""
    digest = sha256()
    for part in (clips.frames, clips.starts, clips.lengths, *masks):
        for piece in torch.split(part, PIECE):  # a store may fill a third of the memory
            digest.update(piece.contiguous().cpu().numpy().data)
    return digest.hexdigest()[:16]


def load(folder: Path) -> Model:
    """The trained model of a run folder, on the CPU."""
    return files.load(folder).model


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
