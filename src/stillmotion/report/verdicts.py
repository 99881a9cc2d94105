"""What the judge saw: its verdicts on the clips of the swap grid and on the real clips around it, and where to write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.metrics.judge import Judges, check_judge, read_all
from stillmotion.report.animations import GAP
from stillmotion.report.folder import Finished

State = Literal["right", "wrong", "unknown"]
SIGNS: dict[State, str] = {"right": "✓", "wrong": "✗", "unknown": "?"}
LETTER, LINE_HEIGHT, FONT = 0.051, 0.105, 0.092
"""Of the width of a tile: how wide a letter is, how far lines are apart, and how large letters are."""
WIDTH = 1000.0


@dataclass(frozen=True)
class Mark:
    """One verdict. text: the class that the judge saw, with the factor where the class alone would say nothing."""

    text: str
    state: State

    def __str__(self) -> str:
        return f"{SIGNS[self.state]} {self.text}"


Marks = list[Mark]


@dataclass(frozen=True)
class Placed:
    """A mark on the drawing. x, y: the left end of its base line."""

    x: float
    y: float
    mark: Mark


@dataclass(frozen=True)
class Notes:
    """Marks on a drawing of WIDTH x height that lies over the picture. foot: how high the strip under each tile is, in its pixels."""

    height: float
    font: float
    foot: int
    placed: list[Placed]
    right: int
    counted: int
    width: float = WIDTH


class NoJudge(Exception):
    """Why the grid is shown without annotation, in a sentence."""


def judge_of(finished: Finished) -> Judges:
    """The judge that evaluated the run. Raises NoJudge where there was none, where it is gone or another one has taken its place."""
    from stillmotion.metrics.judge_files import load_judge

    told = (finished.results or {}).get("judge")
    if not told:
        raise NoJudge("No judge has seen this run: stillmotion evaluate asks one, and this grid then says what it saw.")
    folder = _there(str(told.get("folder") or ""), finished.folder)
    try:
        loaded = load_judge(folder)
    except (UserError, OSError) as error:
        raise NoJudge(f"The grid is shown without what the judge saw, as the judge could not be read: {error}") from error
    if told.get("sha256") and loaded.sha256 != told["sha256"]:
        raise NoJudge(f"The grid is shown without what the judge saw: {folder} now holds another judge than the one that was asked.")
    return loaded.judge


def annotate(judge: Judges, clips: ClipSet, grid: Tensor) -> Notes:
    """Notes on a grid of swaps (N, N, T, C, H, W), row = whose movement, column = whose identity, and on the N real clips themselves.

    Raises NoJudge where the judge tells other classes or reads other frames than these.
    """
    try:
        factors = check_judge(judge, clips)
        real, swapped = real_marks(judge, clips, factors), grid_marks(judge, clips, grid, factors)
    except UserError as error:
        raise NoJudge(f"The grid is shown without what the judge saw: {error}") from error
    return place(real, swapped, grid.shape[-1], grid.shape[-2])


def real_marks(judge: Judges, clips: ClipSet, factors: list[str]) -> list[Marks]:
    """The judge's verdicts on the real clips."""
    verdicts = read_all(judge, clips)
    tops = {factor: verdicts.top(factor) for factor in factors}
    return [_marks({f: int(top[k]) for f, top in tops.items()}, _truth(clips, k, k), judge.classes) for k in range(len(clips))]


def grid_marks(judge: Judges, clips: ClipSet, grid: Tensor, factors: list[str]) -> list[list[Marks]]:
    """Of each swap: right is a static factor of the column's clip, and a moving factor of the row's."""
    count, steps = len(clips), grid.shape[2]
    mask = clips.clips().mask[:, :steps]
    rows = (Clips(row, mask[k : k + 1].expand(count, -1).clone()) for k, row in enumerate(grid))
    verdicts = read_all(judge, rows)
    tops = {factor: verdicts.top(factor).view(count, count) for factor in factors}

    def cell(row: int, column: int) -> Marks:
        seen = {factor: int(top[row, column]) for factor, top in tops.items()}
        return _marks(seen, _truth(clips, column, row), judge.classes)

    return [[cell(row, column) for column in range(count)] for row in range(count)]


def place(real: list[Marks], swapped: list[list[Marks]], width: int, height: int) -> Notes:
    """Marks under each tile of a grid with real clips above and left of it; tiles are width x height pixels, without their strips."""
    most = max(len(marks) for row in [real, *swapped] for marks in row)
    foot = round(width * (LINE_HEIGHT * most + 0.06))
    count, step_x, step_y = len(real), width + GAP, height + foot + GAP
    left, top = width + 4 * GAP, height + foot + 4 * GAP
    cells = [(left + k * step_x, 0, marks) for k, marks in enumerate(real)] + [(0, top + k * step_y, marks) for k, marks in enumerate(real)]
    cells += [(left + c * step_x, top + r * step_y, marks) for r, row in enumerate(swapped) for c, marks in enumerate(row)]
    scale = WIDTH / (left + count * step_x - GAP)
    placed = [one for x, y, marks in cells for one in _placed(marks, x, y + height, width, scale)]
    verdicts = [mark for row in swapped for marks in row for mark in marks if mark.state != "unknown"]
    right = sum(mark.state == "right" for mark in verdicts)
    return Notes(round(scale * (top + count * step_y - GAP), 1), round(scale * width * FONT, 1), foot, placed, right, len(verdicts))


def _there(folder: str, run: Path) -> Path:
    """The folder as it was written down, or as seen from the run, which may have moved with its judge."""
    return next((path for path in (Path(folder), run / folder) if path.is_dir()), Path(folder))


def _truth(clips: ClipSet, identity: int, motion: int) -> dict[str, int]:
    return {factor: int(column[motion if factor in clips.moving else identity]) for factor, column in clips.labels.items()}


def _marks(seen: Mapping[str, int], truth: Mapping[str, int], classes: Mapping[str, tuple[str, ...]]) -> Marks:
    """One for each factor, but for those that join others: "walk left" says nothing that "walk" and "left" do not."""
    names = {factor: classes[factor][index] for factor, index in seen.items()}
    joined = {factor for factor, name in names.items() if _joins(factor, name, names)}
    found = []
    for factor, name in names.items():
        if factor in joined:
            continue
        state: State = "unknown" if truth[factor] < 0 else "right" if truth[factor] == seen[factor] else "wrong"
        plain = name if not name.isdigit() else f"{factor.replace('_', ' ')} {name}"
        found.append(Mark(plain, state))
    return found


def _joins(factor: str, name: str, names: Mapping[str, str]) -> bool:
    parts = factor.split("_")
    return len(parts) > 1 and all(part in names for part in parts) and name == " ".join(names[part] for part in parts)


def _placed(marks: Marks, x: float, y: float, width: int, scale: float) -> list[Placed]:
    """One mark on each line, so that the same factor is on the same height under all clips of a row; a long one is cut."""
    most = int(1 / LETTER) - 2
    short = [mark if len(mark.text) <= most else replace(mark, text=mark.text[: most - 1] + "…") for mark in marks]
    lines = [round(scale * (y + width * LINE_HEIGHT * number), 1) for number in range(1, len(marks) + 1)]
    return [Placed(round(scale * x, 1), line, mark) for line, mark in zip(lines, short, strict=True)]
