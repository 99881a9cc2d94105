"""Tables of a reproduction as texts: the numbers of a column have as many decimals as its largest one asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stillmotion.metrics.exhibits import Cell, Curves, Line, Table
from stillmotion.metrics.protocols import shown, symbol, unit_of
from stillmotion.metrics.results import Entry
from stillmotion.report.plots import label

DIGITS, MOST_DECIMALS = 5, 7
MOST_ROWS = 60
"""Curves of more places are not told as a table."""
GAP = "–"
Kind = Literal["text", "number", "published"]


@dataclass(frozen=True)
class Sheet:
    """A table as texts. kinds: of what each column is. rows: as many texts each."""

    head: tuple[str, ...]
    kinds: tuple[Kind, ...]
    rows: tuple[tuple[str, ...], ...]


def sheet_of(table: Table) -> Sheet:
    """A table, its gaps filled with dashes."""
    columns = [[row[place] for row in table.rows] for place in range(len(table.head))]
    kinds = tuple(_kind(head, column) for head, column in zip(table.head, columns, strict=True))
    return Sheet(table.head, kinds, tuple(zip(*map(texts, columns), strict=True)))


def values_of(curves: Curves) -> Sheet | None:
    """The values of curves, a row for each place and a column for each line; None where they are too many or go back and forth."""
    places = sorted({x for line in curves.lines for x in line.x})
    if len(places) > MOST_ROWS or any(len(set(line.x)) < len(line.x) for line in curves.lines):
        return None
    kinds: tuple[Kind, ...] = ("number", *("published" if line.published else "number" for line in curves.lines))
    columns = [texts(places), *(_column(line, places) for line in curves.lines)]
    return Sheet((curves.x_label, *map(label, curves.lines)), kinds, tuple(zip(*columns, strict=True)))


def figures_sheet(figures: Mapping[str, Entry]) -> Sheet | None:
    """The figures of results.json; None where there are none."""
    if not figures:
        return None
    theirs = any(figure.get("paper") is not None for figure in figures.values())
    rows = tuple(_figure(name, figure)[: 5 if theirs else 4] for name, figure in figures.items())
    head, kinds = ("figure", "value", "95 % interval", "clips", "published"), ("text", "number", "number", "number", "published")
    return Sheet(head[: len(rows[0])], kinds[: len(rows[0])], rows)  # type: ignore[arg-type]


def texts(column: Sequence[Cell]) -> list[str]:
    """The cells of a column. Whole numbers stay whole; others show five digits of the largest, less where the last are all zero."""
    numbers = [cell for cell in column if cell is not None and not isinstance(cell, str)]
    decimals = _decimals(numbers)
    return [GAP if cell is None else cell if isinstance(cell, str) else _number(cell, decimals) for cell in column]


def _decimals(numbers: Sequence[float]) -> int:
    """How many decimals the numbers need together."""
    largest = max((abs(number) for number in numbers), default=0.0)
    if not largest or all(float(number).is_integer() for number in numbers):
        return 0
    most = min(max(DIGITS - 1 - math.floor(math.log10(largest)), 0), MOST_DECIMALS)
    return max(len(f"{number:.{most}f}".partition(".")[2].rstrip("0")) for number in numbers)


def _number(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    vanished = value != 0 and not text.strip("-0.,")
    return (f"{value:.1e}" if vanished else text).replace("-", "−")


def _column(line: Line, places: Sequence[float]) -> list[str]:
    """The values of a line at the places, with their bands in brackets."""
    there = {x: k for k, x in enumerate(line.x)}
    parts = [part for part in (line.y, line.low, line.high) if part is not None]
    decimals = _decimals([value for part in parts for value in part])
    found = [[_number(part[there[x]], decimals) for part in parts] if x in there else [] for x in places]
    return [GAP if not one else one[0] if len(one) == 1 else f"{one[0]} ({one[1]} – {one[2]})" for one in found]


def _figure(name: str, figure: Entry) -> tuple[str, ...]:
    low, high = figure.get("low"), figure.get("high")
    interval = "" if low is None or high is None else f"{_value(name, low)} – {_value(name, high)}"
    value, unit, clips, paper = _value(name, figure["value"]), symbol(name), figure.get("clips"), figure.get("paper")
    counted = f"{clips:,}" if isinstance(clips, int) else ""
    return name, f"{value}\u202f{unit}" if unit else value, interval, counted, GAP if paper is None else _value(name, paper)


def _value(name: str, value: float) -> str:
    """In the unit of the figure; of one without, four digits."""
    return f"{value:.4g}".replace("-", "−") if unit_of(name) == "plain" else shown(name, value, digits=2)


def _kind(head: str, column: Sequence[Cell]) -> Kind:
    if "published" in head.lower():
        return "published"
    return "text" if all(isinstance(cell, str) for cell in column if cell is not None) else "number"
