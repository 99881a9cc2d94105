"""Clips in other colours or without outlines, so that what is read from them can be neither."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from stillmotion.core.random import normal, uniform

TURNS = 0.75
"""Standard deviation of how often a scrambled channel goes up and down while one channel of the clip goes from 0 to 1."""


def disguise(
    frames: Tensor, strength: float, weights: Mapping[str, float], generator: torch.Generator | None, coarse: int = 1
) -> Tensor | None:
    """The frames (B, T, C, H, W) that a motion is read from in training; None: as they are, which without a generator they always are.

    They are recoloured with this strength, the share `scrambled` of the weights scrambled, and without what is finer than squares of
    `coarse` pixels. weights: of the loss, by name.
    """
    if generator is None or not (strength or coarse > 1):
        return None
    told = recolour(frames, strength, generator, weights.get("scrambled", 0.0)) if strength else frames
    return coarsen(told, coarse) if coarse > 1 else told


def coarsen(frames: Tensor, side: int) -> Tensor:
    """Clips (B, T, C, H, W) drawn, between their middles, from the means of squares of side x side pixels: where things are remains, which
    outline they have is lost. side divides H and W, which who asks for it has to see to.
    """
    pictures = frames.flatten(0, 1)
    means = F.avg_pool2d(pictures, side)
    return F.interpolate(means, size=pictures.shape[-2:], mode="bilinear", align_corners=False).reshape(frames.shape)


def recolour(frames: Tensor, strength: float, generator: torch.Generator, scrambled: float = 0.0) -> Tensor:
    """Each clip (B, T, C, H, W) in other colours, all of its frames alike, values kept in [0, 1].

    Mostly by one random mix of its channels, gain and offset: strength 0 changes nothing; at 1 channels are exchanged freely, gains vary
    by about 40 % and offsets by 0.15. What was dark stays darker than what was not. scrambled: the share of clips that are scrambled in
    place of that, see `scramble`.
    """
    clips, channels = frames.shape[0], frames.shape[2]
    identity = torch.eye(channels, device=frames.device)
    mixing = torch.softmax(3 * normal((clips, channels, channels), generator, frames), -1)
    mixing = torch.lerp(identity, mixing, min(strength, 1.0))
    gain = 1 + 0.8 * strength * (uniform((clips, channels, 1), generator, frames) - 0.5)
    offset = 0.3 * strength * (uniform((clips, channels), generator, frames) - 0.5)
    mixed = (_mixed(frames, mixing * gain) + offset[:, None, :, None, None]).clamp(0, 1)
    if not scrambled:
        return mixed
    pick = uniform((clips,), generator, frames) < scrambled
    return torch.where(pick[:, None, None, None, None], scramble(frames, generator), mixed)


def scramble(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Each clip (B, T, C, H, W) in colours that tell nothing of what they were, edges apart: 1/2 + 1/2 sin 2 pi (W x + b).

    W (C, C) from N(0, TURNS^2) and b from U(0, 1), drawn once per clip: what a colour becomes, by itself, has the same distribution
    whatever it was, so that neither its hue nor whether it is bright or dark can be read off the result.
    """
    clips, channels = frames.shape[0], frames.shape[2]
    turns = TURNS * normal((clips, channels, channels), generator, frames)
    start = uniform((clips, channels), generator, frames)
    phase = _mixed(frames, turns) + start[:, None, :, None, None]
    return 0.5 + 0.5 * torch.sin(2 * torch.pi * phase)


def _mixed(frames: Tensor, mixing: Tensor) -> Tensor:
    return torch.einsum("bij,btjhw->btihw", mixing, frames)
