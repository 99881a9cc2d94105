"""Where the one bright thing of a clip is, frame by frame, and whether it goes where another goes."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.errors import UserError

HAZE = 0.3
"""Of the brightest pixel: what is fainter belongs to a blurred background."""
DARK = 0.05
"""A frame without a brighter pixel shows nothing."""


def centroids(frames: Tensor) -> Tensor:
    """The centre of light of each frame, (B, T, 2): x to the right and y down, in pixels, (0, 0) the middle of the first pixel.

    frames: (B, T, C, H, W) in [0, 1]. NaN for dark frames. Raises UserError for other tensors.
    """
    if frames.ndim != 5 or not frames.is_floating_point():
        raise UserError("float frames (B, T, C, H, W)", f"{frames.dtype} of shape {tuple(frames.shape)}", "Take them from decode().")
    light = frames.mean(2)
    peak = light.amax((-2, -1), keepdim=True)
    weight = (light - HAZE * peak).clamp(min=0)
    height, width = (torch.arange(side).to(light) for side in light.shape[-2:])
    moments = torch.stack([weight.sum(-2) @ width, weight.sum(-1) @ height], -1)
    return (moments / weight.sum((-2, -1))[..., None]).where(peak[..., 0] >= DARK, torch.nan)


def path_correlation(paths: Tensor, others: Tensor) -> Tensor:
    """Correlation of the places on two paths (B, T, 2), over both axes at once: (B,) in [-1, 1].

    Where a path lies and how far it reaches does not count: see `path_reach`. A frame without a place counts as one in the middle of its
    path; where a path stands still, or is never seen, the correlation is 0. Raises UserError for paths of different shape.
    """
    first, second = _strays(paths, others)
    lengths = first.norm(dim=(1, 2)) * second.norm(dim=(1, 2))
    found: Tensor = ((first * second).sum((1, 2)) / lengths).where(lengths > 0, 0.0)
    return found


def path_reach(paths: Tensor, others: Tensor) -> Tensor:
    """How far each path strays from its middle, as a share of how far the other does: (B,), 1 where they reach equally far.

    Infinite where the other stands still. Raises UserError for paths of different shape.
    """
    first, second = _strays(paths, others)
    found: Tensor = first.norm(dim=(1, 2)) / second.norm(dim=(1, 2))
    return found


def _strays(paths: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Places relative to the middle of their path, zero where they are not known."""
    if paths.shape != others.shape or paths.ndim != 3:
        raise UserError("two sets of paths of one shape (B, T, 2)", f"{tuple(paths.shape)} and {tuple(others.shape)}")
    first, second = ((path - path.nanmean(1, keepdim=True)).nan_to_num(0) for path in (paths, others))
    return first, second
