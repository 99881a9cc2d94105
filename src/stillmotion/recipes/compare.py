"""Runs side by side: one table per protocol, and within it one per whatever its figures depend on. Nothing else may be compared.

All depend on data and split; some on the judge, on which factors were said to move, or on the weights of a foreign network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from stillmotion.metrics.protocols import OTHER, PROTOCOLS, READERS, better, needs_judge, needs_moving
from stillmotion.metrics.published import Row, data_of, published, sources
from stillmotion.recipes.judge import complete, what
from stillmotion.recipes.measured import KINETICS, Measured, read_runs
from stillmotion.training.settings import Part


@dataclass(frozen=True)
class Cell:
    """value: a share as a fraction. low, high: the 95 % interval, where there is one. spread: standard deviation over seeds."""

    value: float
    low: float | None = None
    high: float | None = None
    clips: int | None = None
    spread: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Column:
    """detail: the seed of a run, how many seeds were averaged, or where a number was published."""

    name: str
    kind: Literal["run", "seeds", "published"]
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """Figures of one protocol that were measured alike.

    heading: data, split and what else its figures depend on; judge: which, and how good it is, empty where none was needed. rows:
    figure -> a cell per column, None where it was not measured. notes: sources of published numbers.
    """

    protocol: str
    title: str
    heading: str
    judge: str
    columns: tuple[Column, ...]
    rows: dict[str, tuple[Cell | None, ...]]
    notes: tuple[str, ...] = field(default=())


def compare(folders: Sequence[Path]) -> list[Table]:
    """The figures of runs side by side. Raises FileRefused and UserError as `read_runs` does."""
    return tables(read_runs(folders))


def tables(runs: Sequence[Measured]) -> list[Table]:
    """The tables of every protocol, in the order of the protocols: one for all runs whose figures depend on the same things."""
    found = []
    for protocol in dict.fromkeys([*PROTOCOLS, *(name for run in runs for name in run.figures)]):
        measured = [run for run in runs if protocol in run.figures]
        for (places, split), names in _alike(protocol, measured).items():
            found.append(_table(protocol, [measured[place] for place in places], split, names))
    return found


# What may stand in one table


def _alike(protocol: str, runs: Sequence[Measured]) -> dict[tuple[tuple[int, ...], str], list[str]]:
    """Places of runs that may stand in one table, the split where it matters, and the figures that may stand there.

    Figures that part the runs alike share a table: where all runs were seen by one judge, those that need none stand beside those
    that do.
    """
    facts = [_facts(run) for run in runs]
    found: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.figures[protocol]):
        matters = _matters(name, protocol)
        groups: dict[tuple[str, ...], list[int]] = {}
        for place, run in enumerate(runs):
            known = facts[place] | {"split": _split(run, protocol, name)}
            groups.setdefault(tuple(known[fact] for fact in matters), []).append(place)
        for places in groups.values():
            first = next((runs[place] for place in places if name in runs[place].figures[protocol]), None)
            if first is not None:
                found.setdefault((tuple(places), _split(first, protocol, name) if "split" in matters else ""), []).append(name)
    return found


def _split(run: Measured, protocol: str, name: str) -> str:
    """That of the evaluation, unless the figure names its own."""
    return str(run.figures[protocol].get(name, {}).get("split") or run.split)


def _facts(run: Measured) -> dict[str, str]:
    """What figures may depend on. Weights that nobody wrote down are like no others."""
    return {
        "data": json.dumps(complete(Part.model_validate(run.data)), sort_keys=True),
        "clips": run.clips,
        "judge": str((run.judge or {}).get("sha256", "")),
        "moving": json.dumps(run.moving),
        "weights": run.weights or f"unknown, of {run.name}",
    }


def _matters(name: str, protocol: str) -> tuple[str, ...]:
    """The facts that a figure depends on. The names of reconstruction figures tell their split."""
    if protocol == READERS:
        return "data", "clips", "split"
    asked = {"split": protocol != "reconstruction", "judge": needs_judge(name), "moving": needs_moving(name)}
    return ("data", "clips", *(fact for fact, matters in {**asked, "weights": protocol == KINETICS}.items() if matters))


def _table(protocol: str, alike: Sequence[Measured], split: str, names: list[str]) -> Table:
    """Columns: the runs, those of one series together and followed by their mean, then what was published."""
    runs = [run for run in alike if run.figures[protocol].keys() & set(names)]
    theirs = published(protocol, data_of(runs[0].data["name"], runs[0].data.get("options", {})))
    theirs = [row for row in theirs if row.figures.keys() & set(names)]
    methods = _by_method(theirs)
    series = _series(runs)
    columns = [column for group in series for column in _columns(group, series)]
    columns += [Column(method, "published", str(rows[0].source)) for method, rows in methods.items()]
    rows = {name: (*_ours(name, series, protocol), *(_theirs(name, rows) for rows in methods.values())) for name in names}
    title = PROTOCOLS.get(protocol, PROTOCOLS[OTHER]).title
    matters = {fact for name in names for fact in _matters(name, protocol)}
    about = _heading(runs[0], split, matters), _judge_words(runs[0]) if "judge" in matters else ""
    return Table(protocol, title, *about, tuple(columns), rows, tuple(sources(theirs)))


def _series(runs: Sequence[Measured]) -> list[list[Measured]]:
    """Runs that differ in their seed alone, together; a seed that is there twice stands alone."""
    found: dict[object, list[Measured]] = {}
    for run in runs:
        seen = [seed for other in found.get(run.series, ()) for seed in other.seeds]
        alone = len(run.seeds) != 1 or run.seeds[0] in seen
        found.setdefault((run.series, str(run.folder)) if alone else run.series, []).append(run)
    return list(found.values())


def _columns(group: list[Measured], series: list[list[Measured]]) -> list[Column]:
    columns = [Column(run.name, "run", f"seed {', '.join(map(str, run.seeds))}" if run.seeds else "") for run in group]
    if len(group) < 2:
        return columns
    alike = [other for other in series if len(other) > 1 and other[0].recipe == group[0].recipe]
    number = f" ({1 + alike.index(group)})" if len(alike) > 1 else ""
    return [*columns, Column(f"{group[0].recipe}{number}", "seeds", f"mean ± sd of {len(group)} seeds")]


def _ours(name: str, series: list[list[Measured]], protocol: str) -> list[Cell | None]:
    """The cells of all runs; the best series is marked at its mean where it has one."""
    cells = [[_cell(run.figures[protocol].get(name)) for run in group] for group in series]
    first = _best(cells, _way(name, series, protocol))
    found: list[Cell | None] = []
    for place, group in enumerate(cells):
        shown = [*group, *([_mean([cell for cell in group if cell])] if len(group) > 1 else [])]
        last = shown[-1]
        found += [*shown[:-1], replace(last, best=True) if last is not None and place == first else last]
    return found


def _way(name: str, series: list[list[Measured]], protocol: str) -> str:
    """Whether more is better. In figures that name no protocol, probes of a code for its own and for foreign factors have one name."""
    entries = [run.figures[protocol].get(name, {"protocol": ""}) for group in series for run in group]
    unclear = name.startswith("probe_") and not all("protocol" in entry for entry in entries)
    return "" if unclear else better(name)


def _best(series: list[list[Cell | None]], way: str) -> int | None:
    """The place of the series whose intervals all lie on the better side of those of all others, None where there is none."""
    known = {place: [cell for cell in group if cell is not None] for place, group in enumerate(series)}
    known = {place: cells for place, cells in known.items() if cells}
    if not way or len(known) < 2 or any(cell.low is None or cell.high is None for cells in known.values() for cell in cells):
        return None
    sign = 1 if way == "higher" else -1
    ends = {place: [sorted((sign * (cell.low or 0), sign * (cell.high or 0))) for cell in cells] for place, cells in known.items()}
    for place, mine in ends.items():
        others = [end[1] for other, theirs in ends.items() if other != place for end in theirs]
        if min(end[0] for end in mine) > max(others):
            return place
    return None


def _cell(figure: dict[str, Any] | None) -> Cell | None:
    return None if figure is None else Cell(*(figure.get(key) for key in ("value", "low", "high", "clips")))  # type: ignore[arg-type]


def _mean(cells: list[Cell]) -> Cell | None:
    """Over seeds; None for fewer than two."""
    if len(cells) < 2:
        return None
    values = [cell.value for cell in cells]
    return Cell(fmean(values), spread=stdev(values))


def _by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.method, []).append(row)
    return found


def _theirs(name: str, rows: list[Row]) -> Cell | None:
    return next((Cell(row.figures[name]) for row in rows if name in row.figures), None)


# Words


def _heading(run: Measured, split: str, matters: set[str]) -> str:
    """The facts that matter, but for the judge."""
    options = what(Part.model_validate(run.data))["options"]
    told = ", ".join(f"{name} {value}" for name, value in options.items() if name != "version")
    words = [f"{f'{split} clips of ' if split else ''}{data_of(run.data['name'], options)}" + (f": {told}" if told else "")]
    words += [f"clips {run.clips[:8]}"] if run.clips else []
    if "moving" in matters and run.moving is not None:
        words.append(f"said to move: {', '.join(run.moving) or 'nothing'}")
    if "weights" in matters:
        words.append(f"Kinetics weights {run.weights[:8] or 'unknown'}")
    return "; ".join(words)


def _judge_words(run: Measured) -> str:
    """Which judge, and how often it is right on clips that it never saw."""
    judge = run.judge
    if judge is None:
        return ""
    right = ", ".join(f"{factor} {100 * float(found['value']):.1f} %" for factor, found in (judge.get("accuracy") or {}).items())
    told = f"judge {str(judge.get('sha256') or 'without a hash')[:8]}"
    told += f", right on held-out real clips: {right}" if right else ", whose accuracy is not known"
    return told + ("; trained on another split, it may know clips that it judged" if judge.get("other_split") else "")
