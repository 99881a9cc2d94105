"""A reproduction as one self-contained page, and each of its exhibits as files of its own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmotion.data.write import draft
from stillmotion.metrics.exhibits import Cell, Curves, Exhibit, Page, Pictures, Table, read_page
from stillmotion.metrics.results import RESULTS, read_results
from stillmotion.report import plots
from stillmotion.report.grids import Grid, grid_of, moves, write_grid
from stillmotion.report.page import PAGE
from stillmotion.report.plots import Plot, plot_of
from stillmotion.report.sheets import Sheet, figures_sheet, sheet_of, values_of
from stillmotion.report.tables import judge_facts
from stillmotion.report.template import fill

FIGURES = "figures"


@dataclass(frozen=True)
class Part:
    """An exhibit as the page shows it; of plot, grid and sheet those that it has. The sheet of a plot holds its values."""

    name: str
    title: str
    note: str
    plot: Plot | None = None
    grid: Grid | None = None
    sheet: Sheet | None = None


def write_exhibits(folder: Path) -> Path:
    """Writes report.html into the folder of a reproduction and the exhibits below figures/; returns the path of the page.

    Tables become .csv, curves .svg and .csv, pictures .gif where they move and else .png; every file is written whole or not at all.
    Raises FileRefused for a folder without a finished reproduction, and for files in it that cannot be read.
    """
    page = read_page(folder)
    text = render(page, read_results(folder) if (folder / RESULTS).is_file() else {})
    for exhibit in page.exhibits:
        write_exhibit(exhibit, folder / FIGURES)
    with draft(folder / PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    return folder / PAGE


def render(page: Page, results: dict[str, Any]) -> str:
    """The page as text. results: what results.json holds, empty without one."""
    return fill(
        "exhibits.html.j2", title=page.title, summary=page.summary, parts=[_part(exhibit) for exhibit in page.exhibits], at=plots,
        facts=_facts(results), quick=bool(results.get("quick")), figures=figures_sheet(results.get("figures") or {}),
        judged=judge_facts(results.get("judge")), command=str(results.get("command") or ""),
    )  # fmt: skip


def write_exhibit(exhibit: Exhibit, folder: Path) -> list[Path]:
    """Writes an exhibit into a folder as files that bear its name."""
    path = folder / exhibit.name
    if isinstance(exhibit, Pictures):
        return [write_grid(exhibit, path.with_suffix(".gif" if moves(exhibit) else ".png"))]
    rows = _rows_of(exhibit) if isinstance(exhibit, Curves) else [exhibit.head, *exhibit.rows]
    with draft(path.with_suffix(".csv")) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    if isinstance(exhibit, Table):
        return [path.with_suffix(".csv")]
    with draft(path.with_suffix(".svg")) as partial:
        partial.write_text(fill("plot.svg.j2", p=plot_of(exhibit), at=plots, title=exhibit.title), encoding="utf-8")
    return [path.with_suffix(".csv"), path.with_suffix(".svg")]


def _part(exhibit: Exhibit) -> Part:
    if isinstance(exhibit, Table):
        return Part(exhibit.name, exhibit.title, exhibit.note, sheet=sheet_of(exhibit))
    if isinstance(exhibit, Curves):
        return Part(exhibit.name, exhibit.title, exhibit.note, plot=plot_of(exhibit), sheet=values_of(exhibit))
    return Part(exhibit.name, exhibit.title, exhibit.note, grid=grid_of(exhibit))


def _rows_of(curves: Curves) -> list[tuple[Cell, ...]]:
    """A row for each value, none rounded."""
    rows: list[tuple[Cell, ...]] = [("line", "published", curves.x_label, curves.y_label, "low", "high")]
    for line in curves.lines:
        gaps = (None,) * len(line.x)
        for x, y, low, high in zip(line.x, line.y, line.low or gaps, line.high or gaps, strict=True):
            rows.append((line.label, "yes" if line.published else "no", x, y, low, high))
    return rows


def _facts(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values for the line of facts under the title."""
    machine, minutes, seeds = results.get("machine") or {}, results.get("minutes"), results.get("seeds") or []
    cores = f"{machine['cores']} CPU cores" if machine.get("cores") else ""
    size = str(results.get("size") or "") + (", quick" if results.get("quick") else "")
    facts = [
        ("size", size), ("seeds", ", ".join(map(str, seeds))), ("minutes", f"{minutes:,.1f}" if isinstance(minutes, int | float) else ""),
        ("machine", ", ".join(filter(None, (str(machine.get("gpu") or ""), cores)))), ("commit", str(results.get("commit") or "")[:12]),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]
