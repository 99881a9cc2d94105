"""KVAE (Fraccaro and others, NIPS 2017): complete runs on bouncing balls and on the torque-driven pendulum.

Sizes: `quick` shows that it works, `laptop` has 1,000 clips and half the filters, `paper` the published clips, filters and epochs.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from stillmotion.core.errors import UserError
from stillmotion.training.schedules import Schedule, constant
from stillmotion.training.settings import Feed, Part, Run, Stage

Size = Literal["quick", "laptop", "paper"]
BATCH = 32
CLIPS = {"quick": 64, "laptop": 1000, "paper": 5000}
EPOCHS = {"quick": (1, 2), "laptop": (8, 52), "paper": (10, 70)}
"""Without and with the dynamics network; the published ones for `paper`."""
STEP = 0.85
"""Of the learning rate, every 20 epochs."""

WORLDS: dict[str, dict[str, Any]] = {
    "box": {}, "gravity": {"state": 5}, "polygon": {"modes": 7}, "pong": {},
    "torque": {"size": 16, "state": 3, "modes": 2, "controls": 1, "likelihood": "gaussian", "learned_scale": True},
}  # fmt: skip
"""What each world changes in the model: room for gravity in the state, a system for each side of the polygon."""


def world(name: str, size: str = "laptop", *, seed: int = 0) -> Run:
    """The run for one of WORLDS. Raises UserError for another and for an unknown size."""
    if name not in WORLDS:
        raise UserError(f"one of {', '.join(WORLDS)}", repr(name))
    if size not in get_args(Size):
        raise UserError(f"a size of {', '.join(get_args(Size))}", repr(size))
    clips = min(CLIPS[size], 500) if name == "torque" else CLIPS[size]
    model = {**({} if size == "paper" else {"width": 16}), **WORLDS[name]}
    data = {"clips": clips} if clips != (500 if name == "torque" else 5000) else {}
    return Run(
        recipe=f"kvae/{name}", data=Part(name=name, options=data), model=Part(name="kvae", options=model), seed=seed,
        stages=_stages(*EPOCHS[size], per_epoch=max(1, clips // BATCH)),
    )  # fmt: skip


VIDEOS: dict[str, Any] = {"code": 16, "state": 24, "modes": 5, "likelihood": "gaussian", "pixel_scale": 0.1}


def videos(size: str, options: dict[str, Any], *, seed: int = 0) -> Run:
    """The run on a folder of videos; options: how they are read."""
    steps = {"quick": (30, 60), "laptop": (1000, 5000), "paper": (3000, 27_000)}[size]
    frames = {"size": options.get("size", 64), "channels": 1 if options.get("grey") else 3}
    model = {**VIDEOS, **frames, **({} if size == "paper" else {"width": 24})}
    stages = _stages(1, steps[1] // steps[0], per_epoch=steps[0])
    data, made = Part(name="videos", options=options), Part(name="kvae", options=model)
    return Run(recipe="kvae/videos", data=data, model=made, seed=seed, stages=stages)


def of(data: Part, size: str, *, seed: int = 0, group_by: str | None = None) -> Run:
    """The run on this data, whatever the clips are grouped by. Raises UserError for data that there are no settings for."""
    if data.name == "videos":
        return videos(size, data.options, seed=seed)
    if data.name not in WORLDS:
        raise UserError(f"videos, or one of {', '.join(WORLDS)} for a KVAE", repr(data.name))
    return world(data.name, size, seed=seed)


def _stages(frozen: int, rest: int, per_epoch: int) -> tuple[Stage, ...]:
    """Adam at 0.007 on batches of 32, gradients clipped at 150, pixels weighted by 0.3; the network of the dynamics joins later.

    The published rate falls by a step every 20 epochs; ours falls in a line through the middle of these steps.
    """
    common: dict[str, Any] = {
        "learning_rate": 0.007, "clip_norm": 150, "feed": Feed(batch=BATCH), "schedules": {"reconstruction": constant(0.3)},
    }  # fmt: skip
    first = Stage(name="systems", trains=("vae", "systems"), steps=frozen * per_epoch, **common)
    fall = Schedule(points=((0, 1.0), (1, STEP ** (rest / 20))))
    return first, Stage(name="all", trains=("vae", "systems", "dynamics"), steps=rest * per_epoch, decay=fall, **common)
