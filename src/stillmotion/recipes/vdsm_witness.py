"""Clips that stand for one that was held out: what a judge sees in them, and how near they are to the real clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stillmotion.core.abilities import Model
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.random import noise_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.figure import Figures, mean, share
from stillmotion.metrics.judge import Judges, Verdicts
from stillmotion.recipes.vdsm_pairs import Reel, Transfer, aligned, decibel, film, mirrored, pieces, reels
from stillmotion.tasks.clips import swap
from stillmotion.tasks.codes import decode, encode_long

FACTORS = ("action", "person")
Record = dict[str, Any]


@dataclass(frozen=True)
class Witness:
    """A judge, and the splits of which it saw the training clips."""

    judge: Judges
    splits: Splits
    _real: dict[Reel, Verdicts] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Frames of the windows in which clips are read."""
        return self.splits.train.steps

    def sees(self, frames: Tensor) -> Verdicts:
        """The verdicts on the windows of a clip (L, C, H, W); each shares half of its frames with the next."""
        windows = pieces(frames, self.steps, max(1, self.steps // 2))
        return self.judge.read(Clips(windows, torch.ones(windows.shape[:2], dtype=torch.bool)))

    @cached_property
    def far(self) -> float:
        """Distance between the features of real training clips that share neither person nor action: the median."""
        known = reels(self.splits.train)
        seen = torch.stack([self.sees(film(self.splits.train, reel).frames[0]).features.mean(0) for reel in known])
        apart = torch.cdist(seen, seen)
        strange = torch.tensor([[a.person != b.person and a.action != b.action for b in known] for a in known])
        return float(apart[strange].median())

    def record(self, frames: Tensor, held: Reel, clips: ClipSet) -> Record:
        """What is found of a clip (L, C, H, W) that stands for the held-out one, which lies in `clips`. Plain as JSON.

        action, person: whether the judge is right on the clip, by the mean of its log-probabilities over the windows; `*_windows`:
        window by window. sure: the mean probability of the right action and person together. psnr: in dB, over windows side by side,
        each against that stretch of the real clip which fits best. distance: between the mean features of the judge, as a share of
        `far`.
        """
        real = film(clips, held).frames[0]
        seen, truth = self.sees(frames), {factor: clips.classes[factor].index(getattr(held, factor)) for factor in FACTORS}
        if held not in self._real:
            self._real[held] = self.sees(real)
        logs = {factor: seen.probabilities(factor).log() for factor in FACTORS}
        errors, _ = aligned(pieces(frames, self.steps, self.steps), real)
        apart = (seen.features.mean(0) - self._real[held].features.mean(0)).norm()
        return {
            "held": [held.person, held.action],
            **{factor: int(logs[factor].mean(0).argmax()) == truth[factor] for factor in FACTORS},
            **{f"{factor}_windows": (seen.top(factor) == truth[factor]).tolist() for factor in FACTORS},
            "sure": float(torch.stack([logs[factor][:, truth[factor]] for factor in FACTORS]).sum(0).exp().mean()),
            "psnr": float(decibel(errors).mean()),
            "distance": float(apart) / self.far,
        }


@dataclass(frozen=True)
class Maker:
    """A trained model, and the splits of its run."""

    model: Model
    splits: Splits
    _codes: dict[tuple[str, Reel], Codes] = field(default_factory=dict)

    def codes(self, split: str, reel: Reel) -> Codes:
        """Of a whole clip, read in windows of as many frames as the model was trained on."""
        if (split, reel) not in self._codes:
            clips: ClipSet = getattr(self.splits, split)
            self._codes[split, reel] = encode_long(self.model, film(clips, reel), clips.steps)
        return self._codes[split, reel]

    def transferred(self, transfer: Transfer) -> Tensor:
        """The clip (L, C, H, W), as long as the one that its motion is from."""
        return swap(self.model, self.codes("train", transfer.identity), self.codes("train", transfer.motion))[0]

    def rebuilt(self, held: Reel) -> Tensor:
        """The held-out clip through its own codes, which the model was never trained on."""
        return decode(self.model, self.codes("test", held))[0]


KINDS = {
    "transfer": "transferred", "rebuilt": "held-out clip, rebuilt from its own codes", "real": "held-out clip itself",
    "identity_source": "clip that the identity is from",
}  # fmt: skip
"""What stands for a held-out clip, and its name in tables."""


def evidence(witness: Witness, maker: Maker, found: Sequence[Transfer]) -> dict[str, list[Record]]:
    """By the keys of KINDS, a record of every transfer, of every held-out clip, and of every clip that lends an identity."""
    test, train = maker.splits.test, maker.splits.train
    lent = dict.fromkeys((transfer.held, transfer.identity) for transfer in found)
    held = list(dict.fromkeys(transfer.held for transfer in found))
    return {
        "transfer": [
            {"from": [each.identity.action, each.motion.person], **witness.record(maker.transferred(each), each.held, test)}
            for each in found
        ],
        "rebuilt": [witness.record(maker.rebuilt(reel), reel, test) for reel in held],
        "real": [witness.record(film(test, reel).frames[0], reel, test) for reel in held],
        "identity_source": [witness.record(film(train, own).frames[0], reel, test) for reel, own in lent],
    }


def figures(testified: dict[str, list[Record]]) -> Figures:
    """`KIND_action_accuracy`, `KIND_psnr` and so on; what was made in the place of one held-out clip is drawn together.

    The PSNR of the real clip against itself is left out.
    """
    return {name: figure for kind, records in testified.items() for name, figure in _figures(kind, records)}


def _figures(kind: str, records: Sequence[Record]) -> Iterator[tuple[str, Any]]:
    noise = noise_of("vdsm/weizmann", kind)
    names = [tuple(record["held"]) for record in records]
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    clusters = torch.tensor([order[name] for name in names])
    hits = {factor: torch.tensor([record[factor] for record in records]) for factor in FACTORS}
    for name, hit in {**hits, "both": hits["action"] & hits["person"]}.items():
        yield f"{kind}_{name}_accuracy", share(hit, noise, clusters)
    for factor in FACTORS:
        windows = [record[f"{factor}_windows"] for record in records]
        every = torch.tensor([hit for hits_of_one in windows for hit in hits_of_one])
        yield f"{kind}_window_{factor}_accuracy", share(every, noise, clusters.repeat_interleave(torch.tensor([*map(len, windows)])))
    if kind != "real":
        yield f"{kind}_psnr", mean(torch.tensor([record["psnr"] for record in records]), noise, clusters)
        yield f"{kind}_feature_distance", mean(torch.tensor([record["distance"] for record in records]), noise, clusters)


def lessons_of(splits: Splits) -> Splits:
    """What the judge learns from: the training clips as they are and in a mirror."""
    return splits._replace(train=mirrored(splits.train))
