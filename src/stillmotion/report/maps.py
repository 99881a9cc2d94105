"""Two-dimensional maps of codes: where each clip lies, coloured by what is known of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.data.base import ClipSet

SIDE, MARGIN = 240.0, 12.0
MOST_CLASSES, MOST_FACTORS = 12, 4
COLOURS = 8
# A class that is called by a colour is drawn in it: "red" in blue would be hard to read.
NAMED = {
    "red": "#dc3a36", "yellow": "#d9a400", "green": "#3f9f3c", "turquoise": "#16a7a0", "cyan": "#16a7c4", "blue": "#2b66d9",
    "violet": "#8347d3", "purple": "#8347d3", "pink": "#e0449c", "magenta": "#d438b4", "orange": "#e67a1e", "brown": "#8d5a34",
}  # fmt: skip


class Projection(NamedTuple):
    """points: (N, 2). share: of the variance of the codes that each axis shows."""

    points: Tensor
    share: tuple[float, float]


@dataclass(frozen=True)
class Group:
    """How one class is drawn. tone: its place in the page's palette, -1 for the rest. square: as squares. colour: that of its name."""

    name: str
    tone: int
    square: bool = False
    colour: str = ""


@dataclass(frozen=True)
class CodeMap:
    """One code in one colouring: every clip as (x, y, its group), on a drawing of SIDE x SIDE.

    The clips are drawn in their own order, not group by group: else the last group would hide the others.
    """

    code: str
    share: tuple[float, float]
    groups: list[Group]
    dots: list[tuple[float, float, Group]]


def project(codes: Tensor) -> Projection:
    """The first two principal components of codes (N, D); signs are such that the largest weight of each axis is positive."""
    centred = codes.double() - codes.double().mean(0)
    _, scale, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
    points = torch.zeros(len(codes), 2, dtype=torch.float64)
    points[:, : len(axes)] = centred @ axes.mT
    variance = scale.square() / scale.square().sum().clamp_min(1e-30)
    shares = [*variance[:2].tolist(), 0.0, 0.0]
    return Projection(points, (shares[0], shares[1]))


def maps_of(codes: dict[str, Tensor], clips: ClipSet) -> dict[str, list[CodeMap]]:
    """Factor -> one map of each code. Without labels the clips are coloured by the file that they come from."""
    projected = {name: project(code) for name, code in codes.items()}
    placed = {name: _place(projection.points) for name, projection in projected.items()}
    return {
        factor: [_map(name, projected[name].share, placed[name], column, names) for name in codes]
        for factor, (column, names) in _colourings(clips).items()
    }


def _colourings(clips: ClipSet) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
    """Label columns worth colouring by, those with few classes first."""
    known = {name: column for name, column in clips.labels.items() if len(torch.unique(column[column >= 0])) > 1}
    if known:
        best = sorted(known, key=lambda name: len(torch.unique(known[name])) > MOST_CLASSES)[:MOST_FACTORS]
        return {name: (known[name], tuple(clips.classes.get(name, ()))) for name in best}
    if clips.source is not None and clips.sources:
        return {"source clip": (clips.source, clips.sources)}
    return {"": (torch.zeros(len(clips), dtype=torch.long), ("clips",))}


def _place(points: Tensor) -> Tensor:
    """The points moved and scaled, alike on both axes, into the drawing."""
    low, high = points.min(0).values, points.max(0).values
    widest = (high - low).max().clamp_min(1e-12)
    drawn = (points - (low + high) / 2) / widest * (SIDE - 2 * MARGIN)
    return torch.stack([SIDE / 2 + drawn[:, 0], SIDE / 2 - drawn[:, 1]], 1)


def _map(code: str, share: tuple[float, float], points: Tensor, column: Tensor, names: tuple[str, ...]) -> CodeMap:
    """The commonest classes get a group each, all others (and clips without a label) one together."""
    counted = Counter(column[column >= 0].tolist())
    shown = sorted(value for value, _ in counted.most_common(MOST_CLASSES))
    groups = {value: _group(_name(value, names), place) for place, value in enumerate(shown)}
    rest = Group("all others", -1)
    of_clip = [groups.get(value, rest) for value in column.tolist()]
    dots = [(round(x, 1), round(y, 1), group) for (x, y), group in zip(points.tolist(), of_clip, strict=True)]
    return CodeMap(code, share, [*groups.values(), *([rest] if rest in of_clip else [])], dots)


def _group(name: str, place: int) -> Group:
    return Group(name, place % COLOURS, place >= COLOURS, NAMED.get(name.lower(), ""))


def _name(value: int, names: tuple[str, ...]) -> str:
    return names[value] if value < len(names) else str(value)
