"""Reads a finished run from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillmotion.core.abilities import Model
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.results import RESULTS, read_object, read_results
from stillmotion.models import files
from stillmotion.training.runs import METRICS, RUN_FILE, load_data, read_run
from stillmotion.training.settings import Run

Row = dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """A finished run.

    command: how it was started. results: what results.json holds, None where there is none. rows: those of metrics.jsonl.
    steps: frames in a clip. data: None where the clips are no longer there; data_trouble then says why.
    """

    folder: Path
    run: Run
    command: str
    model: Model
    steps: int
    results: dict[str, Any] | None
    rows: list[Row]
    data: Splits | None
    data_trouble: str = ""

    @property
    def shown(self) -> tuple[str, ClipSet | None]:
        """The clips to show and the name of their split: test, else validation, else those trained on."""
        for name in ("test", "validation", "train"):
            clips: ClipSet | None = getattr(self.data, name, None)
            if clips is not None and len(clips):
                return name, clips
        return "", None


def open_run(folder: Path) -> Finished:
    """The run in a folder. Raises FileRefused for a folder of something else, an unfinished run and files that cannot be read."""
    run = read_run(folder)
    loaded = files.load(folder)
    data, trouble = _data(run)
    command = str(read_object(folder / RUN_FILE).get("command", ""))
    results = read_results(folder) if (folder / RESULTS).exists() else None
    steps = loaded.facts.get("steps") or (data.train.steps if data else 16)
    return Finished(folder, run, command, loaded.model, steps, results, _rows(folder / METRICS), data, trouble)


def _rows(path: Path) -> list[Row]:
    """The rows that are whole: a crash may have torn one."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"step", "stage", "split", "terms"} <= row.keys():
            rows.append(row)
    return rows


def _data(run: Run) -> tuple[Splits | None, str]:
    """The clips; a run outlives them, and its report is then written without pictures."""
    try:
        return load_data(run, show=False), ""
    except (UserError, OSError) as error:
        return None, str(error)


def spread(clips: ClipSet, count: int) -> ClipSet:
    """At most `count` clips that differ as much as they can: in labels and in source, the first factor before all, whole ones first."""
    columns = [*clips.labels.values()] + ([clips.source] if clips.source is not None else [])
    short = (clips.lengths < clips.steps).double() * 1000
    cost = short + torch.arange(len(clips)) * 1e-9
    chosen: list[int] = []
    for _ in range(min(count, len(clips))):
        best = int(cost.argmin())
        chosen.append(best)
        cost[best] = torch.inf
        for place, column in enumerate(columns):
            cost += (column == column[best]).double() * (2.0 if place == 0 else 1.0)
    return clips.subset(torch.tensor(sorted(chosen, key=lambda index: _order(clips, index)), dtype=torch.long))


def _order(clips: ClipSet, index: int) -> tuple[int, ...]:
    return (*(int(column[index]) for column in clips.labels.values()), index)
