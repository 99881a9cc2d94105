"""Groups of clips that share an identity: taken apart, halved, and read from one another."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stillmotion.core.clips import Clips


def apart(clips: Clips) -> Clips:
    """The clips that were joined, one by one: B groups of J clips of T frames in all to B * J clips of T / J, group by group.

    Labels are left behind: they belong to groups.
    """
    if clips.joined == 1:
        return clips
    frames, mask = (_stretches(value, clips.joined).flatten(0, 1) for value in (clips.frames, clips.mask))
    controls = None if clips.controls is None else _stretches(clips.controls, clips.joined).flatten(0, 1)
    return Clips(frames, mask, controls)


def halves(clips: Clips) -> Clips:
    """Each clip as two joined ones: the earlier half of the frames that are there, the larger one if they are odd, and the later half."""
    order, there = (~clips.mask).long().argsort(dim=1, stable=True), clips.lengths[:, None]
    width, early = (clips.mask.shape[1] + 1) // 2, (there + 1) // 2
    slot = torch.arange(width, device=clips.mask.device)
    place = torch.cat([slot.expand(len(clips), -1), early + slot], 1)
    mask = torch.cat([slot < early, early + slot < there], 1)
    pick, row = order.gather(1, place.clamp(max=order.shape[1] - 1)), torch.arange(len(clips), device=order.device)[:, None]
    controls = None if clips.controls is None else clips.controls[row, pick]
    return replace(clips, frames=clips.frames[row, pick], mask=mask, controls=controls, joined=2)


def from_others(values: Tensor, mask: Tensor, joined: int) -> tuple[Tensor, Tensor]:
    """What the other clips of its group say to each clip.

    values (B * J, T, D) and mask (B * J, T), the clips of each group one after another, to (B * J, J * T, D) and (B * J, J * T). A clip
    whose others have no frame, as one that stands alone, hears itself.
    """
    clip = torch.arange(joined, device=mask.device)
    order = (clip[:, None] + clip + 1) % joined  # for each clip the others, and itself last
    said, there = (value.view(-1, joined, *value.shape[1:])[:, order] for value in (values, mask))
    alone = ~there[:, :, :-1].flatten(2).any(2)
    there = torch.cat([there[:, :, :-1], there[:, :, -1:] & alone[:, :, None, None]], 2)
    return said.flatten(2, 3).flatten(0, 1), there.flatten(2, 3).flatten(0, 1)


def _stretches(value: Tensor, joined: int) -> Tensor:
    """(B, T, ...) to (B, J, T / J, ...)."""
    return value.reshape(value.shape[0], joined, -1, *value.shape[2:])
