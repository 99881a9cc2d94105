"""The models that the Kalman VAE is compared with, as complete runs: same data and clips per size, and unless told otherwise
the same frame encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from stillmotion.core.errors import UserError
from stillmotion.recipes import kvae
from stillmotion.recipes.kvae import BATCH, world
from stillmotion.recipes.override import override
from stillmotion.training.schedules import Schedule, constant
from stillmotion.training.settings import Feed, Part, Run, Stage

FRAMES = ("size", "channels", "network", "width", "likelihood", "pixel_scale", "learned_scale")
"""Options of the Kalman VAE that its rivals share. Those that read a code off each frame have as many numbers in it."""
OPTIONS: dict[str, dict[str, Any]] = {
    "ae_rnn": {}, "vae_rnn": {}, "srnn": {}, "dmm": {"hide": 1.0}, "dvbf": {"state": 4, "recognition": "future"},
}  # fmt: skip
"""On balls: frames are to be filled in, so that inference must know gaps, and come from both sides."""
ON_PENDULUM: dict[str, dict[str, Any]] = {
    "dmm": {"state": 3, "controls": 1}, "dvbf": {"state": 3, "controls": 1, "pixel_scale": 0.3},
}  # fmt: skip
"""Three states as published. The DVBF starts from pixels that are known more vaguely (see `_three`)."""
PERCEPTRON: dict[str, Any] = {"network": "dense", "width": 128}
"""Frames read and drawn by two layers of 128 units each. The published numbers of DVBF are of one layer of 128, those of DMM of two, those
of the Kalman VAE's perceptron of two of 25."""
WIDE_NOISES: dict[str, Any] = {"state_noise": 0.08, "code_noise": 0.03, "code_variance": 0.03}
"""The released ones, from which those of a Kalman VAE that is a perceptron start: from small ones its codes say nothing."""
ON_VIDEOS: dict[str, dict[str, Any]] = {
    "ae_rnn": {}, "vae_rnn": {}, "srnn": {"state": 16, "memory": 128}, "dmm": {"state": 24, "hide": 1.0},
    "dvbf": {"state": 16, "recognition": "future"},
}  # fmt: skip
RISING = {"srnn": ("path_kl", 0.2), "dmm": ("path_kl", 0.1), "dvbf": ("inverse_temperature", 0.15)}
"""The schedule of each model with one bound, and where it starts."""
EVEN = 0.4
"""The part of the Kalman VAE's steps with frames that rivals take where it has a long last part with gaps. In the box on one thread these
steps of it take 7.8 minutes and its last stage, without frames, two to three more; SRNN takes 6.0, DMM 4.2, AE-RNN and VAE-RNN, which learn
their sequences for three times the steps again, 3.4."""
STEPS_ON_PENDULUM = {"quick": 12, "laptop": 6000, "paper": 30_000}
"""Steps of the rivals on the pendulum, where the DVBF's have twice as many clips as most of the Kalman VAE's."""
BY_SEQUENCE = ("ae_rnn", "vae_rnn")
"""These learn the sequence of codes by itself, at last with gaps where the Kalman VAE does."""
HIDDEN = {"dvbf": 0.3}
"""The share of frames after the third that training never sees: recognition that reads the future knows gaps only if it has met some."""


def baseline(model: str, name: str, size: str = "laptop", *, seed: int = 0, **options: Any) -> Run:
    """The run of a rival of the Kalman VAE on one of its worlds, with other options. Raises UserError for another model or world."""
    return override(_beside(model, world(name, size, seed=seed), size), {"model": options})


def of(model: str, data: Part, size: str, *, seed: int = 0, group_by: str | None = None) -> Run:
    """The run of a rival on this data, whatever the clips are grouped by. Raises UserError for data that there are no settings for."""
    return _beside(model, kvae.of(data, size, seed=seed), size)


def _beside(model: str, kalman: Run, size: str) -> Run:
    """The rival's run on the data of a Kalman VAE's, with its frame encoder and decoder."""
    name = kalman.data.name
    known = {"torque": ON_PENDULUM, "mug": ON_VIDEOS, "videos": ON_VIDEOS}.get(name, OPTIONS)
    if model not in known:
        raise UserError(f"a rival of the Kalman VAE on {name}: {', '.join(known)}", repr(model))
    common = (*FRAMES, "code") if model in BY_SEQUENCE else FRAMES
    shared = {option: value for option, value in kalman.model.options.items() if option in common}
    gaps = any(stage.name == "gaps" for stage in kalman.stages)
    steps = round(sum(stage.steps for stage in kalman.stages if stage.objective == "loss") * (EVEN if gaps else 1))
    stages = STAGES_ON_PENDULUM[model](model, STEPS_ON_PENDULUM[size]) if name == "torque" else STAGES[model](model, steps)
    if gaps and model in BY_SEQUENCE:
        stages = (*stages[:-1], *kvae.with_gaps(stages[-1]))
    part = Part(name=model, options=shared | known[model])
    return kalman.model_copy(update={"recipe": f"{model}/{name}", "model": part, "stages": stages})


ae_rnn, vae_rnn, srnn, dmm, dvbf = (partial(of, name) for name in ("ae_rnn", "vae_rnn", "srnn", "dmm", "dvbf"))


def pendulum(network: str, size: str = "laptop", *, seed: int = 0) -> Run:
    """The Kalman VAE on the pendulum, with convolutions (conv) or as a perceptron (dense)."""
    options = PERCEPTRON | WIDE_NOISES if network == "dense" else {"network": network}
    return override(world("torque", size, seed=seed), {"model": options})


def ball(name: str, size: str = "laptop", *, seed: int = 0, hidden: float = 0.0, **options: Any) -> Run:
    """The Kalman VAE on a ball world with other options. hidden: the share of frames after the third that training never sees."""
    run = world(name, size, seed=seed)
    feeds = {stage.name: {"feed": {"hidden": hidden}} for stage in run.stages if hidden}
    return override(run, {"model": options, "stages": feeds})


def _fall(to: float) -> Schedule:
    """The learning rate: whole until three tenths of the stage, then in a line to this part of it."""
    return Schedule(points=((0.3, 1.0), (1.0, to)))


def _frames_then_sequence(model: str, steps: int) -> tuple[Stage, ...]:
    """Frames are learned first, and then their sequence for three times as long, which is cheap.

    Codes must lie in order, or no LSTM follows them: so noise, of itself or by a dear divergence, first lets the coarse be told alone.
    """
    common: dict[str, Any] = {"feed": Feed(batch=BATCH), "decay": _fall(0.03), "learning_rate": 5e-3}
    fall = {
        "vae_rnn": {"path_kl": Schedule(points=((0.0, 10.0), (0.4, 1.0)))},
        "ae_rnn": {"code_noise": Schedule(points=((0.0, 1.0), (0.4, 0.0)))},
    }
    frames = Stage(name="frames", objective="frames", trains=("frames",), steps=steps, schedules=fall[model], **common)
    return frames, Stage(name="sequence", objective="sequence", trains=("sequence",), steps=3 * steps, **common)


def _one_bound(model: str, steps: int) -> tuple[Stage, ...]:
    """What keeps the path from being given up (or from ruling everything) is weighed from little up to 1 over the first part."""
    name, low = RISING[model]
    rise = {name: Schedule(points=((0.0, low), (0.4, 1.0)))}
    feed = Feed(batch=BATCH, hidden=HIDDEN.get(model, 0.0))
    common: dict[str, Any] = {"feed": feed, "decay": _fall(0.03), "learning_rate": 2e-3, "clip_norm": 50}
    return (Stage(name="all", steps=steps, schedules=rise, **common),)


def _three(model: str, steps: int) -> tuple[Stage, ...]:
    """DVBF on the pendulum: first the angle is seen, then it is dear to tell and velocity is learned, then pixels become sharp."""
    see, move = max(1, steps // 5), max(1, 2 * steps // 5)
    common: dict[str, Any] = {"learning_rate": 5e-3, "feed": Feed(batch=64)}
    name, low = RISING[model]
    rise, fall = Schedule(points=((0.0, low), (0.36, 1.0))), Schedule(points=((0.0, 1.0), (1.0, 0.1)))
    return (
        Stage(name="see", trains=("states",), steps=see, schedules={name: constant(1.0)}, **common),
        Stage(name="move", trains=("states",), steps=move, schedules={name: constant(low)}, **common),
        Stage(name="sharpen", steps=steps - see - move, schedules={name: rise}, decay=fall, **common),
    )


STAGES: Mapping[str, Callable[[str, int], tuple[Stage, ...]]] = {
    "ae_rnn": _frames_then_sequence, "vae_rnn": _frames_then_sequence, "srnn": _one_bound, "dmm": _one_bound, "dvbf": _one_bound,
}  # fmt: skip
STAGES_ON_PENDULUM: Mapping[str, Callable[[str, int], tuple[Stage, ...]]] = {"dmm": _one_bound, "dvbf": _three}
