"""Runs side by side as one self-contained HTML page, in the style of a run's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillmotion.report.template import fill


@dataclass(frozen=True)
class Sheet:
    """A table as texts.

    words: of its protocol. about: what its figures depend on. head: above the columns; kinds: of what they are ("figure", "unit",
    "run", "seeds", "published", "clips"). rows: as many texts each; a line break in one is kept. best: (row, column) of the cells to
    be marked. notes: what stands below.
    """

    title: str
    words: str
    about: tuple[str, ...]
    head: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


def page(sheets: Sequence[Sheet], command: str = "") -> str:
    """The page as text: no remote parts, no scripts. command: what made it, told at its end."""
    runs = list(dict.fromkeys(name for sheet in sheets for name, kind in zip(sheet.head, sheet.kinds, strict=True) if kind == "run"))
    names = [name.partition("\n")[0] for name in runs]
    return fill("comparison.html.j2", title="Runs side by side", names=names, sheets=sheets, command=command)
