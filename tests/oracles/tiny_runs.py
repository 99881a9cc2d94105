"""Complete runs that take a fraction of a second, in this process or in others that may be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from oracles.small_vdsm import SMALL
from stillmotion.core.abilities import Model
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet
from stillmotion.models import files
from stillmotion.training import checkpoints, loop
from stillmotion.training.loop import Trainer
from stillmotion.training.schedules import Schedule
from stillmotion.training.settings import Feed, Part, Run, Stage

OPTIONS: dict[str, Any] = {**SMALL, "rnn_dropout": 0.3, "recolour": 0.5}
OFTEN = 1e-9
"""Seconds between checkpoints where every step is to be kept."""


def tiny_clips(count: int = 11, steps: int = 5, seed: int = 0) -> ClipSet:
    """Random 8 x 8 clips of 3 to `steps` frames, of three kinds and one without a kind."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, steps + 1, (count,), generator=g)
    frames = torch.randint(0, 256, (int(lengths.sum()), 3, 8, 8), generator=g).to(torch.uint8)
    kind = torch.arange(count) % 4
    kind = torch.where(kind == 3, -1, kind)
    return ClipSet(frames, lengths.cumsum(0) - lengths, lengths, steps, {"kind": kind}, {"kind": ("a", "b", "c")})


def tiny_run(steps: int = 4, batch: int = 3, **changes: Any) -> Run:
    """Two stages of `steps` steps with everything that draws random numbers: groups, choices of frames, dropout, recolouring."""
    first = Stage(
        name="poses", objective="poses", trains=("encoder", "decoder", "heads"), steps=steps, learning_rate=3e-3, clip_norm=1000,
        feed=Feed(batch=batch, group_by="kind", clips_per_group=2, frames=4), schedules={"path_kl": Schedule(points=((0, 0.1), (1, 1)))},
    )
    second = Stage(
        name="sequence", objective="sequence", trains=("heads", "sequence"), steps=steps, feed=Feed(batch=batch),
        decay=Schedule(kind="half_cosine", points=((0, 1), (1, 0.5))),
    )
    run = Run(
        recipe="tiny", data=Part(name="none"), model=Part(name="vdsm", options=OPTIONS), stages=(first, second), device="cpu",
        precision="float32", checkpoint_seconds=1e6, log_every=1, validate_every=3,
    )
    return Run.model_validate(run.model_dump() | changes)


def three_stage_run(steps: int = 3, batch: int = 2) -> Run:
    """The stages of a shipped recipe, with flows: the middle one reaches fewer parameters than the last."""
    run = tiny_run(steps, batch)
    first, last = run.stages
    middle = Stage(name="paths", objective="paths", trains=("sequence",), steps=steps, clip_norm=1000, feed=Feed(batch=batch))
    last = last.model_copy(update={"trains": ("heads", "sequence", "flows")})
    model = Part(name="vdsm", options=OPTIONS | {"posterior": "iaf"})
    return run.model_copy(update={"stages": (first, middle, last), "model": model})


def trainer(folder: Path, run: Run, *, validation: ClipSet | None = None, train: ClipSet | None = None) -> Trainer:
    """A trainer with a new model, as after the start of a process."""
    model = files.build(run.model.name, run.model.options, run.seed)
    with patch("stillmotion.training.journal.find_spec", return_value=None):  # no TensorBoard, which takes longer than the run
        return Trainer(model, run, tiny_clips() if train is None else train, validation, folder, show=False)


def disturb(model: Model, call: int, what: Callable[[nn.Module, Terms], Terms | None]) -> None:
    """Lets something happen to the model, or to its terms, in its `call`-th training step from now (from 1)."""
    calls = 0

    def hook(module: nn.Module, inputs: Any, terms: Terms) -> Terms | None:
        nonlocal calls
        calls += module.training
        return what(module, terms) if module.training and calls == call else None

    model.register_forward_hook(hook)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl but for the time they took."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def kept(folder: Path) -> dict[str, Tensor]:
    """Weights and moments of the last checkpoint."""
    saved = checkpoints.load(folder / "checkpoints")
    assert saved is not None
    return saved.tensors


def kept_step(folder: Path) -> int:
    saved = checkpoints.load(folder / "checkpoints")
    return -1 if saved is None else int(saved.facts["step"])


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two states are alike to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# other processes


def process(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A started process that does not inherit the state of this one; the imports are made once and for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stillmotion.training.loop", "stillmotion.models.vdsm", "stillmotion.models.files", "torch._dynamo"])
    started = context.Process(target=target, args=arguments, daemon=True)
    started.start()
    return started


def train_alone(folder: Path, run: Run) -> None:
    """Trains, or goes on, in a process of its own; the file `started` appears when the steps begin."""
    torch.set_num_threads(1)
    one = trainer(folder, run, validation=tiny_clips(4, seed=1))
    disturb(one.model, 1, lambda module, terms: (folder / "started").touch())
    loop.VALIDATION_CLIPS = 6
    one.fit()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def announce(rank: int, world: int, port: int) -> None:
    """What torchrun tells a process."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }
