"""Cells of the tables of a reproduction: figures as texts, and gaps where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillmotion.metrics.exhibits import Cell
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.protocols import shown


def told(figures: Figures, name: str) -> str | None:
    """A figure with its interval: `99.20 (98.70 to 99.60)`, shares in per cent; None where it was not measured."""
    if name not in figures:
        return None
    value, low, high = (shown(name, number, digits=2) for number in (figures[name].value, figures[name].low, figures[name].high))
    return f"{value} ({low} to {high})"


def value_of(figures: Figures, name: str) -> str | None:
    """A figure without its interval."""
    return number(name, figures[name].value if name in figures else None)


def number(name: str, value: float | None) -> str | None:
    """A value as figures of this name are shown."""
    return None if value is None else shown(name, value, digits=2)


def printed(values: Mapping[str, float], name: str) -> str | None:
    """A published value."""
    return number(name, values.get(name))


def leaks(figures: Figures, factor: str, own: str, codes: Sequence[str]) -> list[Cell]:
    """What probes read of a factor off each code, means and then samples, linear / network, in per cent.

    own: whether the factor is of the `static` code, or of the others (`dynamic`). Then what the judge still sees of it with that code
    drawn anew, and chance.
    """
    cells: list[Cell] = []
    for code in codes:
        name = f"probe_{code}_{factor}" if (code == "static") == (own == "static") else f"leak_{code}_to_{factor}"
        for way in ("mean", "sample"):
            both = [figures.get(f"{name}_{way}{kind}") for kind in ("", "_mlp")]
            cells.append(None if None in both else " / ".join(f"{100 * figure.value:.1f}" for figure in both if figure is not None))
    return [*cells, *(value_of(figures, name) for name in (f"resampled_{own}_{factor}", f"chance_{factor}"))]
