"""Everything that can be measured of a finished run, written into its results.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stillmotion.core.errors import UserError
from stillmotion.data.base import Splits
from stillmotion.metrics.judge import REMEDY, check_judge
from stillmotion.metrics.judge_files import LoadedJudge, load_judge
from stillmotion.metrics.protocols import PROTOCOLS, READERS, needs_judge
from stillmotion.metrics.results import RESULTS, Entry, by_protocol, read_results
from stillmotion.models import files
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.extras import ON_DEMAND, PLAIN, Extras, extra_measures
from stillmotion.recipes.judge import complete, what
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.recipes.results import commit, entries, machine, write
from stillmotion.training.machine import choose_device, choose_precision, keep_freed_memory
from stillmotion.training.runs import RUN_FILE, load_data, read_run
from stillmotion.training.settings import Part, Run

ALWAYS = (READERS, "reconstruction")
"""Protocols whose figures are the same whoever judges and whatever is said to move."""


def evaluate(
    folder: Path,
    *,
    judge: Path | None,
    moving: tuple[str, ...] | None = None,
    only: tuple[str, ...] = (),
    seed: int = 0,
    command: str = "",
    extras: Extras = PLAIN,
    say: Callable[[str], object] = str,
) -> dict[str, Any]:
    """Takes every measure that the model's abilities and the data's labels allow; returns what results.json then holds.

    judge: its folder; without one, what needs a judge is skipped. moving: the factors that tell of movement, where the data set does
    not say. only: protocols, all by default. extras: what is measured on demand alone. say: is told the name of each measure as it
    begins. Figures that were there and are not measured again stay, unless another judge saw them or other factors moved. A measure
    that cannot be taken is told under "skipped", with the reason, and does not keep the others from being taken.
    Raises FileRefused for an unfinished run, UserError for a judge of other classes or frames, for protocols that do not exist, and
    where nothing can be measured.
    """
    started = time.monotonic()
    _check_protocols(only, extras)
    run = read_run(folder)
    bench, seen_by = _bench(folder, run, judge, moving, seed)
    told, on_demand = extra_measures(extras, run)
    measures = {**MEASURES, **on_demand}
    chosen = {name: measure for name, measure in measures.items() if not only or measure.protocol in only}
    found, skipped = _taken(chosen, bench, run, say)
    if not found:
        got = f"none under {' or '.join(only) or 'any protocol'}: {_reasons(skipped)}"
        raise UserError("a measure that can be taken of this run", got, _remedy(measures, bench))
    results = _before(folder, run)
    kept, read = _still_true(results, bench, seen_by), by_protocol(results).get(READERS, {})
    tables = (results["evaluation"] or {}).get("tables", {})
    results["figures"] = {**kept, **found, **_stamped(read, READERS)}  # where pixels tell the truth, no judge has the last word
    results["judge"] = _judge(judge, seen_by, run) if seen_by else results["judge"]
    results["evaluation"] = {
        "command": command,
        "commit": commit(),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "seed": seed,
        "machine": machine(),
        "precision": "bfloat16" if bench.low else "float32",
        "split": bench.split,
        "clips": len(bench.held),
        "moving": list(bench.moving), "extras": told,
        "data": what(run.data),
        "skipped": skipped,
        "tables": {**{name: table for name, table in tables.items() if f"{name}_accuracy" in kept}, **bench.tables},
    }  # fmt: skip
    write(folder, results)
    return results


def _taken(
    measures: dict[str, Measure], bench: Bench, run: Run, say: Callable[[str], object]
) -> tuple[dict[str, Entry], dict[str, str]]:
    """The figures of the measures, and why those that could not be taken were not."""
    found: dict[str, Entry] = {}
    skipped: dict[str, str] = {}
    for name, measure in measures.items():
        reason = measure.lacking(bench)
        if not reason:
            say(name)
            try:
                found |= entries(measure.take(bench), run, measure.protocol)
            except UserError as error:  # too few clips for this one, say: it is no reason to lose the others
                reason = str(error)
        if reason:
            skipped[name] = reason
    return found, skipped


def _still_true(before: dict[str, Any], bench: Bench, seen_by: LoadedJudge | None) -> dict[str, Entry]:
    """The figures from before that may stand beside new ones; each says its protocol."""
    moved = (before["evaluation"] or {}).get("moving", bench.data.train.moving)
    same_factors = set(moved) == set(bench.moving)
    same_judge = seen_by is None or (before["judge"] or {}).get("sha256") == seen_by.sha256
    kept: dict[str, Entry] = {}
    for protocol, figures in by_protocol(before).items():
        stamped = _stamped(figures, protocol)
        if protocol in ALWAYS:
            kept |= stamped
        elif same_factors:
            kept |= {name: figure for name, figure in stamped.items() if same_judge or not needs_judge(name)}
    return kept


def _stamped(figures: dict[str, Entry], protocol: str) -> dict[str, Entry]:
    return {name: {**figure, "protocol": protocol} for name, figure in figures.items()}


def _check_protocols(only: Iterable[str], extras: Extras) -> None:
    known = list(dict.fromkeys([*(measure.protocol for measure in MEASURES.values()), *ON_DEMAND]))
    for protocol in only:
        if protocol not in known:
            remedy = "Those figures are measured elsewhere." if protocol in PROTOCOLS else "Check the spelling."
            raise UserError(f"protocols among {', '.join(known)}", repr(protocol), remedy)
        if protocol in ON_DEMAND and not extras.asks_for(protocol):
            raise UserError(f"{ON_DEMAND[protocol]} beside the protocol {protocol}", "the protocol alone")


def _bench(folder: Path, run: Run, judge: Path | None, moving: tuple[str, ...] | None, seed: int) -> tuple[Bench, LoadedJudge | None]:
    keep_freed_memory()
    device = choose_device("auto")
    model = files.load(folder).model.to(device)
    data = load_data(run)
    if not len(data.test) and not len(data.validation):
        raise UserError("clips that were not trained on", f"none in the data of {folder}", "Train with --hold-out or --hold-out-tail.")
    seen_by = load_judge(judge) if judge is not None else None
    if seen_by is not None:
        seen_by.judge.to(device)
        check_judge(seen_by.judge, data.train)
        _check_frames(seen_by, data)
    low = choose_precision("auto", device) == "bfloat16"
    chosen = data.train.moving if moving is None else moving
    check_moving(chosen, data)
    return Bench(model, data, seen_by.judge if seen_by else None, chosen, seed, low), seen_by


def _check_frames(judge: LoadedJudge, data: Splits) -> None:
    mine, theirs = tuple(judge.judge.frame_shape), data.train.frame_shape
    if mine != theirs:
        raise UserError(f"a judge of frames of shape {theirs}, those of this run", f"one of frames of shape {mine}", REMEDY)


def check_moving(moving: Iterable[str], data: Splits) -> None:
    for factor in moving:
        if factor not in data.train.labels:
            labels = ", ".join(data.train.labels) or "none"
            raise UserError("factors of the data as those that move", f"{factor!r}", f"The labels of this data: {labels}.")


def _judge(folder: Path | None, loaded: LoadedJudge, run: Run) -> dict[str, Any]:
    """What is told of the judge beside every score. other_split: it was trained on another split, and may have seen the measured clips."""
    facts = {name: loaded.facts.get(name) for name in ("accuracy", "calibration", "data", "split", "clips", "seed", "minutes")}
    other = facts["data"] is None or complete(Part.model_validate(facts["data"])) != complete(run.data)
    return {"folder": str(folder), "sha256": loaded.sha256, **facts, "other_split": other}


def _before(folder: Path, run: Run) -> dict[str, Any]:
    """What results.json holds already; of a model without one, an empty frame."""
    if (folder / RESULTS).is_file():
        return {"evaluation": None, "judge": None, **read_results(folder)}
    begun = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    return {
        "recipe": run.recipe,
        "command": begun["command"],
        "commit": begun.get("commit"),
        "minutes": None,
        "machine": machine(),
        "seeds": [run.seed],
        "judge": None,
        "evaluation": None,
        "figures": {},
    }


def _reasons(skipped: dict[str, str]) -> str:
    return "; ".join(dict.fromkeys(skipped.values()))


def _remedy(measures: dict[str, Measure], bench: Bench) -> str:
    """Which protocols remain, or what would help."""
    remain = list(dict.fromkeys(measure.protocol for measure in measures.values() if not measure.lacking(bench)))
    return f"What remains: {', '.join(remain)}." if remain else "Give a judge, or name labels with --pattern when you train."
