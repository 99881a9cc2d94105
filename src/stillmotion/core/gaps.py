"""Gaps in clips: where they are, and the straight lines across them."""

from __future__ import annotations

import torch
from torch import Tensor


def runs(missing: Tensor) -> list[tuple[int, int]]:
    """First frame and the frame after the last of each run of true values in (T,) bool, in their order."""
    edges = torch.nn.functional.pad(missing.int(), (1, 1)).diff()
    return list(zip(edges.eq(1).nonzero()[:, 0].tolist(), edges.eq(-1).nonzero()[:, 0].tolist(), strict=True))


def bridge(values: Tensor, mask: Tensor) -> Tensor:
    """Values (B, T, ...) with those that the mask (B, T) lacks on a straight line between the nearest that are there.

    Before the first and behind the last one that is there, that one is held. Rows where nothing is there become zero.
    """
    steps = mask.shape[1]
    place = torch.arange(steps, device=mask.device)
    before = torch.where(mask, place, -1).cummax(1).values
    after = torch.where(mask, place, steps).flip(1).cummin(1).values.flip(1)
    left, right = torch.where(before < 0, after, before), torch.where(after >= steps, before, after)
    share = ((place - left) / (right - left).clamp(min=1)).clamp(0, 1).to(values).view(*mask.shape, *[1] * (values.ndim - 2))
    row = torch.arange(len(mask), device=mask.device)[:, None]
    ends = [torch.where(_like(mask.any(1), values), values[row, end.clamp(0, steps - 1)], 0.0) for end in (left, right)]
    return torch.where(_like(mask, values), values, ends[0].lerp(ends[1], share))


def hold(values: Tensor, mask: Tensor) -> Tensor:
    """Values (B, T, ...) with the last one that was there in the place of each that the mask (B, T) lacks; zero before the first."""
    before = torch.where(mask, torch.arange(mask.shape[1], device=mask.device), -1).cummax(1).values
    row = torch.arange(len(mask), device=mask.device)[:, None]
    return torch.where(_like(before >= 0, values), values[row, before.clamp(min=0)], 0.0)


def _like(flags: Tensor, values: Tensor) -> Tensor:
    """The flags with as many axes as the values."""
    return flags.view(*flags.shape, *[1] * (values.ndim - flags.ndim))
