"""A trained model on the bench: its clips, their codes and what the judge sees of them, each computed once and in streams.

No more than one batch of frames is ever in memory as floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stillmotion.core.abilities import Generates, Model, Remembers, Swaps, require
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.frechet import frechet_floor
from stillmotion.metrics.judge import Judges, Verdicts
from stillmotion.metrics.pooled import pooled
from stillmotion.metrics.quality import WINDOW, psnr, ssim
from stillmotion.recipes.held_out import clusters_of, held_out
from stillmotion.tasks.codes import decode, encode

BATCH = 16
MOST_FITTED = 3000
"""Training clips that probes are fitted on."""
PIXELS = BATCH * 16 * 64 * 64 * 3
"""Floats of frames that a batch may hold."""


class Rebuilt(NamedTuple):
    """Reconstructions of all clips. psnr: (N,), dB. ssim: (N,), NaN for too small frames. verdicts: None without a judge."""

    psnr: Tensor
    ssim: Tensor
    verdicts: Verdicts | None


@dataclass
class Bench:
    """A model in evaluation mode, the splits of its data, and a judge where there is one.

    moving: the factors that tell of movement. low: compute frames and verdicts in bfloat16.
    """

    model: Model
    data: Splits
    judge: Judges | None = None
    moving: tuple[str, ...] = ()
    seed: int = 0
    low: bool = False
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What measures found that is more than one number, by name; for the report."""
    _sampled: dict[str, tuple[Verdicts, Verdicts]] = field(default_factory=dict)
    _generated: dict[str, Verdicts] = field(default_factory=dict)
    _codes: dict[tuple[str, int], Codes] = field(default_factory=dict)

    @cached_property
    def split(self) -> str:
        """The clips that are measured: test, else validation."""
        return held_out(self.data).split

    @property
    def held(self) -> ClipSet:
        return held_out(self.data).clips

    @cached_property
    def labels(self) -> dict[str, Tensor]:
        """Labels of the measured clips for the factors that can be told."""
        return self.told(2)

    def told(self, part: int) -> dict[str, Tensor]:
        """Labels of one of `parts`, of the factors that all of them tell."""
        each = [told(self.parts[0], clips) for clips in self.parts]
        return {factor: labels for factor, labels in each[part].items() if all(factor in others for others in each)}

    @cached_property
    def finest(self) -> list[str]:
        """The factors of which the measured clips show two classes, without those that another one tells.

        The action and direction of a clip tell its action; of two factors that tell one another the first stays.
        """
        labels = self.parts[0].labels
        names = [factor for factor, held in self.labels.items() if len(torch.unique(held[held >= 0])) > 1]

        def spare(k: int, factor: str) -> bool:
            tellers = [(j, g) for j, g in enumerate(names) if g != factor and _tells(labels[g], labels[factor])]
            return any(j < k or not _tells(labels[factor], labels[g]) for j, g in tellers)

        return [factor for k, factor in enumerate(names) if not spare(k, factor)]

    @property
    def judged(self) -> dict[str, Tensor]:
        """Those that the judge tells."""
        return {factor: label for factor, label in self.labels.items() if self.judge is not None and factor in self.judge.classes}

    @cached_property
    def clusters(self) -> Tensor | None:
        """Clips that are not independent: windows of one file, or all clips of one held-out identity."""
        return clusters_of(self.data.train, self.held, self.moving)

    def generator(self, name: str) -> torch.Generator:
        """The noise of one measure, the same whatever else is measured."""
        return torch.Generator().manual_seed(seed_of(self.seed, "evaluate", name))

    @cached_property
    def parts(self) -> tuple[ClipSet, ClipSet, ClipSet]:
        """Clips to fit probes on, to choose them by, and the measured ones; where there are no clips to choose by, some of the first."""
        draw = self.generator("parts")
        train, choose = some(self.data.train, MOST_FITTED, draw), self.data.validation
        if self.split == "validation" or not len(choose):
            tenth = torch.randperm(len(train), generator=draw) < math.ceil(len(train) / 10)
            train, choose = train.subset(~tenth), train.subset(tenth)
        return train, some(choose, MOST_FITTED, draw), self.held

    def codes(self, way: str = "mean", part: int = 2) -> Codes:
        """Codes of one of `parts`, the measured clips by default: posterior means, or samples where `way` is "sample"."""
        key = (way, part)
        if key not in self._codes:
            noise = None if way == "mean" else self._noise(f"codes {part}")
            with self._precision():
                self._codes[key] = encode(self.model, self.parts[part], generator=noise)
        return self._codes[key]

    def poses(self) -> Codes:
        """Codes of the measured clips whose poses are each read off its own frame."""
        with self._precision():
            return encode(self.model, self.held, poses=True)

    def pooled(self, way: str) -> list[dict[str, Tensor]]:
        """One vector of each code of each clip, for each of `parts`."""
        found = []
        for part in range(3):
            codes = self.codes(way, part)
            found.append(pooled(Codes(codes.static, codes.dynamic, codes.path, codes.mask)))
        return found

    @cached_property
    def real(self) -> Verdicts:
        """What the judge says of the real clips."""
        return self.seen(len(self.held), lambda part: self.held.clips(part))

    @cached_property
    def floor(self) -> Figure:
        """The Fréchet distance that a perfect model would get on the judge's features."""
        return frechet_floor(self.real.features, len(self.held), self.generator("frechet floor"), self.clusters)

    @cached_property
    def rebuilt(self) -> Rebuilt:
        """The measured clips, encoded to posterior means and decoded."""
        return self.rebuild(self.codes())

    def rebuild(self, codes: Codes, *, judged: bool = True) -> Rebuilt:
        """The measured clips as decoded from these codes, beside the real ones."""
        parts: list[Rebuilt] = []
        judged = judged and self.judge is not None
        for part in self.batches(len(self.held)):
            real = self.held.clips(part)
            made = self._frames(codes[part])
            verdicts = self._read(Clips(made, real.mask)) if judged else None
            alike = ssim(made, real.frames, real.mask) if min(made.shape[-2:]) >= WINDOW else torch.full((len(part),), torch.nan)
            parts.append(Rebuilt(psnr(made, real.frames, real.mask), alike, verdicts))
        verdicts = Verdicts.cat([part.verdicts for part in parts if part.verdicts is not None]) if judged else None
        return Rebuilt(torch.cat([part.psnr for part in parts]), torch.cat([part.ssim for part in parts]), verdicts)

    def shown(self, codes: Codes) -> Verdicts:
        """What the judge says of the clips decoded from codes."""
        assert codes.path is not None
        return self.seen(codes.path.shape[0], lambda part: self.decoded(codes[part]))

    def swapped(self, pairs: Tensor) -> Verdicts:
        """What the judge says of swaps; pairs (P, 2) are positions of identity and motion among the measured clips."""
        able, codes = require(self.model, Swaps), self.codes()
        return self.seen(len(pairs), lambda part: self.decoded(able.swap(codes[pairs[part, 0]], codes[pairs[part, 1]])))

    def sampled(self, source: str) -> tuple[Verdicts, Verdicts]:
        """What the judge sees with new content on the clips' movement, and with the clips' content in new movement."""
        if source not in self._sampled:
            able, codes, new = require(self.model, Swaps), self.codes(), self.drawn(source, "content and movement")
            self._sampled[source] = (self.shown(able.swap(new, codes)), self.shown(able.swap(codes, new)))
        return self._sampled[source]

    def generated(self, source: str) -> Verdicts:
        """What the judge sees of as many new clips as are measured."""
        if source not in self._generated:
            self._generated[source] = self.shown(self.drawn(source, "generation"))
        return self._generated[source]

    def drawn(self, source: str, name: str) -> Codes:
        """As many new clips as are measured: from the priors, or with `source` "aggregate" from what the model remembers."""
        draw = require(self.model, Generates).generate if source == "prior" else require(self.model, Remembers).recombine
        with torch.inference_mode():
            return draw(len(self.held), self.held.steps, self._noise(f"{name} {source}")).to("cpu")

    def _noise(self, name: str) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(seed_of(self.seed, "evaluate", name))

    def seen(self, count: int, clips: Callable[[Tensor], Clips]) -> Verdicts:
        """What the judge says of `count` clips that are made batch by batch."""
        return Verdicts.cat([self._read(clips(part)) for part in self.batches(count)])

    def batches(self, count: int) -> Iterator[Tensor]:
        """Positions of `count` clips, a batch at a time."""
        frame = int(torch.tensor(self.held.frame_shape).prod()) * self.held.steps
        yield from torch.split(torch.arange(count), max(1, min(BATCH, PIXELS // frame)))

    def decoded(self, codes: Codes) -> Clips:
        """Frames of codes."""
        frames = self._frames(codes)
        mask = codes.mask if codes.mask is not None else torch.ones(frames.shape[:2], dtype=torch.bool)
        return Clips(frames, mask)

    def _frames(self, codes: Codes) -> Tensor:
        with self._precision():
            return decode(self.model, codes)

    def _read(self, clips: Clips) -> Verdicts:
        assert self.judge is not None
        with self._precision():
            return self.judge.read(clips)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.low)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def told(train: ClipSet, clips: ClipSet) -> dict[str, Tensor]:
    """Labels of clips for each factor of which anything can be learned; -1 for classes that no training clip has.

    A factor needs two classes among the training clips, and one of them among these clips.
    """
    found = {}
    for factor, labels in train.labels.items():
        theirs = torch.where(torch.isin(clips.labels[factor], labels), clips.labels[factor], -1)
        if len(torch.unique(labels[labels >= 0])) > 1 and bool((theirs >= 0).any()):
            found[factor] = theirs
    return found


def some(clips: ClipSet, count: int, generator: torch.Generator) -> ClipSet:
    """At most `count` of the clips, drawn: of clips that stand in order, evenly spaced ones may all be of one class."""
    if len(clips) <= count:
        return clips
    return clips.subset(torch.randperm(len(clips), generator=generator)[:count].sort().values)


def _tells(first: Tensor, second: Tensor) -> bool:
    """Whether the class of the first factor (N,) leaves one class of the second, where both are known."""
    known = (first >= 0) & (second >= 0)
    pairs = torch.unique(torch.stack([first, second], 1)[known], dim=0)
    return len(torch.unique(pairs[:, 0])) == len(pairs)
