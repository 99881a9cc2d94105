"""Clips whose truth is known, and what codes, judges and decoders may make of them: the samples that the law book measures.

They have two factors, `who` of 4 classes and `what` of 3, which moves; all 12 combinations come equally often.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.metrics.judge import Verdicts
from stillmotion.testing.metric_laws import Sample

CLIPS = 288
CLASSES = {"who": 4, "what": 3}
MOVING = ("what",)
SURE = 20.0
"""The logit of what a judge says; that of all other classes is its negative."""

Noise = torch.Generator
Maker = Callable[[str, Noise], Sample]


def labels() -> dict[str, Tensor]:
    """who and what of the clips."""
    row = torch.arange(CLIPS)
    return {"who": row % 4, "what": row // 4 % 3}


def verdicts(*read: str) -> Maker:
    """Labels, `real_` verdicts on the clips, which are always right, and `shown_` ones on what a model made of them; of these, `read`.

    Of what was made, the judge says ideally the truth; useless: any class, unsure: all classes alike, collapsed: always the first.
    shuffled: the truth of one clip is compared with what was made of another.
    """

    def make(situation: str, noise: Noise) -> Sample:
        truth, shown = labels(), {factor: _shown(situation, factor, noise) for factor in CLASSES}
        if situation == "shuffled":
            mixed = torch.randperm(CLIPS, generator=noise)
            truth = {factor: value[mixed] for factor, value in truth.items()}
        real = {f"real_{factor}": _sure(value, CLASSES[factor]) for factor, value in truth.items()}
        everything = truth | real | {f"shown_{factor}": value for factor, value in shown.items()}
        return {name: everything[name] for name in read}

    return make


def pairs(situation: str, noise: Noise) -> Sample:
    """Swapped clips: `shown_` verdicts on each, `identity_` and `motion_` labels of the two that it was made of, and which these are."""
    pair = torch.stack([torch.arange(CLIPS), torch.randperm(CLIPS, generator=noise)], 1)
    both = {f"{side}_{factor}": value[pair[:, k]] for k, side in enumerate(("identity", "motion")) for factor, value in labels().items()}
    shown = {"who": both["identity_who"], "what": both["motion_what"]}
    if situation == "cheat":
        shown["who"] = both["motion_who"]
    if situation == "useless":
        shown = {factor: torch.randint(CLASSES[factor], (CLIPS,), generator=noise) for factor in shown}
    return {**both, "pair": pair, **{f"shown_{factor}": _sure(value, CLASSES[factor]) for factor, value in shown.items()}}


def resampled(situation: str, noise: Noise) -> Sample:
    """Verdicts on clips whose movement was drawn anew; ideally `who` stays, and `what` is right once in three times."""
    if situation == "useless":
        return verdicts("who", "what", "shown_who", "shown_what")(situation, noise)
    truth = labels()
    what = truth["what"] if situation == "copied" else torch.arange(CLIPS) // 12 % 3
    return {**truth, "shown_who": _sure(truth["who"], 4), "shown_what": _sure(what, 3)}


def numbers(situation: str, noise: Noise) -> Sample:
    """Codes of one number for each factor, for training clips and held-out ones; useless codes are four random numbers."""
    return _coded(lambda truth: torch.stack([truth["who"], truth["what"]], 1).float(), situation, noise)


def one_part(situation: str, noise: Noise) -> Sample:
    """The held-out clips of `numbers` alone, for metrics that fit nothing."""
    return {name: value for name, value in numbers(situation, noise).items() if name.startswith("test_")}


def blocks(situation: str, noise: Noise) -> Sample:
    """Codes of one number for each class of each factor, one-hot."""
    return _coded(lambda truth: torch.cat([F.one_hot(truth[factor], CLASSES[factor]) for factor in truth], 1).float(), situation, noise)


def parted(situation: str, noise: Noise) -> Sample:
    """The codes of `blocks` as a static and a dynamic one; useless ones have two random numbers each."""
    sample = dict(blocks(situation, noise))
    widths = {"useless": [2, 2], "duplicated": [4, 3, 4, 3]}.get(situation, [4, 3])
    for part in ("train", "test"):
        pieces = torch.split(sample.pop(f"{part}_codes"), widths, 1)
        sample |= {f"{part}_static": torch.cat(pieces[::2], 1), f"{part}_dynamic": torch.cat(pieces[1::2], 1)}
    return sample


def redrawn(situation: str, noise: Noise) -> Sample:
    """Verdicts after the code of each factor was drawn anew: ideally as often right as a guess, uselessly always."""
    truth, row = labels(), torch.arange(CLIPS)
    shown = truth if situation == "useless" else {"who": row // 12 % 4, "what": row // 12 % 3}
    return {**truth, **{f"shown_{factor}": _sure(value, CLASSES[factor]) for factor, value in shown.items()}}


def features(situation: str, noise: Noise) -> Sample:
    """Features of real clips and of made ones: ideally the same, uselessly all off by 2 in each of 3 directions."""
    real = torch.randn(CLIPS, 3, generator=noise)
    return {"real": real, "made": real + (2 if situation == "useless" else 0)}


def frames(situation: str, noise: Noise) -> Sample:
    """Real clips of black and white pixels, one half of each; made are ideally the same, uselessly grey, shuffled: other clips."""
    real = torch.randint(2, (24, 3, 1, 16, 16), generator=noise).float()
    made = {"ideal": real, "useless": torch.full_like(real, 0.5), "shuffled": real.roll(1, 0)}
    return {"real": real, "made": made[situation].clone()}


def surroundings(situation: str, noise: Noise) -> Sample:
    """Clips of one colour each and those of another; made clips show ideally the first, uselessly either, swapped: the other."""
    first, other = (torch.rand(120, 1, 3, 1, 1, generator=noise).expand(-1, 2, -1, 8, 8).clone() for _ in range(2))
    either = (torch.rand(120, generator=noise) < 0.5)[:, None, None, None, None]
    made = {"ideal": first, "useless": torch.where(either, first, other), "swapped": other}
    return {"first": first, "other": other, "made": made[situation].clone()}


# How metrics read them


def said(sample: Sample, part: str = "shown") -> Verdicts:
    """The verdicts of a sample."""
    logits = {factor: sample[f"{part}_{factor}"] for factor in CLASSES if f"{part}_{factor}" in sample}
    return Verdicts(logits, torch.zeros(len(next(iter(logits.values()))), 1))


def truth_of(sample: Sample, part: str = "") -> dict[str, Tensor]:
    """The labels of a sample."""
    return {factor: sample[f"{part}{factor}"] for factor in CLASSES if f"{part}{factor}" in sample}


# How they are made


def _shown(situation: str, factor: str, noise: Noise) -> Tensor:
    truth, count = labels()[factor], CLASSES[factor]
    if situation == "unsure":
        return torch.zeros(CLIPS, count)
    said = {"useless": torch.randint(count, (CLIPS,), generator=noise), "collapsed": torch.zeros_like(truth)}
    return _sure(said.get(situation, truth), count)


def _sure(said: Tensor, classes: int) -> Tensor:
    return SURE * (2 * F.one_hot(said, classes).float() - 1)


def _coded(code: Callable[[Mapping[str, Tensor]], Tensor], situation: str, noise: Noise) -> Sample:
    sample: dict[str, Tensor] = {}
    for part in ("train", "test"):
        truth = labels()
        codes = torch.randn(CLIPS, 4, generator=noise) if situation == "useless" else code(truth)
        if situation == "duplicated":
            codes = codes.repeat(1, 2)
        if situation == "shuffled":
            truth = {factor: value[torch.randperm(CLIPS, generator=noise)] for factor, value in truth.items()}
        sample |= {f"{part}_codes": codes, **{f"{part}_{factor}": value for factor, value in truth.items()}}
    return sample
