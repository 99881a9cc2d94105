"""Runs side by side, one table per protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from stillmotion.recipes.compare import Table


def compare(runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders with results.json, one or more.")],
            output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the tables to a file as well: .md, .csv or .json "
                                                        "(in the last two, shares are fractions).")] = None) -> None:  # fmt: skip
    """Show the figures of runs side by side: one table per protocol, and one per data set, split and judge.

    Published numbers stand beside them only where protocol and data are the same. Runs that differ in their seed alone get a column
    with mean and deviation too.
    """
    from stillmotion.recipes.compare import read_runs, tables
    from stillmotion.recipes.compare_files import write_tables

    measured = read_runs(runs)
    found = tables(measured)
    if output is not None:
        write_tables(found, output)
    show_tables(found)
    for run in measured:
        if not run.evaluated:
            typer.echo(f"{run.folder} was measured after training only: `stillmotion evaluate {run.folder}` measures more.", err=True)
    if output is not None:
        typer.echo(str(output))


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
    console.print(_rich(table, console.width))
    for note in below(table):
        console.print(note, style="dim", highlight=False, markup=False)


def _rich(table: Table, width: int) -> RichTable:
    """Where there is little room, intervals and deviations go below their values."""
    from rich.table import Table as RichTable
    from rich.text import Text

    from stillmotion.recipes.compare_files import STAR, header, lines

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(header(table, "\n")):
        shown.add_column(Text(head), justify="left" if place < 2 else "right", overflow="fold", no_wrap=place == 0)
    rows = [[text.replace(" – ", "–") for text in line] for line in lines(table)]
    narrow = sum(max(len(row[place]) for row in rows) + 2 for place in range(len(rows[0]))) > width
    for row in rows:
        texts = [text.replace(" (", "\n(").replace(" ± ", "\n± ") for text in row] if narrow else row
        shown.add_row(*(Text(text, style="green" if text.endswith(STAR) else "") for text in texts))
    return shown
