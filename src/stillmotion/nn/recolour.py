"""Random recolouring of clips, so that what is read from them cannot be colour."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.random import normal, uniform

KNOTS = 5
"""Of the curves, the ends among them."""


def recolour(frames: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each clip (B, T, C, H, W) with one random mix of its channels, gain and offset; all of its frames alike, values kept in [0, 1].

    strength 0 changes nothing; at 1 channels are exchanged freely, gains vary by about 40 % and offsets by 0.15. Beyond 1 each channel goes
    through a random curve too, at 2 through nothing else, so that dark and bright tell no more than colours: edges alone are left.
    """
    clips, channels = frames.shape[0], frames.shape[2]
    identity = torch.eye(channels, device=frames.device)
    mixing = torch.softmax(3 * normal((clips, channels, channels), generator, frames), -1)
    mixing = torch.lerp(identity, mixing, min(strength, 1.0))
    gain = 1 + 0.8 * strength * (uniform((clips, channels, 1), generator, frames) - 0.5)
    offset = 0.3 * strength * (uniform((clips, channels), generator, frames) - 0.5)
    mixed = torch.einsum("bij,btjhw->btihw", mixing * gain, frames)
    mixed = (mixed + offset[:, None, :, None, None]).clamp(0, 1)
    return mixed if strength <= 1 else _bend(mixed, min(strength - 1, 1.0), generator)


def _bend(frames: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Values in [0, 1] through a curve for each clip and channel, linear between knots whose heights are partly (amount) random."""
    clips, _, channels = frames.shape[:3]
    heights = torch.lerp(torch.linspace(0, 1, KNOTS, device=frames.device), uniform((clips, channels, KNOTS), generator, frames), amount)
    place = frames * (KNOTS - 1)
    before = place.floor().clamp(max=KNOTS - 2)
    row = torch.arange(clips * channels, device=frames.device).view(clips, 1, channels, 1, 1) * KNOTS
    left = (row + before).long()
    flat = heights.flatten()
    return torch.lerp(flat[left], flat[left + 1], place - before)
