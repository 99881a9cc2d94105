"""Everything that can be measured of a finished run, written into its results.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillmotion.core.errors import UserError
from stillmotion.data.base import Splits
from stillmotion.metrics.judge import REMEDY, check_judge
from stillmotion.metrics.judge_files import LoadedJudge, load_judge
from stillmotion.metrics.protocols import PROTOCOLS, READERS
from stillmotion.metrics.results import RESULTS, Entry, read_results
from stillmotion.models import files
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.extras import ON_DEMAND, PLAIN, Extras, extra_measures
from stillmotion.recipes.held_out import clips_sha256
from stillmotion.recipes.judge import complete, placeless, what
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.recipes.record import Circumstances, left_out, records, still_true, tables_of
from stillmotion.recipes.results import commit, entries, machine, warn_of_other_clips, write
from stillmotion.training.machine import choose_device, choose_precision, keep_freed_memory
from stillmotion.training.runs import RUN_FILE, load_data, read_run
from stillmotion.training.settings import Part, Run


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

    judge: its folder; without one, what needs a judge is skipped. moving: the factors that tell of movement; by default those of the
    last evaluation, else those that the data set names. only: protocols, all by default. extras: what is measured on demand alone.
    say: is told the name of each measure as it begins, and what stands no longer. Figures that were there and are not measured again
    stay, unless another judge saw them, other factors moved or the clips are others. A measure that cannot be taken is told under
    "skipped", with the reason, and keeps no other from being taken. The file is written after each protocol.
    Raises FileRefused for an unfinished run and a damaged results.json, UserError for a judge of other classes or frames, for
    protocols that do not exist, and where nothing can be measured. Warns where the held-out clips are not those of the training.
    """
    check_protocols(only, extras)
    run = read_run(folder)
    before = _before(folder, run)
    bench, seen_by = _bench(folder, run, judge, _moving(moving, before), seed)
    if moving is None and bench.moving != bench.data.train.moving:
        say(f"what moves is what moved in the last evaluation: {', '.join(bench.moving)} (--moving names others)")
    told, on_demand = extra_measures(extras, run)
    measures = {**MEASURES, **on_demand}
    chosen = {name: measure for name, measure in measures.items() if not only or measure.protocol in only}
    clips = clips_sha256(bench.data)
    warn_of_other_clips(folder, before["clips_sha256"], clips)
    precision = "bfloat16" if bench.low else "float32"
    about = {"command": command, "commit": commit(), "seed": seed, "machine": machine(), "precision": precision, "extras": told}
    seen = told_of_judge(judge, seen_by, run.data, clips) if seen_by else before["judge"]
    now = Circumstances(bench.moving, bench.data.train.moving, seen_by.sha256 if seen_by else None, clips)
    this = _Evaluation(folder, run, bench, before, now, about, seen)
    for protocol in dict.fromkeys(measure.protocol for measure in chosen.values()):
        this.measure(protocol, {name: measure for name, measure in chosen.items() if measure.protocol == protocol}, say)
    if not this.found:
        got = f"none under {' or '.join(only) or 'any protocol'}: {_reasons(this.skipped)}"
        raise UserError("a measure that can be taken of this run", got, _remedy(measures, bench))
    for reason, names in this.written["evaluation"]["dropped"].items():
        say(f"no longer there, as {reason}: {', '.join(names)}")
    return this.written


@dataclass
class _Evaluation:
    """An evaluation as it goes on. before: what results.json held. about: what is told of each protocol. judge: what is told of it."""

    folder: Path
    run: Run
    bench: Bench
    before: dict[str, Any]
    now: Circumstances
    about: dict[str, Any]
    judge: dict[str, Any] | None
    started: float = field(default_factory=time.monotonic)
    found: dict[str, Entry] = field(default_factory=dict)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)

    @property
    def skipped(self) -> dict[str, str]:
        return left_out(self.protocols)

    def measure(self, protocol: str, measures: dict[str, Measure], say: Callable[[str], object]) -> None:
        """Takes the measures of a protocol and writes down what is found: who stops the next one loses nothing of this one."""
        begun = time.monotonic()
        found, skipped = _taken(measures, self.bench, self.run, say)
        self.found |= found
        self.protocols[protocol] = {**self.about, "minutes": _minutes(begun), "skipped": skipped}
        if self.found:
            self.written = self._results()
            write(self.folder, self.written)

    def _results(self) -> dict[str, Any]:
        kept = still_true(self.before, self.now, self.found)
        read = {name: figure for name, figure in kept.figures.items() if figure["protocol"] == READERS}
        protocols = records(self.before, kept, self.protocols)
        evaluation = {
            **self.about,
            "minutes": _minutes(self.started),
            "split": self.bench.split,
            "clips": len(self.bench.held),
            "moving": list(self.now.moving),
            "data": {**what(self.run.data), "clips_sha256": self.now.clips},
            "skipped": left_out(protocols),
            "dropped": kept.dropped,
            "tables": {**tables_of(self.before, kept.figures), **self.bench.tables},
            "protocols": protocols,
        }
        # where pixels tell the truth, no judge has the last word
        return {**self.before, "judge": self.judge, "evaluation": evaluation, "figures": {**kept.figures, **self.found, **read}}


def _minutes(since: float) -> float:
    return round((time.monotonic() - since) / 60, 2)


def _taken(measures: dict[str, Measure], bench: Bench, run: Run, say: Callable[[str], object]) -> tuple[dict[str, Entry], dict[str, str]]:
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
            except (ArithmeticError, ValueError, RuntimeError) as error:  # nor is what a solver refuses, or a memory that is full
                reason = f"{type(error).__name__}: {error}"
        if reason:
            skipped[name] = reason
    return found, skipped


def _moving(asked: tuple[str, ...] | None, before: dict[str, Any]) -> tuple[str, ...] | None:
    """The factors that move, if they are named now or were in the last evaluation."""
    return asked if asked is not None else tuple((before["evaluation"] or {}).get("moving") or ()) or None


def check_protocols(only: Iterable[str], extras: Extras) -> None:
    """Raises UserError for a protocol that does not exist, or that needs an extra which is not asked for."""
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
    """Raises UserError for a factor that the data does not have."""
    for factor in moving:
        if factor not in data.train.labels:
            labels = ", ".join(data.train.labels) or "none"
            raise UserError("factors of the data as those that move", f"{factor!r}", f"The labels of this data: {labels}.")


def told_of_judge(folder: Path | None, loaded: LoadedJudge, measured: Part, clips: str) -> dict[str, Any]:
    """What is told of the judge beside every score. measured: the data. clips: the hash of the held-out ones.

    other_split: it was trained on another split, or on a folder that has changed since, and may have seen the measured clips.
    """
    names = ("accuracy", "calibration", "data", "split", "clips", "clips_sha256", "seed", "minutes")
    facts = {name: loaded.facts.get(name) for name in names}
    if facts["data"] is None:
        return {"folder": str(folder), "sha256": loaded.sha256, **facts, "other_split": True}
    seen = Part.model_validate(facts["data"])
    # a folder that was moved is known by its clips
    there, here = (complete(part if facts["clips_sha256"] is None else placeless(part)) for part in (seen, measured))
    other = there != here or facts["clips_sha256"] not in (None, clips)
    return {"folder": str(folder), "sha256": loaded.sha256, **facts, "data": placeless(seen).model_dump(mode="json"), "other_split": other}


def _before(folder: Path, run: Run) -> dict[str, Any]:
    """What results.json holds already; of a model without one, an empty frame."""
    if (folder / RESULTS).is_file():
        return {"clips_sha256": None, "judge": None, "evaluation": None, **read_results(folder)}
    begun = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    return {
        "recipe": run.recipe,
        "command": begun["command"],
        "commit": begun.get("commit"),
        "minutes": None,
        "machine": machine(),
        "seeds": [run.seed],
        "clips_sha256": None,
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
