"""KVAE (Fraccaro and others, NIPS 2017): complete runs on bouncing balls and on the torque-driven pendulum.

Sizes: `quick` shows that it works, `laptop` has 1,000 clips, `paper` the published clips and epochs.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from stillmotion.core.errors import UserError
from stillmotion.training.schedules import Schedule, constant
from stillmotion.training.settings import Feed, Part, Run, Stage

Size = Literal["quick", "laptop", "paper"]
BATCH = 32
CLIPS = {"quick": 64, "laptop": 1000, "paper": 5000}
EPOCHS = {"quick": (1, 2), "laptop": (2, 148), "paper": (2, 78)}
"""Without and with the dynamics network. The published 10 and 70 let the codes settle before the network can make use of them; with so
few clips, 60 in all are not yet enough to foresee far."""
WIDTH = 16
"""Filters on balls. With the published 32, frames are sharp before the systems can follow the codes, and what is hidden is found less
well."""
BALLS = ("box", "gravity", "polygon", "pong")
STEP = 0.85
"""Of the learning rate, every 20 epochs."""

WORLDS: dict[str, dict[str, Any]] = {
    "box": {}, "gravity": {"state": 8, "modes": 5}, "polygon": {"state": 8, "modes": 7}, "pong": {"code": 3, "state": 8, "modes": 5},
    "torque": {
        "size": 16, "width": 32, "state": 5, "controls": 1, "modes": 4, "dynamics": "mlp",
        "state_noise": 0.004, "code_noise": 0.002, "code_variance": 0.002, "learned_noise": True,
        "likelihood": "gaussian", "pixel_scale": 0.08, "learned_scale": True,
    },
}  # fmt: skip
"""What each world changes in the model: more room in the state for all balls but the box's, a system for each side of the polygon, and
in Pong a number of the code for the paddles, which are always at the same height.

On the pendulum the systems are chosen by the last code alone: an LSTM knows the velocity by itself, and then the state does not (R2 0.2).
Its torques are known, and sharp frames tell the angle to a few thousandths: with the published noises most of the bound is paid for them.
"""
GAPS = Feed(batch=BATCH, gaps=1.0)
GAPS_FROM = 0.65
"""Of the training of all parts on balls, apart from the published one: from then on frames are hidden, of each clip another
share, so that the network learns to go on with what it expects itself, for as long as it takes."""
SEQUENCE_STEPS = {"quick": 2, "laptop": 4000}
"""In which systems and their network learn on by themselves on balls, with gaps, while the networks that read and draw frames stay as they
are. The baselines learn their sequences like that too."""
SWING_STEPS = {"quick": (4, 4, 4, 4), "laptop": (700, 2300, 5000, 5000), "paper": (2000, 13_000, 10_000, 5000)}
"""Of the four stages on the pendulum."""


def world(name: str, size: str = "laptop", *, seed: int = 0) -> Run:
    """The run for one of WORLDS. Raises UserError for another and for an unknown size."""
    if name not in WORLDS:
        raise UserError(f"one of {', '.join(WORLDS)}", repr(name))
    if size not in get_args(Size):
        raise UserError(f"a size of {', '.join(get_args(Size))}", repr(size))
    clips = min(CLIPS[size], 500) if name == "torque" else CLIPS[size]
    model = {"width": WIDTH, **WORLDS[name]}
    data = {"clips": clips} if clips != (500 if name == "torque" else 5000) else {}
    (frozen, rest), each = EPOCHS[size], max(1, clips // BATCH)
    stages = _swing(*SWING_STEPS[size]) if name == "torque" else _stages(frozen * each, rest * each, to=STEP ** (rest / 20))
    if name in BALLS and size != "paper":
        stages = (*stages[:-1], *with_gaps(stages[-1]), _sequence(SEQUENCE_STEPS[size]))
    return Run(
        recipe=f"kvae/{name}", data=Part(name=name, options=data), model=Part(name="kvae", options=model), seed=seed, stages=stages,
    )  # fmt: skip


VIDEOS: dict[str, Any] = {"code": 16, "state": 24, "modes": 5, "likelihood": "gaussian", "pixel_scale": 0.1}


def videos(size: str, options: dict[str, Any], *, seed: int = 0) -> Run:
    """The run on a folder of videos; options: how they are read."""
    frozen, rest = {"quick": (30, 60), "laptop": (500, 5500), "paper": (1000, 29_000)}[size]
    frames = {"size": options.get("size", 64), "channels": 1 if options.get("grey") else 3}
    model = {**VIDEOS, **frames, **({} if size == "paper" else {"width": 24})}
    stages = _stages(frozen, rest, rate=0.003, to=0.1, batch=8)
    data, made = Part(name="videos", options=options), Part(name="kvae", options=model)
    return Run(recipe="kvae/videos", data=data, model=made, seed=seed, stages=stages)


def of(data: Part, size: str, *, seed: int = 0, group_by: str | None = None) -> Run:
    """The run on this data, whatever the clips are grouped by. Raises UserError for data that there are no settings for."""
    if data.name in ("videos", "mug"):
        return videos(size, data.options, seed=seed).model_copy(update={"recipe": f"kvae/{data.name}", "data": data})
    if data.name not in WORLDS:
        raise UserError(f"videos, or one of mug, {', '.join(WORLDS)} for a KVAE", repr(data.name))
    return world(data.name, size, seed=seed)


def _stages(frozen: int, rest: int, *, rate: float = 0.007, to: float, batch: int = BATCH) -> tuple[Stage, ...]:
    """Steps without and with the network of the dynamics. Adam, gradients clipped at 150, pixels weighted by 0.3.

    to: the part of the learning rate that is left at the end. The published rate falls by a step every 20 epochs; ours in a line.
    """
    common: dict[str, Any] = {
        "learning_rate": rate, "clip_norm": 150, "feed": Feed(batch=batch), "schedules": {"reconstruction": constant(0.3)},
    }  # fmt: skip
    first = Stage(name="systems", trains=("vae", "systems"), steps=frozen, **common)
    fall = Schedule(points=((0, 1.0), (1, to)))
    return first, Stage(name="all", trains=("vae", "systems", "dynamics"), steps=rest, decay=fall, **common)


def with_gaps(stage: Stage) -> tuple[Stage, Stage]:
    """A stage in two parts, the second of which, `gaps`, hides frames. Its learning rate falls as it would, all else is constant."""
    assert stage.decay is not None
    last = max(1, round((1 - GAPS_FROM) * stage.steps))
    first = {"steps": stage.steps - last, "decay": stage.decay.between(0, GAPS_FROM)}
    second = {"name": "gaps", "steps": last, "decay": stage.decay.between(GAPS_FROM, 1), "feed": GAPS}
    return stage.model_copy(update=first), stage.model_copy(update=second)


def _sequence(steps: int) -> Stage:
    groups, fall = ("systems", "dynamics"), Schedule(points=((0, 1.0), (1, 0.03)))
    return Stage(
        name="sequence", objective="sequence", trains=groups, steps=steps, learning_rate=0.005, clip_norm=150, decay=fall, feed=GAPS,
    )  # fmt: skip


def _swing(frozen: int, move: int, sharpen: int, settle: int) -> tuple[Stage, ...]:
    """The pendulum: the systems alone, then with their network while pixels are known vaguely, then with pixels as sharp as they can be,
    at last at a small rate, so that the scale of the pixels comes down to where it belongs.

    Pixels begin by weighing next to nothing, so that what is learned first is the coarsest there is to tell, and that is the circle. Sharp
    from the start, frames weigh so much that codes settle in a geometry that no system can follow; and in the end pixels must weigh 1, or a
    learned scale settles at another value than the bound asks for.
    """
    common: dict[str, Any] = {"learning_rate": 0.004, "clip_norm": 150, "feed": Feed(batch=BATCH)}
    faint, weak = {"reconstruction": Schedule(points=((0, 0.02), (1, 0.3)))}, {"reconstruction": constant(0.3)}
    groups = ("vae", "systems", "dynamics")
    rise, fall = {"reconstruction": Schedule(points=((0, 0.3), (0.4, 1.0)))}, Schedule(points=((0.2, 1.0), (1, 0.04)))
    slow: dict[str, Any] = {
        "learning_rate": 0.001, "decay": Schedule(points=((0, 1.0), (1, 0.01))), "feed": Feed(batch=2 * BATCH),
        "schedules": {"reconstruction": constant(1.0)},
    }  # fmt: skip
    return (
        Stage(name="systems", trains=("vae", "systems"), steps=frozen, schedules=faint, **common),
        Stage(name="move", trains=groups, steps=move, schedules=weak, **common),
        Stage(name="sharpen", trains=(*groups, "pixels", "noises"), steps=sharpen, schedules=rise, decay=fall, **common),
        Stage(name="settle", trains=(*groups, "pixels", "noises"), steps=settle, **{**common, **slow}),
    )
