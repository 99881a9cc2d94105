"""Runs side by side, one table per protocol."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from stillmotion.recipes.compare import Table
    from stillmotion.report.comparison import Sheet


def compare(runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders with results.json, one or more.")],
            output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the tables to a file as well: .html, .md, .csv or "
                                                        ".json (in the last two, shares are fractions).")] = None) -> None:  # fmt: skip
    """Show the figures of runs side by side: one table per protocol, data set, split and whatever else its figures depend on.

    Figures that a judge gave stand apart where judges differ, and those that tell moving factors from others where these differ.
    Published numbers stand beside ours only where protocol and data are the same. Runs that differ in their seed alone get a column
    with mean and deviation too.
    """
    from stillmotion.recipes.compare import tables
    from stillmotion.recipes.compare_files import write_tables
    from stillmotion.recipes.measured import read_runs

    measured = read_runs(runs)
    found = tables(measured)
    if output is not None:
        write_tables(found, output, {".html": _page})
    show_tables(found)
    for run in measured:
        if not run.evaluated:
            typer.echo(f"{run.folder} was measured after training only: `stillmotion evaluate {run.folder}` measures more.", err=True)
    if output is not None:
        typer.echo(str(output))


def _page(tables: Sequence[Table]) -> str:
    from stillmotion.report.comparison import page

    return page([_sheet(table) for table in tables], shlex.join(["stillmotion", *sys.argv[1:]]))


def _sheet(table: Table) -> Sheet:
    from stillmotion.metrics.protocols import OTHER, PROTOCOLS
    from stillmotion.recipes.compare_files import below, header, lines
    from stillmotion.report.comparison import Sheet

    rows = tuple(tuple(text.replace(" (", "\n(") for text in row) for row in lines(table))
    cells = enumerate(table.rows.values())
    return Sheet(
        title=table.title, words=PROTOCOLS.get(table.protocol, PROTOCOLS[OTHER]).words,
        about=tuple(text for text in (table.heading, table.judge) if text), head=tuple(header(table, "\n")),
        kinds=("figure", "unit", *(column.kind for column in table.columns), "clips"), rows=rows,
        best=frozenset((row, 2 + k) for row, several in cells for k, cell in enumerate(several) if cell is not None and cell.best),
        notes=tuple(below(table)),
    )  # fmt: skip


def show_tables(tables: list[Table]) -> None:
    """Prints tables one below the other."""
    from rich.console import Console

    console = Console()
    for table in tables:
        _show(console, table)


def _show(console: Console, table: Table) -> None:
    from stillmotion.recipes.compare_files import below

    console.print(f"\n[bold]{table.title}[/bold]", highlight=False)
    for text in (table.heading, table.judge):
        if text:
            console.print(text, style="dim", highlight=False, markup=False)
    for place, part in enumerate(_rich(table, console.width)):
        console.print(*([""] if place else []), part, sep="\n")
    for note in below(table):
        console.print(note, style="dim", highlight=False, markup=False)


def _rich(table: Table, width: int) -> list[RichTable]:
    """Where there is little room, intervals and deviations go below their values; where that is not enough, columns go below columns."""
    from stillmotion.recipes.compare_files import header, lines

    rows = [header(table, "\n"), *([text.replace(" – ", "–") for text in line] for line in lines(table))]
    if sum(_widths(rows)) > width:
        rows = [rows[0], *([text.replace(" (", "\n(").replace(" ± ", "\n± ") for text in row] for row in rows[1:])]
    return [_grid([[row[place] for place in part] for row in rows], width) for part in _parts(_widths(rows), width)]


def _parts(widths: list[int], width: int) -> list[list[int]]:
    """The columns, in as many parts as it takes; each begins with name and unit and has at least one of the others."""
    parts: list[list[int]] = [[0, 1]]
    for place in range(2, len(widths)):
        if len(parts[-1]) > 2 and sum(widths[column] for column in [*parts[-1], place]) > width:
            parts.append([0, 1])
        parts[-1].append(place)
    return parts


def _grid(rows: list[list[str]], width: int) -> RichTable:
    """The first row is the header. Names are folded where a single column beside them is too wide."""
    from rich.table import Table as RichTable
    from rich.text import Text

    from stillmotion.recipes.compare_files import STAR

    names_give_way = sum(_widths(rows)) > width
    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(rows[0]):
        justify: Literal["left", "right"] = "left" if place < 2 else "right"
        shown.add_column(Text(head), justify=justify, overflow="fold", no_wrap=(place == 0) != names_give_way)
    for row in rows[1:]:
        shown.add_row(*(Text(text, style="green" if text.endswith(STAR) else "") for text in row))
    return shown


def _widths(rows: list[list[str]]) -> list[int]:
    """Of the widest line of each column, and two spaces between columns."""
    return [max(len(line) for row in rows for line in row[place].splitlines() or [""]) + 2 for place in range(len(rows[0]))]
