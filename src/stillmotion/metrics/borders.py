"""Whose surroundings a clip shows: the colour of its outer border, which no movement inside the frame changes."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import finite

WIDTH = 4
"""Pixels of border at a frame size of 64; other sizes in proportion."""


def border_colour(frames: Tensor, mask: Tensor) -> Tensor:
    """Median colour of the outer border over the frames that are there, (B, T, C, H, W) and (B, T) to (B, C).

    Raises UserError for no clips and for frames that are not numbers.
    """
    size = frames.shape[-1]
    width = max(1, WIDTH * size // 64)
    ring: Tensor = torch.ones(frames.shape[-2:], dtype=torch.bool)
    ring[width:-width, width:-width] = False
    if not len(frames):
        raise UserError("at least one clip", "none")
    borders = [clip[there].transpose(0, 1).flatten(1) for clip, there in zip(frames[..., ring], mask, strict=True)]
    # a median takes no notice of a pixel that is not a number
    finite(torch.stack([border.sum() for border in borders]), "frames")
    medians: Tensor = torch.stack([border.median(1).values for border in borders])
    return medians


def nearer_to_first(colour: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Which border colours (B, C) are nearer (Euclid) to `first` than to `second`: (B,) bool."""
    nearer: Tensor = (colour - first).norm(dim=1) < (colour - second).norm(dim=1)
    return nearer
