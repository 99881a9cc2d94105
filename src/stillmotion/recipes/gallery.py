"""Pictures that several reproductions show: test clips of different people in different actions, mixed and drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillmotion.core.abilities import Model
from stillmotion.core.codes import Codes
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Pictures
from stillmotion.recipes.judged_lab import identity_of
from stillmotion.tasks.clips import default_source, generate, swap_grid

SHOWN = 6
CLASSES = ("action_direction", "action")
"""What data sets call what is done, the finest first."""
APART = 4
"""From one shown clip to the next, in the order of the classes: another action in another direction."""
WORDS = {"prior": "prior", "aggregate": "aggregate posterior"}
NOTE = "Test clips of characters never seen."


def showcase(clips: ClipSet, count: int = SHOWN) -> ClipSet:
    """One clip each of so many people, evenly chosen, and of them another action than of the one before, on Sprites in another direction.

    Where someone is not seen at the action whose turn it is, the next action is shown that they are seen at.
    """
    seen, done = clips.labels[identity_of(clips)], clips.labels[class_of(clips)]
    people, classes = torch.unique(seen), torch.unique(done)
    who = people[torch.linspace(0, len(people) - 1, count).round().long()]
    what = APART * torch.arange(count) % len(classes)
    later = (torch.searchsorted(classes, done) - what[:, None]) % len(classes)
    return clips.subset(torch.where(seen == who[:, None], later, len(classes)).argmin(1))


def class_of(clips: ClipSet) -> str:
    """The factor that says what is done."""
    return next(factor for factor in CLASSES if factor in clips.labels)


def names_of(clips: ClipSet) -> tuple[str, ...]:
    """What each clip shows, in words."""
    done = class_of(clips)
    return tuple(clips.classes[done][k] for k in clips.labels[done].tolist())


def crossed(model: Model, codes: Codes, frames: Tensor) -> Tensor:
    """Every identity in every movement, (N + 1, N + 1, T, C, H, W): row = whose identity, column = whose movement.

    codes: of N clips. frames: (N, T, C, H, W), what they are of, which stands in the first row and in the first column.
    """
    grid = swap_grid(model, [codes[k : k + 1] for k in range(len(frames))]).transpose(0, 1)
    top = torch.cat([torch.zeros_like(frames[:1]), frames])
    return torch.cat([top[None], torch.cat([frames[:, None], grid], 1)])


def drawn(name: str, title: str, model: Model, steps: int, note: str, count: int = SHOWN) -> Pictures:
    """New clips: both codes from the priors, and from what the model remembers of training clips."""
    seeds = {(source, draw): seed_of(name, draw) for source in sources(model) for draw in range(2)}
    rows = [generate(model, count, steps, seed, source=source) for (source, _), seed in seeds.items()]
    return pictures(name, title, torch.stack(rows), tuple(WORDS[source] for source, _ in seeds), (), note)


def sources(model: Model) -> tuple[str, ...]:
    """Where new codes can come from."""
    return tuple(dict.fromkeys(("prior", default_source(model))))


def pictures(
    name: str, title: str, frames: Tensor, rows: Sequence[str], columns: Sequence[str], note: str = NOTE, *, strip: bool = False
) -> Pictures:
    """A grid of frames (rows, columns, T, C, H, W) in [0, 1], pixel by pixel."""
    return Pictures(name, title, as_bytes(frames), tuple(rows), tuple(columns), note, scale=1, strip=strip)


def as_bytes(frames: Tensor) -> npt.NDArray[np.uint8]:
    return cast("npt.NDArray[np.uint8]", (255 * frames).round().to(torch.uint8).numpy())
