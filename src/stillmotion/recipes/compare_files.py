"""Tables of runs as text: Markdown for people, CSV and JSON, with plain fractions, for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from stillmotion.core.errors import UserError
from stillmotion.metrics.protocols import shown, symbol, unit_of
from stillmotion.recipes.compare import Cell, Column, Table
from stillmotion.training.checkpoints import write_text

Writer = Callable[[Sequence[Table]], str]
STAR, DAGGER = "*", "†"
LEGEND = f"{STAR} best: its 95 % interval overlaps with none of the others"
CSV_COLUMNS = (
    "protocol", "data", "judge", "figure", "unit", "column", "kind", "detail", "value", "low", "high", "clips", "spread", "best",
)  # fmt: skip


def cell_text(name: str, cell: Cell | None) -> str:
    """The value with its interval or deviation, without the unit; empty where nothing was measured."""
    if cell is None:
        return ""
    if cell.spread is not None:
        text = f"{shown(name, cell.value)} ± {shown(name, cell.spread)}"
    elif cell.low is not None and cell.high is not None:
        text = f"{shown(name, cell.value)} ({shown(name, cell.low)} – {shown(name, cell.high)})"
    else:
        text = shown(name, cell.value, digits=2)
    return text + (STAR if cell.best else "")


def clips_text(cells: Sequence[Cell | None]) -> str:
    """How many clips were measured in each run, once where it is the same number in all."""
    counts = dict.fromkeys(f"{cell.clips:,}" for cell in cells if cell is not None and cell.clips is not None)
    return " / ".join(counts)


def header(table: Table, gap: str = " ") -> list[str]:
    """The texts above the columns; `gap` stands between the name of a column and what is told of it."""
    return ["figure", "unit", *(_head(column, gap) for column in table.columns), "clips"]


def lines(table: Table) -> list[list[str]]:
    """The texts of the rows, as many as `header` has."""
    return [[name, symbol(name), *(cell_text(name, cell) for cell in cells), clips_text(cells)] for name, cells in table.rows.items()]


def below(table: Table) -> list[str]:
    """What is said below the table: what the signs mean, and where published numbers are from."""
    marked = any(cell is not None and cell.best for cells in table.rows.values() for cell in cells)
    return [*([LEGEND] if marked else []), *(f"{DAGGER} {note}" for note in table.notes)]


def write_tables(tables: Sequence[Table], path: Path, more: Mapping[str, Writer] | None = None) -> Path:
    """Writes the tables in the form that the ending of the path names: .md, .csv, .json, or one of `more`.

    Raises UserError for other endings, and for a folder that is not there.
    """
    writers = {**WRITERS, **(more or {})}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise UserError(f"a file ending in {', '.join(writers)}", str(path), "Choose one of these endings.")
    if not path.parent.is_dir():
        raise UserError("a file in a folder that is there", str(path), f"Make the folder {path.parent} first.")
    write_text(path, write(tables))
    return path


def markdown(tables: Sequence[Table]) -> str:
    """One section with a table for each."""
    return "\n".join(_section(table) for table in tables)


def as_csv(tables: Sequence[Table]) -> str:
    """One line per value that was measured; the spread is that over seeds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for name, cells in table.rows.items():
            for column, cell in zip(table.columns, cells, strict=True):
                if cell is not None:
                    place = (table.protocol, table.heading, table.judge, name, unit_of(name), column.name, column.kind, column.detail)
                    writer.writerow([*place, cell.value, cell.low, cell.high, cell.clips, cell.spread, cell.best])
    return out.getvalue()


def as_json(tables: Sequence[Table]) -> str:
    return json.dumps([asdict(table) for table in tables], indent=1, ensure_ascii=False) + "\n"


def _section(table: Table) -> str:
    rows = [header(table), ["---", "---", *["---:"] * (len(table.columns) + 1)], *lines(table)]
    grid = ["| " + " | ".join(text.replace("|", "\\|").replace(STAR, "\\*") for text in row) + " |" for row in rows]
    about = [table.heading, *([table.judge] if table.judge else [])]
    parts = [f"## {table.title}", *about, "\n".join(grid), *(text.replace(STAR, "\\*") for text in below(table))]
    return "\n\n".join(parts) + "\n"


def _head(column: Column, gap: str) -> str:
    """Where a number was published is said below the table."""
    if column.kind == "published":
        return f"{column.name}{DAGGER}"
    return f"{column.name}{gap}({column.detail})" if column.detail else column.name


WRITERS: dict[str, Writer] = {".md": markdown, ".csv": as_csv, ".json": as_json}
