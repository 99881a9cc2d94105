"""Loss curves with their schedules as numbers ready to draw: one panel per term, its weight beneath it on the same steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

WIDTH, LEFT, RIGHT = 360.0, 46.0, 352.0
TOP, BOTTOM = 18.0, 138.0
STRIP_TOP, STRIP_BOTTOM = 160.0, 190.0
HEIGHT = 208.0
MOST_POINTS = 600
WIDE = 30.0
"""Positive values that differ by more than this factor are drawn on a logarithmic axis."""


Places = list[tuple[float, float]]


class Series(NamedTuple):
    """Values at steps."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Curve:
    """A term in training and validation, as metrics.jsonl has it, and the schedule that weighs it (the learning rate for the total)."""

    name: str
    train: Series = field(default_factory=lambda: Series([], []))
    validation: Series = field(default_factory=lambda: Series([], []))
    weight: Series = field(default_factory=lambda: Series([], []))
    weight_name: str = ""


@dataclass(frozen=True)
class Axis:
    """From values to the drawing. clipped: values beyond the end are drawn at it."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    clipped: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(max(v, 1e-300)) for v in (self.low, self.high, value)) if self.logarithmic else (
            self.low, self.high, value)  # fmt: skip
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[tuple[float, str]]:
        """Places in the drawing and the texts of round values."""
        values = _decades(self.low, self.high) if self.logarithmic else _steps(self.low, self.high, count)
        return [(round(self(value), 1), number(value)) for value in values]


@dataclass(frozen=True)
class Panel:
    """A drawing of WIDTH x HEIGHT: train, validation and area are the `d` of SVG paths; ticks and stages are places and texts."""

    name: str
    caption: str
    train: str
    validation: str
    dots: Places
    y_ticks: list[tuple[float, str]]
    x_ticks: list[tuple[float, str]]
    stages: list[tuple[float, str]]
    weight_name: str
    area: str
    weight_top: str
    logarithmic: bool
    clipped: bool


def read_curves(rows: Sequence[dict[str, Any]]) -> list[Curve]:
    """The total first, then each term in the order in which it appears, then schedules that weigh no term."""
    terms = list(dict.fromkeys(name for row in rows for name in row["terms"]))
    weights = list(dict.fromkeys(name for row in rows for name in row.get("weights", {})))
    train = [row for row in rows if row["split"] == "train"]
    validation = [row for row in rows if row["split"] == "validation"]
    curves = []
    for name in sorted(terms, key=lambda term: term != "total"):
        pair = _series(train, "terms", name), _series(validation, "terms", name)
        weight = _rates(train) if name == "total" else _series(train, "weights", name)
        curves.append(Curve(name, *pair, weight, "learning rate" if name == "total" else "weight"))
    others = [name for name in weights if name not in terms]
    return curves + [Curve(name, weight=_series(train, "weights", name), weight_name="schedule") for name in others]


def panels(rows: Sequence[dict[str, Any]]) -> list[Panel]:
    """One panel per curve, all over the same steps. Empty where there are no rows."""
    if not rows:
        return []
    steps = [int(row["step"]) for row in rows]
    across = Axis(0, max(steps), LEFT, RIGHT)
    stages = _stages(rows, across)
    return [_panel(curve, across, stages) for curve in read_curves(rows)]


def number(value: float) -> str:
    """A short text: 0.0012, 3.4, 250, 1.2k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}".replace("-", "−")
    return (f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")).replace("-", "−")


def _series(rows: Iterable[dict[str, Any]], kind: str, name: str) -> Series:
    pairs = [(row["step"], row[kind][name]) for row in rows if name in row.get(kind, {}) and math.isfinite(row[kind][name])]
    return Series([step for step, _ in pairs], [value for _, value in pairs])


def _rates(rows: Iterable[dict[str, Any]]) -> Series:
    pairs = [(row["step"], row["lr"]) for row in rows if "lr" in row]
    return Series([step for step, _ in pairs], [value for _, value in pairs])


def _stages(rows: Sequence[dict[str, Any]], across: Axis) -> list[tuple[float, str]]:
    """Where each stage begins in the drawing, and its name."""
    ends: dict[str, int] = {}
    for row in rows:
        ends[row["stage"]] = max(ends.get(row["stage"], 0), int(row["step"]))
    starts = [0, *list(ends.values())[:-1]]
    return [(round(across(start), 1), name) for start, name in zip(starts, ends, strict=True)]


def _panel(curve: Curve, across: Axis, stages: list[tuple[float, str]]) -> Panel:
    shown = [*curve.train.values, *curve.validation.values]
    schedule_alone = not shown
    up = _axis(shown or curve.weight.values)
    borders = [x for x, _ in stages[1:]]
    drawn = curve.weight if schedule_alone else curve.train, curve.validation
    train, validation = (_places(_thin(series), across, up) for series in drawn)
    strip = curve.weight if not schedule_alone else Series([], [])
    return Panel(
        name=curve.name.replace("_", " "), caption=_caption(curve, schedule_alone), train=_path(train, borders),
        validation=_path(validation, borders), dots=validation if len(validation) <= 60 else [], y_ticks=up.ticks(), x_ticks=across.ticks(),
        stages=stages, weight_name=curve.weight_name if strip.steps else "", area=_area(strip, across, borders),
        weight_top=number(max(strip.values, default=0)), logarithmic=up.logarithmic, clipped=up.clipped,
    )


def _caption(curve: Curve, schedule_alone: bool) -> str:
    if schedule_alone:
        return "schedule"
    latest = curve.validation.values or curve.train.values
    return f"{number(latest[-1])} at the end"


def _axis(values: Sequence[float]) -> Axis:
    """An axis from bottom to top that shows the values well; a few that stand far above all others are cut off."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    if low > 0 and high / low > WIDE:
        return Axis(low / 1.15, high * 1.15, BOTTOM, TOP, logarithmic=True)
    usual = ordered[int(0.97 * (len(ordered) - 1))]
    clipped = len(ordered) > 20 and high - low > 2 * (usual - low) > 0
    high = usual if clipped else high
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Axis(low - room, high + room, BOTTOM, TOP, clipped=clipped)


def _thin(series: Series) -> Series:
    """At most about MOST_POINTS of the points, evenly, always with the last."""
    stride = math.ceil(len(series.steps) / MOST_POINTS)
    if stride <= 1:
        return series
    kept = sorted({*range(0, len(series.steps), stride), len(series.steps) - 1})
    return Series([series.steps[k] for k in kept], [series.values[k] for k in kept])


def _places(series: Series, across: Axis, up: Axis) -> Places:
    return [(round(across(step), 1), round(up(value), 1)) for step, value in zip(*series, strict=True)]


def _path(places: Places, borders: Sequence[float]) -> str:
    """Lines through the places, broken where a stage ends: another stage is another loss."""
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in part) for part in _split(places, borders))


def _area(series: Series, across: Axis, borders: Sequence[float]) -> str:
    """The strip beneath a panel: the schedule from zero up to its largest value."""
    up = Axis(0, max([*series.values, 1e-300]), STRIP_BOTTOM, STRIP_TOP)
    parts = _split(_places(_thin(series), across, up), borders)
    return "".join(f"M{part[0][0]:g} {STRIP_BOTTOM:g}L{_path(part, ())[1:]}L{part[-1][0]:g} {STRIP_BOTTOM:g}Z" for part in parts)


def _split(places: Places, borders: Sequence[float]) -> list[Places]:
    """The places of each stage; the last step of a stage lies on its border."""
    parts: list[Places] = [[] for _ in range(len(borders) + 1)]
    for place in places:
        parts[sum(place[0] > border for border in borders)].append(place)
    return [part for part in parts if part]


def _steps(low: float, high: float, count: int) -> list[float]:
    """Round values between low and high, about `count` of them, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / count
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.8 * rough)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between low and high; with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
    values = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
    return values[:: math.ceil(len(values) / 8) or 1]
