"""Carries out a run: data, model, stages, the final model, its figures. Going on after a stop is the same call."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from stillmotion.core.abilities import Model, Remembers, require
from stillmotion.core.errors import UserError
from stillmotion.core.registry import JUDGES
from stillmotion.data.base import ClipSet, Splits
from stillmotion.models import files
from stillmotion.recipes.override import override
from stillmotion.recipes.results import commit, write_results
from stillmotion.tasks.codes import encode
from stillmotion.training.checkpoints import write_text
from stillmotion.training.loop import Trainer
from stillmotion.training.machine import choose_device, choose_precision, keep_freed_memory, wait_for_all
from stillmotion.training.runs import RUN_FILE, frame_spec, load_data, read_run
from stillmotion.training.settings import Run

REMEMBERED = 600
"""Training clips that a model is shown once more, to remember their posteriors."""


def start(run: Run, folder: Path, *, command: str, show: bool = True) -> Path:
    """Begins a run in a new folder and carries it to its end; returns the folder.

    Raises UserError where the folder already holds a run.
    """
    if (folder / RUN_FILE).exists():
        remedy = f"Go on with `stillmotion resume {folder}`, or choose another folder."
        raise UserError("a new run folder", f"{folder}, which holds a run", remedy)
    device = choose_device(run.device)
    # what was found on this machine is written down, so that a resumed run computes with the same numbers
    run = run.model_copy(update={"precision": choose_precision(run.precision, device)})
    data = load_data(run, show=show)
    trainer = _trainer(run, data, folder, device, show)  # before anything is written: a bad setting leaves no folder behind
    wait_for_all(device)  # until they too have seen that there was no run
    if trainer.processes.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RUN_FILE, json.dumps({"command": command, "commit": commit(), "run": run.model_dump(mode="json")}, indent=1))
    return _carry_out(trainer, data)


def resume(folder: Path, *, show: bool = True, on_nan: str | None = None) -> Path:
    """Carries a stopped run to its end, from its last checkpoint on; of a finished one only model and figures are written again."""
    run = read_run(folder)
    if run.model.name in JUDGES:
        raise UserError("the run of a model", f"{folder}, that of a judge", "The `stillmotion judge train` that began it goes on with it.")
    if on_nan is not None:
        run = override(run, {"on_nan": on_nan})
    data = load_data(run, show=show)
    return _carry_out(_trainer(run, data, folder, choose_device(run.device), show), data)


def _trainer(run: Run, data: Splits, folder: Path, device: torch.device, show: bool) -> Trainer:
    model = files.build(run.model.name, run.model.options, run.seed).to(device)
    _check_frames(model, data.train)
    train = _resident(data.train, device)
    shared = data.validation.frames is data.train.frames
    held = replace(data.validation, frames=train.frames) if shared else _resident(data.validation, device)
    return Trainer(model, run, train, held, folder, show=show)


def _carry_out(trainer: Trainer, data: Splits) -> Path:
    keep_freed_memory()
    trainer.fit()
    run, model, folder = trainer.run, trainer.model, trainer.folder
    if trainer.processes.rank == 0:
        model.eval()
        if isinstance(model, Remembers):
            require(model, Remembers).remember(encode(model, data.train.spread(REMEMBERED)))
        files.save(model, folder / files.INNER, frames=_frames(run, model), steps=data.train.steps, recipe=run.recipe)
        write_results(folder, run, model, data, trainer.seconds)
    return folder


def _check_frames(model: Model, clips: ClipSet) -> None:
    if clips.frame_shape != tuple(model.frame_shape):
        raise UserError(f"frames of shape {tuple(model.frame_shape)} for this model", f"{clips.frame_shape}", "Set the size of both alike.")


def _resident(clips: ClipSet, device: torch.device) -> ClipSet:
    """The frames in the memory of the device, as bytes, where there is a device beside the CPU."""
    return clips if device.type == "cpu" else replace(clips, frames=clips.frames.to(device))


def _frames(run: Run, model: Model) -> dict[str, Any]:
    """How frames must be read for the model, whose size and colours a built-in data set need not name."""
    channels, size, _ = model.frame_shape
    spec = replace(frame_spec(run), size=size, grey=channels == 1)
    return {name: value for name, value in asdict(spec).items() if not name.startswith("max_")}
