"""Clips at rest: one flat store of uint8 frames and the windows cut from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError


@dataclass(frozen=True)
class ClipSet:
    """N windows of at most `steps` frames over one store of frames.

    frames: (F, C, H, W) uint8, in memory or memory-mapped; windows may overlap, no frame is stored twice. Or (F, D) float, where a
    model has read the frames.
    starts, lengths: (N,) int64; window i is frames[starts[i] : starts[i] + lengths[i]], padded to `steps` and masked.
    labels: factor name -> (N,) int64, -1 where unknown; for metrics, and for the grouping that a user asks for.
    classes: factor name -> names of its classes.
    moving: the factors that tell of movement; the others stay the same whatever moves.
    source: (N,) int64, index into `sources`, the clip (file) that a window comes from.
    controls: (F, U) float, what acts on the scene on its way into each frame of the store; handed out with the frames.
    states: (F, S) float, the true state of the scene at each frame of the store, in the order of `state_names`. For metrics only:
    no batch carries them, `truth` tells them.
    Raises UserError for controls or states that do not go with the frames one by one.
    """

    frames: Tensor
    starts: Tensor
    lengths: Tensor
    steps: int
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: Tensor | None = None
    sources: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()
    controls: Tensor | None = None
    states: Tensor | None = None
    state_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, table in (("controls", self.controls), ("states", self.states)):
            if table is not None and (table.ndim != 2 or len(table) != len(self.frames)):
                raise UserError(f"{name} with one row for each of the {len(self.frames)} frames", f"shape {tuple(table.shape)}")
        width = 0 if self.states is None else self.states.shape[1]
        if len(self.state_names) != width:
            raise UserError(f"{width} names of states, one for each column", f"{len(self.state_names)}: {self.state_names}")

    @classmethod
    def whole(
        cls, frames: Tensor, labels: Mapping[str, Tensor], classes: Mapping[str, tuple[str, ...]], moving: tuple[str, ...] = (), *,
        controls: Tensor | None = None, states: Tensor | None = None, state_names: tuple[str, ...] = (),
    ) -> ClipSet:  # fmt: skip
        """A set of N clips of one length, from uint8 frames (N, T, C, H, W), controls (N, T, U) and true states (N, T, S)."""
        count, steps = frames.shape[:2]
        starts = torch.arange(count) * steps
        return cls(
            frames.flatten(0, 1), starts, torch.full((count,), steps), steps, labels, classes, moving=moving,
            controls=None if controls is None else controls.flatten(0, 1),
            states=None if states is None else states.flatten(0, 1), state_names=state_names,
        )  # fmt: skip

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
        labels = {name: value[pick] for name, value in self.labels.items()}
        return Clips(self.pixels(where, mask), mask, self.controls_at(where, mask), labels)

    def truth(self, index: Tensor | slice | None = None) -> Tensor:
        """True states (B, steps, S) of the windows `index` (int64; all of them by default); NaN behind the end of a short window.

        For metrics only. Raises UserError for a set that does not know them.
        """
        if self.states is None:
            raise UserError("a set that knows the true states of its scenes", "one that does not", "Those that are simulated do.")
        where, mask = self.where(torch.arange(len(self))[slice(None) if index is None else index])
        return self.states[where].masked_fill(~mask[:, :, None], torch.nan)

    def where(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the store of the frames of windows `index`, and which of them are there: both (B, steps)."""
        offset, lengths = torch.arange(self.steps), self.lengths[index, None]
        return self.starts[index, None] + torch.minimum(offset, lengths - 1), offset < lengths

    def pixels(self, where: Tensor, mask: Tensor) -> Tensor:
        """The frames at positions `where` (B, T), (B, T, C, H, W), bytes as floats in [0, 1]; zero where the mask is false."""
        frames = self.frames[where.to(self.frames.device)]
        frames = frames if frames.is_floating_point() else frames.float().div_(255)
        return frames if bool(mask.all()) else frames * mask.to(frames).view(*mask.shape, *[1] * (frames.ndim - 2))

    def controls_at(self, where: Tensor, mask: Tensor) -> Tensor | None:
        """The controls of the frames at positions `where` (B, T), (B, T, U), if there are any; zero where the mask is false."""
        return None if self.controls is None else self.controls[where] * mask[:, :, None]

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
