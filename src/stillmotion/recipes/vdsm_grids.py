"""How the reproductions of VDSM's smaller worlds show what they found: long strips and mixtures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from stillmotion.core.abilities import Model
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Pictures
from stillmotion.recipes.gallery import crossed, pictures
from stillmotion.tasks.codes import encode

SMALL = 32
"""Side of the frames in long strips."""


def long_strip(name: str, title: str, clips: Sequence[Tensor], labels: Sequence[str], note: str = "") -> Pictures:
    """Clips (T, C, H, W), one below the other, all frames from left to right, at half size where they are large."""
    frames = torch.stack(list(clips))
    count, steps = frames.shape[:2]
    while frames.shape[-1] > SMALL:
        frames = avg_pool2d(frames.flatten(0, 1), 2).view(count, steps, *(frames.shape[2], frames.shape[3] // 2, frames.shape[4] // 2))
    return pictures(name, title, frames[:, None], labels, (), note, strip=True)


def mixed(name: str, title: str, model: Model, clips: ClipSet, names: Sequence[str]) -> Pictures:
    """Every identity in every movement, beside and below the clips that they come from."""
    whole = crossed(model, encode(model, clips), clips.clips().frames)
    note = "Row: whose identity. Column: whose movement. The first row and the first column are test clips."
    return pictures(name, title, whole, ("movement of", *names), ("identity of", *names), note)
