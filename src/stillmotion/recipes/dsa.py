"""DSA (Li and Mandt, ICML 2018, and the report on it by Leplae-Arthur and Nichani): complete runs on built-in data and on videos.

Sizes: `quick` shows that it works, `laptop` is made for 2 cores, `paper` has the networks, rate and epochs of the original paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from stillmotion.core.errors import UserError
from stillmotion.recipes.vdsm import COOLING, PATHS_BATCH
from stillmotion.training.schedules import Schedule, constant
from stillmotion.training.settings import Feed, Part, Run, Stage

Size = Literal["quick", "laptop", "paper"]
STAGE = "all"
ALONE = 0.025
"""Of the steps, in which the path learns by itself: what it knows already, the direction of a movement for one, f does not learn again.
Three times as long, and on Sprites the path knows the hair too, where it can tell colours.
"""
STATIC_KL = Schedule(points=((0, 5), (0.1, 1), (0.35, 1), (0.45, 3), (0.55, 3), (0.65, 1)))
PATH_KL = Schedule(points=((0, 0.05), (0.1, 0.5), (0.25, 1), (0.45, 3), (0.55, 3), (0.65, 1)))
"""Weights of the divergences of f and of the path after that: at first both are free to learn, then dear, as much of the path is not
movement, and at the end as they are in the bound.
"""

SCRAMBLED = Schedule(points=((0.3, 0), (0.9, 1)))
"""While the path is alone, the share of the clips that it is read off scrambled: it would not learn to see anything if all were from the
start. After that all are.
"""
CYCLE = Schedule(points=((0.05, 0), (0.2, 1)))
"""Weight of what is lost when codes are decoded with those of other clips and read again."""

PLAIN = constant(1.0)


@dataclass(frozen=True)
class Lessons:
    """What is learned and how. model: options. rate: of Adam. static_kl, path_kl: weights of the divergences, before beta.

    alone: the share of the steps in which the path learns without f. scrambled: colours, where frames are recoloured.
    cycle: weight of codes that are read again. dynamics: steps, after all others, in which the dynamics learn without the rest.
    """

    model: dict[str, Any]
    steps: int
    batch: int = 32
    rate: float = 1e-3
    static_kl: Schedule = STATIC_KL
    path_kl: Schedule = PATH_KL
    alone: float = ALONE
    scrambled: bool = False
    cycle: Schedule | None = None
    dynamics: int = 0
    decay: Schedule | None = COOLING
    clip_norm: float | None = 5000


SMALL: dict[str, Any] = {"backbone": "light", "width": 0.25, "rnn": 128, "prior_cells": 1, "static": 32, "path": 16}
PAPER: dict[str, Any] = {"backbone": "paper", "rnn": 512, "prior_cells": 1}
PUBLISHED = Lessons(PAPER, steps=72_000, batch=25, rate=2e-4, static_kl=PLAIN, path_kl=PLAIN, alone=0, decay=None, clip_norm=None)
"""200 epochs of 9,000 clips. The code with it has a further 300."""
REPORT: dict[str, Any] = {"backbone": "report", "rnn": 512, "prior_cells": 1, "modulated": False, "decoder_width": None}
"""The networks of the report; of its f it tries 256 and 32 numbers."""
BLIND: dict[str, Any] = {
    "pixel_scale": 0.2, "recolour": 1.5, "starts": 64, "modulated": True, "decoder_width": 0.5, "first_pixel": 0.05
}
"""Pixels sharper than the published deviation of 1, so that codes are worth their nats; paths that cannot see colours, and only for these
many starts: to a path that can, they make the colour of a pendulum so cheap that f does not learn it. And a decoder twice as wide as the
encoder, modulated: one of a quarter, plain, blurs the edges of a skin until it is nearer to the next one.
"""
APART: dict[str, Any] = {"scrambled": True, "cycle": CYCLE}
"""Who and how told apart: where frames are recoloured."""
DYNAMICS = 2000
"""Steps of the dynamics alone in the laptop sizes, a few hundredths of a second each, as the states of all clips are read once."""

SPRITES: dict[Size, Lessons] = {
    "quick": Lessons({**SMALL, **BLIND}, steps=60, batch=16, alone=0.0625, dynamics=60, **APART),
    "laptop": Lessons({**SMALL, **BLIND}, steps=8000, batch=16, alone=0.09375, dynamics=DYNAMICS, **APART),
    "paper": PUBLISHED,
}
PENDULA: dict[Size, Lessons] = {
    "quick": Lessons({**SMALL, "likelihood": "bernoulli"}, steps=60, batch=16),
    "laptop": Lessons({**SMALL, "likelihood": "bernoulli"}, steps=3000, batch=16),
    "paper": replace(PUBLISHED, model={**PAPER, "likelihood": "bernoulli"}),
}
REAL: dict[str, Any] = {**SMALL, "path": 32, "pixel_scale": 0.1, "recolour": 1.5}
VIDEOS: dict[Size, Lessons] = {
    "quick": Lessons(REAL, steps=60, batch=10, alone=0.0625, **APART),
    "laptop": Lessons(REAL, steps=6000, batch=10, alone=0.0625, **APART),
    "paper": replace(PUBLISHED, model={**PAPER, "pixel_scale": 0.1}),
}
LESSONS = {"sprites": SPRITES, "pendula": PENDULA, "digits": PENDULA, "mug": VIDEOS, "videos": VIDEOS}


def of(data: Part, size: Size, *, seed: int = 0, group_by: str | None = None) -> Run:
    """The run on this data, whatever the clips are grouped by: DSA reads single clips, in order.

    Raises UserError for data that there are no settings for.
    """
    if data.name not in LESSONS:
        raise UserError(f"videos, or one of {', '.join(name for name in LESSONS if name != 'videos')} for a DSA", repr(data.name))
    return taught(data, LESSONS[data.name][size], seed=seed)


def sprites(size: Size = "laptop", *, beta: float = 1.0, share: float = 1.0, seed: int = 0, **model: Any) -> Run:
    """The run on standard Sprites. beta: on both divergences. share: of the steps. model: options that are changed.

    The path is alone for as many steps whatever the share: in fewer it learns no direction, and f does.
    """
    lessons = SPRITES[size]
    alone = round(lessons.alone * lessons.steps)
    steps = alone + max(1, round(share * (lessons.steps - alone)))
    changed = replace(lessons, model={**lessons.model, **model}, steps=steps, alone=alone / steps)
    return taught(Part(name="sprites"), changed, beta=beta, seed=seed)


def taught(data: Part, lessons: Lessons, *, beta: float = 1.0, seed: int = 0) -> Run:
    """The run of these lessons. beta: a factor on both divergences, all along."""
    frames = {"size": data.options.get("size", 64), "channels": 1 if data.options.get("grey") else 3}
    common: dict[str, Any] = {"learning_rate": lessons.rate, "clip_norm": lessons.clip_norm, "feed": Feed(batch=lessons.batch)}
    static_kl, path_kl = _times(lessons.static_kl, beta), _times(lessons.path_kl, beta)
    alone = round(lessons.alone * lessons.steps)
    first, rest = {"path_kl": constant(path_kl(0))}, {"static_kl": static_kl, "path_kl": path_kl}
    if lessons.scrambled:
        first["scrambled"], rest["scrambled"] = SCRAMBLED, constant(1.0)
    if lessons.cycle is not None:
        rest["cycle"] = lessons.cycle
    stages = [Stage(name="path", objective="path", steps=max(1, alone), schedules=first, **common)] if alone else []
    stages.append(Stage(name=STAGE, steps=max(1, lessons.steps - alone), schedules=rest, decay=lessons.decay, **common))
    if lessons.dynamics:
        # states of the full posterior cannot be read once and for all: every step reads its frames
        batch = lessons.batch if lessons.model.get("posterior") == "full" else 4 * PATHS_BATCH
        last: dict[str, Any] = {"learning_rate": 2e-3, "decay": COOLING, "clip_norm": 1000, "feed": Feed(batch=batch)}
        stages.append(Stage(name="dynamics", objective="dynamics", trains=("dynamics",), steps=lessons.dynamics, **last))
    model = Part(name="dsa", options={**lessons.model, **frames})
    return Run(recipe=f"dsa/{data.name}", data=data, model=model, stages=tuple(stages), seed=seed)


def _times(schedule: Schedule, factor: float) -> Schedule:
    return schedule.model_copy(update={"points": tuple((place, factor * value) for place, value in schedule.points)})
