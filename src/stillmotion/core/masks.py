"""Sums and means over the frames that are there."""

from __future__ import annotations

import torch
from torch import Tensor


def total(per_frame: Tensor, mask: Tensor) -> Tensor:
    """Sum over the frames that are there, (B, T) to (B,)."""
    return torch.where(mask, per_frame, 0.0).sum(1)


def average(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the frames that are there, (B, T, D) to (B, D); 0 where there are none. What is not there may be anything, NaN too."""
    there = mask[..., None]
    mean: Tensor = torch.where(there, values, 0.0).sum(1) / there.sum(1).clamp(min=1)
    return mean


def until_last(mask: Tensor) -> Tensor:
    """True up to the last frame that is there, (B, T): a state that no frame shows still counts where later ones depend on it."""
    return mask.flip(1).cummax(1).values.flip(1)
