"""A paper's tables and figures by one command: what was trained and measured before it was stopped is not done twice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import ValidationError

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.core.registry import MODELS, resolve
from stillmotion.metrics.exhibits import Page, write_page
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.protocols import OTHER, REPRODUCTION, protocol_of
from stillmotion.metrics.results import RESULTS, Entry, read_object
from stillmotion.models import files
from stillmotion.recipes.execute import resume, start
from stillmotion.recipes.judge import settled
from stillmotion.recipes.results import commit, entry, machine, write
from stillmotion.training.checkpoints import write_text
from stillmotion.training.machine import peak_memory
from stillmotion.training.runs import RUN_FILE, read_run
from stillmotion.training.settings import Part, Run

Size = Literal["laptop", "paper"]
RECORD = "reproduction.json"
MEASURED = "measured.json"

REPRODUCTIONS: dict[str, str] = {
    "bias": "stillmotion.recipes.bias_page:reproduce",
    "dsa": "stillmotion.recipes.dsa_study:reproduce",
    "kvae": "stillmotion.recipes.kvae_study:reproduce",
    "kvae/box": "stillmotion.recipes.kvae_study:box",
    "kvae/worlds": "stillmotion.recipes.kvae_study:worlds",
    "kvae/pendulum": "stillmotion.recipes.kvae_study:pendulum",
    "kvae/missing": "stillmotion.recipes.kvae_study:missing",
    "kvae/dynamics": "stillmotion.recipes.kvae_study:dynamics",
    "vdsm": "stillmotion.recipes.vdsm_study:sprites",
    "vdsm/questions": "stillmotion.recipes.vdsm_questions:reproduce",
    "vdsm/sprites": "stillmotion.recipes.vdsm_study:sprites",
    "vdsm/standard": "stillmotion.recipes.vdsm_study:standard",
    "vdsm/mug": "stillmotion.recipes.vdsm_study:mug",
    "vdsm/digits": "stillmotion.recipes.vdsm_worlds:reproduce_digits",
    "vdsm/pendula": "stillmotion.recipes.vdsm_worlds:reproduce_pendula",
    "vdsm/weizmann": "stillmotion.recipes.vdsm_transfer:reproduce",
}
"""Name -> "module:function", a function (folder, plan) -> Reproduced whose docstring begins with what it reproduces, in a line."""


@dataclass(frozen=True)
class Plan:
    """What is asked of a reproduction.

    quick: whether it works at all, in a few minutes. seeds: how many, from 0 on. show: progress. command: as it was given.
    Raises UserError for an unknown size and for less than one seed.
    """

    size: Size = "laptop"
    quick: bool = False
    seeds: int = 1
    show: bool = True
    command: str = ""

    def __post_init__(self) -> None:
        if self.size not in get_args(Size):
            raise UserError(f"a size of {', '.join(get_args(Size))}", repr(self.size))
        if self.seeds < 1:
            raise UserError("at least one seed", f"{self.seeds}")


@dataclass(frozen=True)
class Reproduced:
    """figures: by name. paper: the published value of some of them. judge: who saw the clips, None where no figure needs one.

    seeds: those that were really used, where they are not the plan's.
    """

    page: Page
    figures: Mapping[str, Figure]
    paper: Mapping[str, float] = field(default_factory=dict)
    judge: Mapping[str, Any] | None = None
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        assert self.paper.keys() <= self.figures.keys(), f"published, but not measured: {self.paper.keys() - self.figures.keys()}"


Reproduction: TypeAlias = Callable[[Path, Plan], Reproduced]


def about() -> dict[str, str]:
    """What each reproduction is of, by name."""
    return {name: (resolve(REPRODUCTIONS, name).__doc__ or "").strip().partition("\n")[0] for name in sorted(REPRODUCTIONS)}


def reproduce(name: str, folder: Path, plan: Plan) -> Path:
    """Carries a reproduction to its end and writes page.json and results.json into its folder, which is returned.

    A stopped one goes on. Raises UserError for an unknown name, and for a folder that holds something else or another plan (the number
    of seeds may change).
    """
    work: Reproduction = resolve(REPRODUCTIONS, name)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a reproduction in one process", f"one of {os.environ['WORLD_SIZE']}", "Start it without torchrun.")
    with _session(name, folder, plan):
        found = work(folder, plan)
        write_page(found.page, folder)
    sessions = _record(folder)["sessions"]
    results = {
        "recipe": name,
        "command": plan.command,
        "commit": commit(),
        "minutes": round(sum(session["minutes"] for session in sessions), 2),
        "sessions": sessions,
        "machine": machine(),
        "size": plan.size,
        "quick": plan.quick,
        "seeds": list(range(plan.seeds) if found.seeds is None else found.seeds),
        "judge": None if found.judge is None else _told_of(found.judge, folder),
        "figures": _entries(found),
    }
    write(folder, results)
    return folder


def train_once(run: Run, folder: Path, plan: Plan) -> Path:
    """Trains a run in a folder of its own, goes on with it where it was stopped, and leaves it as it is where it is finished.

    Data may have been moved since. Raises UserError where the folder holds another run, and says in what they differ.
    """
    if not (folder / RUN_FILE).exists():
        return start(run, folder, command=plan.command, show=plan.show)
    _check_same(run, folder)
    _follow(run.data, folder)
    # the figures of a run are the last thing that is written
    finished = (folder / RESULTS).is_file() and (folder / files.INNER / files.CONFIG).is_file()
    return folder if finished else resume(folder, show=plan.show)


def _follow(data: Part, folder: Path) -> None:
    """Writes down where the data of a run lies now, if it was moved."""
    path = folder / RUN_FILE
    if (now := data.model_dump(mode="json")) != read_run(folder).data.model_dump(mode="json"):
        told = read_object(path)
        write_text(path, json.dumps({**told, "run": {**told["run"], "data": now}}, indent=1))


def measured_once(folder: Path, key: str, work: Callable[[], Any]) -> Any:
    """What `work` finds, as JSON holds it; kept in the folder, so that it is found but once for the same weights.

    folder: of a finished run, or of anything without weights. key: says what is measured, with all that it depends on.
    """
    path, weights = folder / MEASURED, _weights(folder)
    known = read_object(path) if path.is_file() else {}
    if (known.get(key) or {}).get("weights", "none yet") != weights:
        known[key] = {"weights": weights, "found": work()}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(known, indent=1))
    return json.loads(json.dumps(known[key]["found"]))  # the same kinds of values the first time as later


def _weights(folder: Path) -> str | None:
    """The hash of the weights of a run, None where there are none."""
    path = folder / files.INNER / files.CONFIG
    return str(read_object(path).get("sha256")) if path.is_file() else None


def _told_of(judge: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What is told of the judge, with its place in the reproduction, or its name alone: paths of this machine say nothing elsewhere."""
    if "folder" not in judge:
        return dict(judge)
    place = Path(judge["folder"])
    return {**judge, "folder": str(place.relative_to(folder)) if place.is_relative_to(folder) else place.name}


def _entries(found: Reproduced) -> dict[str, Entry]:
    """Figures as results.json has them: {"value", "low", "high", "clips", "paper", "protocol"}."""
    kinds = {name: protocol_of(name, judged=found.judge is not None) for name in found.figures}
    return {
        name: entry(figure) | {"paper": found.paper.get(name), "protocol": REPRODUCTION if kinds[name] == OTHER else kinds[name]}
        for name, figure in found.figures.items()
    }


def _check_same(run: Run, folder: Path) -> None:
    there = read_run(folder)
    # what was asked for as "auto" is written down as what the machine had
    asked = run if run.precision != "auto" else run.model_copy(update={"precision": there.precision})
    differences = list(_differences(settled(there), settled(asked)))
    differences += _other_defaults(asked, folder) if not differences else []
    if differences:
        told = "; ".join(differences[:4]) + ("; ..." if len(differences) > 4 else "")
        raise UserError("the run that this reproduction trains", f"{folder}, which holds another: {told}", "Choose another folder.")


def _other_defaults(asked: Run, folder: Path) -> list[str]:
    """How the options of a finished model differ from what the run would make today: defaults are not written in a run."""
    path = folder / files.INNER / files.CONFIG
    if not path.is_file():
        return []
    config_type = resolve(MODELS, asked.model.name).config_type
    there, today = read_object(path).get("options", {}), config_type(**asked.model.options).model_dump(mode="json")
    with suppress(ValidationError):  # then the differences tell what is wrong
        there = config_type.model_validate(files.as_written(MODELS, asked.model.name, there)).model_dump(mode="json")
    return list(_differences(there, today, "model.options"))


def _differences(there: Any, asked: Any, at: str = "") -> Iterator[str]:
    """Where two nested values differ, each in a few words."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for name in dict.fromkeys([*there, *asked]):
            yield from _differences(there.get(name), asked.get(name), f"{at}.{name}" if at else name)
    elif isinstance(there, list) and isinstance(asked, list) and len(there) == len(asked):
        for place, pair in enumerate(zip(there, asked, strict=True)):
            yield from _differences(*pair, f"{at}.{place}")
    elif there != asked:
        yield f"{at} is {there!r} there, and {asked!r} here"


@contextmanager
def _session(name: str, folder: Path, plan: Plan) -> Iterator[None]:
    """Writes down how long is worked at a reproduction, however it ends."""
    record = _opened(name, folder, plan)
    began = datetime.now(UTC)
    this: dict[str, Any] = {"began": began.isoformat(timespec="seconds"), "minutes": None, "commit": commit(), "command": plan.command}
    record["sessions"].append(this)
    _write_record(folder, record)
    clock = time.monotonic()
    try:
        yield
    finally:
        this["minutes"] = round((time.monotonic() - clock) / 60, 2)
        peak = peak_memory()
        this["peak_memory_gb"] = None if peak is None else round(peak, 2)
        _write_record(folder, record)


def _opened(name: str, folder: Path, plan: Plan) -> dict[str, Any]:
    """The record of a folder, a new one where there is none; sessions that were killed are given the minutes that they left traces of."""
    asked = {"recipe": name, "size": plan.size, "quick": plan.quick}
    if not (folder / RECORD).exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError("a new folder, or one of this reproduction", f"{folder}, which holds something else", "Choose another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        return {**asked, "sessions": []}
    record = _record(folder)
    differences = list(_differences({key: record[key] for key in asked}, asked))
    if differences:
        raise UserError("the folder of this reproduction", f"{folder}, in which {'; '.join(differences)}", "Choose another folder.")
    for session in record["sessions"]:
        if session["minutes"] is None:
            session["minutes"] = _minutes_until_killed(session, folder)
    return record


def _minutes_until_killed(session: dict[str, Any], folder: Path) -> float:
    """Until the last file was written: runs write their checkpoints every minute."""
    last = max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
    return max(0.0, round((last - datetime.fromisoformat(session["began"]).timestamp()) / 60, 2))


def _record(folder: Path) -> dict[str, Any]:
    record = read_object(folder / RECORD)
    if not {"recipe", "size", "quick", "sessions"} <= record.keys():
        raise FileRefused("the record of a reproduction", f"{folder / RECORD}, which holds something else", "Choose another folder.")
    return record


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=1))
