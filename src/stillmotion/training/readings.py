"""Frames read once: where an objective reads each frame by parameters that never change, a stage need not read it at every step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stillmotion.core.abilities import Reading
from stillmotion.core.clips import Clips
from stillmotion.data.base import ClipSet
from stillmotion.training.settings import Stage

AT_A_TIME = 128
"""Frames that are read together; always the same ones, so that a resumed run has the same rows to the last bit."""


def worth_reading(data: ClipSet, stage: Stage) -> bool:
    """Whether a process would look at more frames in the stage, one by one, than there are."""
    of_each = stage.feed.frames or stage.feed.clips_per_group * data.steps
    return stage.steps * stage.feed.batch * of_each > int(_shown(data).sum())


@torch.no_grad()
def read_once(data: ClipSet, reading: Reading, device: torch.device) -> ClipSet:
    """The same windows over rows (F, D) that `reading` makes of the frames on `device`, zeros for those that no window shows."""
    places = _shown(data).nonzero()[:, 0]
    parts = []
    for part in torch.split(places, AT_A_TIME):
        there = torch.ones(1, len(part), dtype=torch.bool)
        clips = Clips(data.pixels(part[None], there), there.to(data.frames.device))
        parts.append(reading(clips.to(device))[0].float())
    rows = torch.cat(parts)
    table = rows.new_zeros(len(data.frames), rows.shape[1])
    table[places.to(device)] = rows
    return replace(data, frames=table)


def _shown(data: ClipSet) -> Tensor:
    """Which frames of the store are in any of the windows, (F,) bool."""
    edges = torch.zeros(len(data.frames) + 1, dtype=torch.int64)
    edges.index_add_(0, data.starts, torch.ones_like(data.starts))
    edges.index_add_(0, data.starts + data.lengths, -torch.ones_like(data.starts))
    return edges[:-1].cumsum(0) > 0
