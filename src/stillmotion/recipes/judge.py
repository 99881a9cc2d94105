"""The judge of a data set: trained on its training clips alone, measured on its test clips, kept in a folder like a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.core.registry import DATA, JUDGES, resolve
from stillmotion.data.base import Splits
from stillmotion.data.roots import data_root
from stillmotion.metrics.calibration import calibration
from stillmotion.metrics.figure import Figure, share
from stillmotion.metrics.judge import CHANNELS, Judge, Verdicts, read_all
from stillmotion.models import files
from stillmotion.recipes.bench import told
from stillmotion.recipes.held_out import clips_sha256, clusters_of, held_out
from stillmotion.recipes.results import commit, machine
from stillmotion.training.checkpoints import write_text
from stillmotion.training.loop import Trainer
from stillmotion.training.machine import choose_device, choose_precision, keep_freed_memory
from stillmotion.training.runs import RUN_FILE, read_run
from stillmotion.training.schedules import Schedule
from stillmotion.training.settings import Feed, Part, Run, Stage

BATCH = 32
WHERE = ("root", "cache", "progress")
"""Options of data sets that say where files lie and how they are read, and nothing of what is in them."""


class Lessons(NamedTuple):
    """channels: of the judge's convolutions. steps: of 32 clips each."""

    channels: tuple[int, ...]
    steps: int


NARROW = Lessons((16, 32, 64, 128), 600)
HALF = (32, 64, 128, 256)
LESSONS = {"sprites": Lessons(HALF, 500), "digits": Lessons(HALF, 1500), "mug": Lessons(CHANNELS, 1500)}
"""What is enough for each data set: drawings take half of the published widths, faces all; the narrow judge is made in a minute."""


def judge_run(
    data: Part, splits: Splits, *, channels: tuple[int, ...] | None = None, steps: int | None = None, changes: tuple[str, ...] = (),
    centred: bool = False, seed: int = 0, device: str = "auto",
) -> Run:  # fmt: skip
    """The run that trains a judge for this data: Adam at 1e-3 with betas (0.5, 0.999), as published; the rate falls to a twentieth.

    changes: factors that it is told by what changes from frame to frame alone. centred: frames are seen about their centre of light.
    Raises UserError for a factor that it cannot learn.
    """
    lessons = LESSONS.get(data.name, NARROW)
    colours, size, _ = splits.train.frame_shape
    classes = judgeable(splits)
    if unknown := [factor for factor in changes if factor not in classes]:
        raise UserError(f"factors that a judge can learn: {', '.join(classes)}", ", ".join(map(repr, unknown)))
    options = {"classes": classes, "colours": colours, "size": size, "channels": channels or lessons.channels}
    if changes:
        options["changes"] = changes
    if centred:
        options["centred"] = True
    stage = Stage(
        name="judge",
        steps=steps or lessons.steps,
        learning_rate=1e-3,
        betas=(0.5, 0.999),
        decay=Schedule(kind="half_cosine", points=((0.3, 1.0), (1, 0.05))),
        feed=Feed(batch=BATCH, labelled=True),
    )
    return Run(recipe=f"judge/{data.name}", data=data, model=Part(name="judge", options=options), stages=(stage,), seed=seed, device=device)


def judgeable(splits: Splits) -> dict[str, tuple[str, ...]]:
    """The factors that a judge can learn, with the names of their classes.

    Raises UserError where there is none, and for splits without clips to measure the judge by.
    """
    if not len(splits.test) and not len(splits.validation):
        raise UserError("clips that a judge is not trained on, to measure it by", "none", "Train with --hold-out or --hold-out-tail.")
    can = told(splits.train, held_out(splits).clips)
    found = {factor: names for factor, names in splits.train.classes.items() if factor in can}
    if not found:
        labels = ", ".join(splits.train.classes) or "none"
        remedy = "Name factors with --pattern or --labels-from; a factor needs two classes, each with training clips."
        raise UserError("clips with labels that a judge can learn", f"labels: {labels}", remedy)
    return found


def train_judge(run: Run, splits: Splits, folder: Path, *, command: str, show: bool = True) -> Path:
    """Trains the judge of a run in a folder, or goes on with one that was stopped there; returns the folder.

    Raises UserError where the folder holds another run.
    """
    device = choose_device(run.device)
    run = run.model_copy(update={"precision": choose_precision(run.precision, device)})
    if (folder / RUN_FILE).exists() and settled(read_run(folder)) != settled(run):
        remedy = "Choose another folder, or remove that one."
        raise UserError("a new folder, or one with a stopped run of this very judge", f"{folder}, which holds another run", remedy)
    judge = files.build("judge", run.model.options, run.seed, JUDGES).to(device)
    trainer = Trainer(judge, run, splits.train, splits.validation, folder, show=show)
    if trainer.processes.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RUN_FILE, json.dumps({"command": command, "commit": commit(), "run": run.model_dump(mode="json")}, indent=1))
    keep_freed_memory()
    trainer.fit()
    if trainer.processes.rank == 0:
        judge.eval()
        facts = {"minutes": round(trainer.seconds / 60, 2), "seed": run.seed, "command": command, "commit": commit(), "machine": machine()}
        facts |= {"data": what(run.data), "clips_sha256": clips_sha256(splits), **examined(cast(Judge, judge), splits, run.seed)}
        files.save(judge, folder / files.INNER, **facts)
    return folder


def examined(judge: Judge, splits: Splits, seed: int) -> dict[str, Any]:
    """How good the judge is on clips that it never saw: accuracy and calibration of each factor, and on how many of which clips."""
    name, held = held_out(splits)
    clusters = clusters_of(splits.train, held, splits.train.moving)
    verdicts, labels = read_all(judge, held), told(splits.train, held)
    generator = torch.Generator().manual_seed(seed_of(seed, "judge"))
    found = calibration(verdicts, labels, generator, clusters)
    return {
        "split": name,
        "clips": len(held),
        "accuracy": {factor: asdict(_accuracy(verdicts, clusters, labels[factor], factor, generator)) for factor in judge.classes},
        "calibration": {f: {k: round(found[f"judge_{k}_{f}"].value, 5) for k in ("ece", "nll")} for f in judge.classes},
    }


def _accuracy(verdicts: Verdicts, clusters: Tensor | None, labels: Tensor, factor: str, generator: torch.Generator) -> Figure:
    known = labels >= 0
    return share((verdicts.top(factor) == labels)[known], generator, None if clusters is None else clusters[known])


def default_folder(data: Part) -> Path:
    """Where the judge of this data is kept unless someone says otherwise: below the user's data root."""
    clips = json.dumps(complete(data), sort_keys=True)
    return data_root() / "judges" / f"{data.name}-{sha256(clips.encode()).hexdigest()[:12]}"


def what(data: Part) -> dict[str, Any]:
    """Which clips a data set has and how they are split, without where on this machine they lie."""
    options = {name: value for name, value in sorted(data.options.items()) if name not in WHERE}
    return {"name": data.name, "options": options}


def placeless(data: Part) -> Part:
    """The same data wherever on this machine it lies: as `what`, and of a folder of videos the name alone.

    Two folders may have one name: this tells whether a moved one may be gone on with, not which judge is meant.
    """
    options = what(data)["options"]
    return Part(name=data.name, options=options | ({"folder": Path(str(options["folder"])).name} if "folder" in options else {}))


def settled(run: Run) -> dict[str, Any]:
    """The run as JSON, without where its data lies."""
    return run.model_copy(update={"data": placeless(run.data)}).model_dump(mode="json")


def complete(data: Part) -> dict[str, Any]:
    """As `what`, with all options: one that is left to its default equals one that is given. Plain as JSON."""
    options = data.options
    try:
        bound = signature(resolve(DATA, data.name)).bind(**options)
        bound.apply_defaults()
        options = dict(bound.arguments)
    except (UserError, TypeError):  # a set that is not registered, or of another version: as it is told
        pass
    found: dict[str, Any] = json.loads(json.dumps(what(Part(name=data.name, options=options)), default=str))
    return found
