"""Runs side by side: one table per protocol, and within it one per data set, split and judge. Nothing else may be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.metrics.protocols import OTHER, PROTOCOLS, READERS, better, needs_judge
from stillmotion.metrics.published import Row, data_of, published, sources
from stillmotion.metrics.results import RESULTS, by_protocol, read_results
from stillmotion.models import files
from stillmotion.recipes.judge import complete, what
from stillmotion.training.runs import RUN_FILE, read_run
from stillmotion.training.settings import Part

Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """A run with figures.

    name: short, unlike those of the other runs. series: alike for runs that differ in their seed alone. data: name and options.
    split: of the data, empty where it was not written down. figures: by protocol. evaluated: whether more was measured than after
    training.
    """

    name: str
    folder: Path
    recipe: str
    seeds: tuple[int, ...]
    series: str
    data: dict[str, Any]
    split: str
    judge: dict[str, Any] | None
    figures: dict[str, Figures]
    evaluated: bool


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
    """One protocol on one data set and split, by one judge.

    heading: data and split; judge: which, and how good it is, empty where none was needed. rows: figure -> a cell per column, None
    where it was not measured. notes: sources of published numbers.
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


def read_runs(folders: Sequence[Path]) -> list[Measured]:
    """The runs in the folders, each once.

    Raises FileRefused for a folder without results, UserError where a run has no figures and where no folder is given.
    """
    if not folders:
        raise UserError("at least one run folder", "none")
    once = list({folder.resolve(): folder for folder in folders}.values())
    return [_read(folder, name) for folder, name in zip(once, _short_names(once), strict=True)]


def tables(runs: Sequence[Measured]) -> list[Table]:
    """One table for each protocol and each data set, split and judge that figures were measured with, in the order of the protocols."""
    found = []
    for protocol in dict.fromkeys([*PROTOCOLS, *(name for run in runs for name in run.figures)]):
        groups: dict[tuple[str, str, str], list[Measured]] = {}
        for run in runs:
            if protocol in run.figures:
                groups.setdefault(_comparable(run, protocol), []).append(run)
        found += [_table(protocol, group) for group in groups.values()]
    return found


# Reading


def _read(folder: Path, name: str) -> Measured:
    results = _results(folder)
    if not results["figures"]:
        raise UserError("a run with figures", f"{folder}, whose {RESULTS} has none", f"Measure it with `stillmotion evaluate {folder}`.")
    evaluation = results.get("evaluation") or {}
    recipe, seeds = str(results.get("recipe", "")), tuple(results.get("seeds") or ())
    data, series = _described(folder, recipe)
    data = evaluation.get("data") or data
    return Measured(
        name, folder, recipe, seeds, series or json.dumps([recipe, data], sort_keys=True), data, str(evaluation.get("split", "")),
        results.get("judge"), by_protocol(results), bool(evaluation),
    )  # fmt: skip


def _results(folder: Path) -> dict[str, Any]:
    if (folder / RESULTS).is_file() or not (folder / files.INNER / files.CONFIG).is_file():
        return read_results(folder)
    remedy = f"Measure it with `stillmotion evaluate {folder}`."
    raise FileRefused(f"a run with {RESULTS}", f"{folder}, which was never evaluated", remedy)


def _described(folder: Path, recipe: str) -> tuple[dict[str, Any], str]:
    """The data of a run, and a text that is alike for all runs that differ in the seed alone, as far as its folder tells them."""
    if not (folder / RUN_FILE).is_file():
        return {"name": recipe.rsplit("/", 1)[-1], "options": {}}, ""
    run = read_run(folder)
    same = run.model_dump(mode="json", include={"recipe", "data", "model", "stages", "precision"})
    return what(run.data), json.dumps(same, sort_keys=True)


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path; more of it where several end alike."""
    paths = [folder.resolve() for folder in folders]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


# What may stand in one table


def _comparable(run: Measured, protocol: str) -> tuple[str, str, str]:
    """Data, split and judge, as far as they matter to this protocol. The names of reconstruction figures tell their split."""
    judge = (run.judge or {}).get("sha256", "") if _asked_judge(run, protocol) else ""
    split = "" if protocol == "reconstruction" else run.split
    return json.dumps(complete(Part.model_validate(run.data)), sort_keys=True), split, str(judge)


def _asked_judge(run: Measured, protocol: str) -> bool:
    return protocol != READERS and any(map(needs_judge, run.figures[protocol]))


def _table(protocol: str, runs: list[Measured]) -> Table:
    """Columns: the runs, those of one series together and followed by their mean, then what was published."""
    theirs = published(protocol, data_of(runs[0].data["name"], runs[0].data.get("options", {})))
    methods = _by_method(theirs)
    names = list(dict.fromkeys(name for run in runs for name in run.figures[protocol]))
    series = _series(runs)
    columns = [column for group in series for column in _columns(group, series)]
    columns += [Column(method, "published", str(rows[0].source)) for method, rows in methods.items()]
    rows = {name: (*_ours(name, series, protocol), *(_theirs(name, rows) for rows in methods.values())) for name in names}
    title = PROTOCOLS.get(protocol, PROTOCOLS[OTHER]).title
    about = _heading(runs[0], protocol), _judge_words(runs[0], protocol)
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


def _heading(run: Measured, protocol: str) -> str:
    options = what(Part.model_validate(run.data))["options"]
    told = ", ".join(f"{name} {value}" for name, value in options.items() if name != "version")
    split = f"{run.split} clips of " if run.split and protocol != "reconstruction" else ""
    return f"{split}{data_of(run.data['name'], options)}" + (f": {told}" if told else "")


def _judge_words(run: Measured, protocol: str) -> str:
    """Which judge, and how often it is right on clips that it never saw."""
    judge = run.judge
    if judge is None or not _asked_judge(run, protocol):
        return ""
    right = ", ".join(f"{factor} {100 * float(found['value']):.1f} %" for factor, found in (judge.get("accuracy") or {}).items())
    told = f"judge {str(judge.get('sha256') or 'without a hash')[:8]}"
    told += f", right on held-out real clips: {right}" if right else ", whose accuracy is not known"
    return told + ("; trained on another split, it may know clips that it judged" if judge.get("other_split") else "")
