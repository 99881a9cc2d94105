"""Random recolouring of clips, so that what is read from them cannot be colour."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.random import normal, uniform


def recolour(frames: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each clip (B, T, C, H, W) with one random mix of its channels, gain and offset; all of its frames alike, values kept in [0, 1].

    strength 0 changes nothing; at 1 channels are exchanged freely, gains vary by about 40 % and offsets by 0.15.
    """
    clips, channels = frames.shape[0], frames.shape[2]
    identity = torch.eye(channels, device=frames.device)
    mixing = torch.softmax(3 * normal((clips, channels, channels), generator, frames), -1)
    mixing = torch.lerp(identity, mixing, min(strength, 1.0))
    gain = 1 + 0.8 * strength * (uniform((clips, channels, 1), generator, frames) - 0.5)
    offset = 0.3 * strength * (uniform((clips, channels), generator, frames) - 0.5)
    mixed = torch.einsum("bij,btjhw->btihw", mixing * gain, frames)
    return (mixed + offset[:, None, :, None, None]).clamp(0, 1)
