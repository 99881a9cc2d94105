"""Batches for training, drawn by position alone: batch k of a stage is the same whether or not the run was ever interrupted."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.training.settings import Feed

SHOWN_FIRST = 3
"""Frames of every clip that are never hidden."""


class Batches:
    """The endless stream of a stage: one permutation of the clips after another, each from (seed, pass)."""

    def __init__(self, data: ClipSet, feed: Feed, seed: int, rank: int = 0, world: int = 1, *, for_good: int | None = None) -> None:
        """for_good: the seed of the frames that are hidden at every turn, those of another stage with this seed; `seed` by default."""
        if not len(data):
            raise UserError("at least one training clip", "none", "Check the splits with `stillmotion data check`.")
        self.data, self.feed, self.seed, self.rank, self.world = data, feed, seed, rank, world
        self.partners = _partners(data, feed.group_by) if feed.group_by else None
        self.shown = _shown(len(data), data.steps, feed.hidden, seed if for_good is None else for_good) if feed.hidden else None
        self._permutation: tuple[int, Tensor] = (-1, torch.empty(0))

    def __call__(self, step: int) -> Clips:
        """The clips of this process at `step`, on the device of the data. They carry no labels, unless the feed is `labelled`."""
        everyone = self.feed.batch * self.world
        anchors = torch.stack([self._at(step * everyone + k) for k in range(everyone)])
        generator = torch.Generator().manual_seed(seed_of(self.seed, "feed", step))
        members = [anchors]
        while self.partners is not None and len(members) < self.feed.clips_per_group:
            members.append(self._apart(anchors, _partner(self.partners, anchors, generator), generator))
        pairs = [self.data.where(member) for member in members]
        where, mask = torch.cat([w for w, _ in pairs], 1), torch.cat([m for _, m in pairs], 1)
        if self.shown is not None:
            mask = mask & self.shown[anchors]
        if self.feed.gaps:
            mask = mask & _without_gaps(mask, self.feed.gaps, torch.Generator().manual_seed(seed_of(self.seed, "gaps", step)))
        if self.feed.frames is not None and self.feed.frames < mask.shape[1]:
            where, mask = _choose(where, mask, self.feed.frames, self.feed.clips_per_group, generator)
        mine = slice(self.rank * self.feed.batch, (self.rank + 1) * self.feed.batch)
        where, mask = where[mine], mask[mine]
        frames = self.data.pixels(where, mask)
        labels = {name: value[anchors[mine]] for name, value in self.data.labels.items()} if self.feed.labelled else {}
        controls = self.data.controls_at(where, mask)
        controls = None if controls is None else controls.to(frames.device)
        return Clips(frames, mask.to(frames.device), controls, labels, self.feed.clips_per_group)

    def _apart(self, anchors: Tensor, picked: Tensor, generator: torch.Generator) -> Tensor:
        """The partners, but others in place of windows that share frames with their anchor, where the class has any that do not."""
        assert self.partners is not None
        order, first, count = self.partners
        for place in self._overlap(anchors, picked).nonzero()[:, 0].tolist():
            anchor = anchors[place]
            group = order[first[anchor] : first[anchor] + count[anchor]]
            free = group[~self._overlap(anchor, group)]
            if len(free):
                picked[place] = free[torch.randint(len(free), (), generator=generator)]
        return picked

    def _overlap(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether windows share frames of the store, bool."""
        starts, ends = self.data.starts, self.data.starts + self.data.lengths
        return (starts[one] < ends[other]) & (starts[other] < ends[one])

    def _at(self, position: int) -> Tensor:
        turn, offset = divmod(position, len(self.data))
        if self._permutation[0] != turn:
            generator = torch.Generator().manual_seed(seed_of(self.seed, "permutation", turn))
            self._permutation = (turn, torch.randperm(len(self.data), generator=generator))
        return self._permutation[1][offset]


def _shown(clips: int, steps: int, hidden: float, seed: int) -> Tensor:
    """Which frames of each clip the model may see, (clips, steps) bool."""
    drawn = torch.rand(clips, steps, generator=torch.Generator().manual_seed(seed_of(seed, "hidden")))
    return (drawn >= hidden) | (torch.arange(steps) < SHOWN_FIRST)


def _without_gaps(mask: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Which frames stay, bool like the mask (B, T), where each clip lacks a share of its own between none and `most`."""
    shares = most * torch.rand(len(mask), 1, generator=generator)
    return (torch.rand(mask.shape, generator=generator) >= shares) | (torch.arange(mask.shape[1]) < SHOWN_FIRST)


def _partners(data: ClipSet, factor: str) -> tuple[Tensor, Tensor, Tensor]:
    """Clips sorted by class, and for each clip the place where its class begins and its size."""
    # last, so that a label which happens to be called clip is not taken for it
    known = {**data.labels, **({"clip": data.source} if data.source is not None else {})}
    if factor not in known:
        names = ", ".join(known) or "none"
        raise UserError("a factor of the data to group by", repr(factor), f"This data has {names}; name factors with --pattern.")
    labels = known[factor]
    # clips of unknown class stay alone: each becomes a class of its own
    own = torch.where(labels < 0, labels.max() + 1 + torch.arange(len(labels)), labels)
    order = own.argsort(stable=True)
    _, inverse, count = torch.unique(own, return_inverse=True, return_counts=True)
    first = count.cumsum(0) - count
    return order, first[inverse], count[inverse]


def _partner(partners: tuple[Tensor, Tensor, Tensor], anchors: Tensor, generator: torch.Generator) -> Tensor:
    """For each anchor another clip of its class; itself where the class has no other."""
    order, first, count = partners
    draw = torch.rand(len(anchors), generator=generator, dtype=torch.float64)
    others = (count[anchors] - 1).clamp(min=1)
    pick = order[first[anchors] + (draw * others).long()]
    last = order[first[anchors] + count[anchors] - 1]
    return torch.where(pick == anchors, last, pick)


def _choose(where: Tensor, mask: Tensor, count: int, clips: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random choice of `count` frames of each group, equally many of each of its clips, in order; those that are there come first."""
    apart = (len(mask), clips, -1)
    places, there, score = where.view(apart), mask.view(apart), torch.rand(mask.shape, generator=generator).view(apart)
    score = score + (~there).float()
    kept = score.argsort(2)[:, :, : count // clips].sort(2).values
    return places.gather(2, kept).flatten(1), there.gather(2, kept).flatten(1)
