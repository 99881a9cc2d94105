"""Clips at rest: one flat store of uint8 frames and the windows cut from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.clips import Clips


@dataclass(frozen=True)
class ClipSet:
    """N windows of at most `steps` frames over one store of frames.

    frames: (F, C, H, W) uint8, in memory or memory-mapped; windows may overlap, no frame is stored twice.
    starts, lengths: (N,) int64; window i is frames[starts[i] : starts[i] + lengths[i]], padded to `steps` and masked.
    labels: factor name -> (N,) int64, -1 where unknown; for metrics, and for the grouping that a user asks for.
    classes: factor name -> names of its classes.
    source: (N,) int64, index into `sources`, the clip (file) that a window comes from.
    """

    frames: Tensor
    starts: Tensor
    lengths: Tensor
    steps: int
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: Tensor | None = None
    sources: tuple[str, ...] = ()

    @classmethod
    def whole(cls, frames: Tensor, labels: Mapping[str, Tensor], classes: Mapping[str, tuple[str, ...]]) -> ClipSet:
        """A set of N clips of one length, from uint8 frames (N, T, C, H, W)."""
        count, steps = frames.shape[:2]
        starts = torch.arange(count) * steps
        return cls(frames.flatten(0, 1), starts, torch.full((count,), steps), steps, labels, classes)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.frames.shape[1:])

    def clips(self, index: Tensor | slice | None = None) -> Clips:
        """The windows `index` (int64; all of them by default) as float clips in [0, 1]."""
        pick = torch.arange(len(self))[slice(None) if index is None else index]
        where, mask = self.where(pick)
        return Clips(self.pixels(where, mask), mask, labels={name: value[pick] for name, value in self.labels.items()})

    def where(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the store of the frames of windows `index`, and which of them are there: both (B, steps)."""
        offset, lengths = torch.arange(self.steps), self.lengths[index, None]
        return self.starts[index, None] + torch.minimum(offset, lengths - 1), offset < lengths

    def pixels(self, where: Tensor, mask: Tensor) -> Tensor:
        """The frames at positions `where` (B, T) as floats in [0, 1], (B, T, C, H, W); zero where the mask is false."""
        frames = self.frames[where.to(self.frames.device)].float().div_(255)
        return frames if bool(mask.all()) else frames * mask.to(frames)[:, :, None, None, None]

    def spread(self, count: int) -> ClipSet:
        """At most `count` of the windows, evenly spread."""
        if len(self) <= count:
            return self
        return self.subset(torch.linspace(0, len(self) - 1, count).round().long())

    def subset(self, index: Tensor) -> ClipSet:
        """The windows `index` (int64 or bool), over the same store."""
        labels = {name: value[index] for name, value in self.labels.items()}
        source = None if self.source is None else self.source[index]
        return replace(self, starts=self.starts[index], lengths=self.lengths[index], labels=labels, source=source)


class Splits(NamedTuple):
    """Disjoint sets; which identities or frames are apart is said by each data set."""

    train: ClipSet
    validation: ClipSet
    test: ClipSet
