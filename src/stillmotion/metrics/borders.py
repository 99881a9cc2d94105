"""Whose surroundings a clip shows: the colour of its outer border, which no movement inside the frame changes."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 4
"""Pixels of border at a frame size of 64; other sizes in proportion."""


def border_colour(frames: Tensor) -> Tensor:
    """Median colour of the outer border over all frames, (B, T, C, H, W) to (B, C)."""
    size = frames.shape[-1]
    width = max(1, WIDTH * size // 64)
    ring: Tensor = torch.ones(frames.shape[-2:], dtype=torch.bool)
    ring[width:-width, width:-width] = False
    median: Tensor = frames[..., ring].transpose(1, 2).flatten(2).median(-1).values
    return median


def nearer_to_first(colour: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Which border colours (B, C) are nearer (Euclid) to `first` than to `second`: (B,) bool."""
    return (colour - first).norm(dim=1) < (colour - second).norm(dim=1)
