"""Curves of a reproduction as numbers ready to draw: ours in colours, published ones in dashed grey behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillmotion.metrics.exhibits import Curves, Line
from stillmotion.report.curves import WIDE, Axis

WIDTH, LEFT, RIGHT = 760.0, 62.0, 748.0
TOP, BOTTOM, TITLES = 26.0, 316.0, 356.0
"""Of the plot, and where the title of the x axis stands."""
LEGEND, ROW, LETTER, SAMPLE = 386.0, 22.0, 7.1, 34.0
"""Where the legend begins, how far its rows are apart, how wide a letter is and how much room a sample of a line takes."""
COLOURS = 8
MOST_DOTS = 40
Shape = Literal["circle", "square", "diamond", "triangle"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "diamond", "triangle")
Places = list[tuple[float, float]]


@dataclass(frozen=True)
class Key:
    """How a line looks and is called. tone: its place in the palette, -1 for published ones. x, y: its place in the legend."""

    text: str
    tone: int
    shape: Shape
    published: bool
    x: float
    y: float


@dataclass(frozen=True)
class Drawn:
    """path, band: the `d` of SVG paths, the band empty where there is none. dots: `d` of a marker at each value; empty where many."""

    key: Key
    path: str
    band: str
    dots: str


@dataclass(frozen=True)
class Plot:
    """A drawing of WIDTH x height. ticks and marks: places and texts."""

    height: float
    alt: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]
    lines: list[Drawn]
    logarithmic: bool


def plot_of(curves: Curves) -> Plot:
    """Published lines come first, so that ours are drawn over them."""
    across, up = _across(curves), _upright(curves)
    keys = _keys(curves.lines)
    drawn = [_drawn(line, key, across, up) for line, key in zip(curves.lines, keys, strict=True)]
    return Plot(
        height=max(key.y for key in keys) + 16, alt=alt_of(curves), x_label=curves.x_label, y_label=curves.y_label,
        x_ticks=across.ticks(8), y_ticks=up.ticks(6), marks=[(round(across(mark.x), 1), mark.label) for mark in curves.marks],
        lines=sorted(drawn, key=lambda one: not one.key.published), logarithmic=up.logarithmic,
    )  # fmt: skip


def alt_of(curves: Curves) -> str:
    """The drawing in words, for those who cannot see it."""
    lines = (f"{label(line)} goes from {line.y[0]:.4g} at {line.x[0]:.4g} to {line.y[-1]:.4g} at {line.x[-1]:.4g}" for line in curves.lines)
    return f"{curves.title}: {curves.y_label} over {curves.x_label}. {'; '.join(lines)}."


def label(line: Line) -> str:
    """The name of a line; that of a published one says so."""
    return f"{line.label}, published" if line.published and "published" not in line.label else line.label


def marker(shape: Shape, x: float, y: float, size: float = 4.0) -> str:
    """The `d` of an SVG path around (x, y)."""
    half = size * 0.9
    if shape == "circle":
        return f"M{x - size:g} {y:g}a{size:g} {size:g} 0 1 0 {2 * size:g} 0a{size:g} {size:g} 0 1 0 {-2 * size:g} 0Z"
    if shape == "square":
        return f"M{x - half:g} {y - half:g}h{2 * half:g}v{2 * half:g}h{-2 * half:g}Z"
    if shape == "diamond":
        return f"M{x - 1.3 * size:g} {y:g}l{1.3 * size:g} {-1.3 * size:g}l{1.3 * size:g} {1.3 * size:g}l{-1.3 * size:g} {1.3 * size:g}Z"
    return f"M{x - 1.2 * size:g} {y + size:g}h{2.4 * size:g}l{-1.2 * size:g} {-2.1 * size:g}Z"


def _drawn(line: Line, key: Key, across: Axis, up: Axis) -> Drawn:
    places = _places(line.x, line.y, across, up)
    band = ""
    if line.low is not None and line.high is not None:
        ends = _places(line.x, line.low, across, up), _places(line.x, line.high, across, up)
        band = f"{_path([*ends[0], *reversed(ends[1])])}Z"
    dots = "".join(marker(key.shape, x, y, 3.4) for x, y in places) if len(places) <= MOST_DOTS else ""
    return Drawn(key, _path(places), band, dots)


def _places(x: tuple[float, ...], y: tuple[float, ...], across: Axis, up: Axis) -> Places:
    return [(round(across(a), 1), round(up(b), 1)) for a, b in zip(x, y, strict=True)]


def _path(places: Places) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def _across(curves: Curves) -> Axis:
    values = [x for line in curves.lines for x in line.x] + [mark.x for mark in curves.marks]
    low, high = min(values), max(values)
    room = (high - low) * 0.02 or abs(high) * 0.1 or 1.0
    return Axis(low - room, high + room, LEFT, RIGHT)


def _upright(curves: Curves) -> Axis:
    """Logarithmic for positive values of very different size; from zero on where that is not far below."""
    values = [value for line in curves.lines for part in (line.y, line.low, line.high) if part is not None for value in part]
    middle = [value for line in curves.lines for value in line.y]
    low, high = min(values), max(values)
    if low > 0 and max(middle) / min(middle) > WIDE:
        return Axis(low / 1.15, high * 1.15, BOTTOM, TOP, logarithmic=True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    start = 0.0 if 0 <= low < 0.4 * high else low - room
    return Axis(start, high + room, BOTTOM, TOP)


def _keys(lines: tuple[Line, ...]) -> list[Key]:
    """Ours take colours and shapes in turn; a published line has the shape of that of ours which has its name."""
    ours = [line.label for line in lines if not line.published]
    theirs = [line.label for line in lines if line.published and line.label not in ours]
    places = _legend([label(line) for line in lines])
    found = []
    for line, (x, y) in zip(lines, places, strict=True):
        number = ours.index(line.label) if line.label in ours else len(ours) + theirs.index(line.label)
        tone = -1 if line.published else number % COLOURS
        found.append(Key(label(line), tone, SHAPES[(number + number // COLOURS) % len(SHAPES)], line.published, x, y))
    return found


def _legend(texts: list[str]) -> Places:
    """Where each entry stands: in rows from left to right, as many in a row as fit."""
    wide = max(len(text) for text in texts) * LETTER + SAMPLE + 22
    columns = max(1, min(len(texts), int((RIGHT - LEFT) / wide)))
    return [(LEFT + (k % columns) * wide, LEGEND + (k // columns) * ROW) for k in range(len(texts))]
