"""What a run says while it trains: metrics.jsonl, a bar or plain lines, TensorBoard where it is installed."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stillmotion.training.checkpoints import write_text
from stillmotion.training.runs import METRICS

LINES_EVERY = 15.0
"""Seconds between plain lines where there is no terminal to draw a bar on."""


class Journal:
    """Rows of one run. A silent journal (other ranks, tests) writes and shows nothing."""

    def __init__(self, folder: Path, total: int, *, silent: bool = False, show: bool = True) -> None:
        self.path, self.total, self.silent = folder / METRICS, total, silent
        self.show = show and not silent
        self._said = 0.0
        self._bar, self._task = None, None
        if self.show and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))
            self._bar = Progress(*columns, *times, console=Console(stderr=True))
            self._task = self._bar.add_task("training", total=total, figures="")
            self._bar.start()
        self._board = None if silent else _board(folder)

    def rewind(self, step: int) -> None:
        """Forgets the rows after `step`, which a resumed run writes again."""
        if self.silent or not self.path.is_file():
            return
        rows = [line for line in self.path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
        write_text(self.path, "".join(row + "\n" for row in rows))

    def write(self, row: dict[str, Any]) -> None:
        """One row of metrics.jsonl."""
        if self.silent:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in row["terms"].items():
                self._board.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def advance(self, step: int, stage: str, terms: dict[str, float]) -> None:
        """Shows where the run is."""
        if not self.show:
            return
        figures = " ".join(f"{name} {value:.1f}" for name, value in terms.items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, description=f"stage {stage}", figures=figures)
        elif time.monotonic() - self._said > LINES_EVERY or step == self.total:
            self._said = time.monotonic()
            self.say(f"step {step}/{self.total}  stage {stage}  {figures}")

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        elif self.show:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()


def _step_of(line: str) -> float:
    """The step of a row; a row torn by a crash belongs to no step that is kept."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _board(folder: Path) -> Any:
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
