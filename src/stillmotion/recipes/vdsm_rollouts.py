"""Pendula that a model rolls on beyond the clips it was trained on: frequency and colour read off the pixels, against the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stillmotion.core.abilities import Decodes, Model, Predicts, Swaps, require
from stillmotion.core.codes import Codes
from stillmotion.core.random import noise_of
from stillmotion.data import pendula
from stillmotion.data.base import ClipSet
from stillmotion.metrics.figure import Figures, share
from stillmotion.metrics.swaps import share_of_pairs
from stillmotion.tasks.codes import encode

LENGTHS = (40, 60)
"""Frames of the paper's pictures of rolled-on pendula."""
LONGEST = max(LENGTHS)
BOUNDS = (5, 2)
"""In per cent of the true frequency, how far off a right one may be. Within 5 % lies, for all amplitudes, one frequency for each speed:
only within 2 % is it asked whether a model knows that wide swings are slower."""
BATCH = 20

_noise = partial(noise_of, "vdsm/pendula")


@dataclass(frozen=True)
class Known:
    """Pendula made for this alone, with the truth behind them. whole: real clips of LONGEST frames. begun: as much as a model may see."""

    swings: pendula.Swings
    whole: ClipSet
    begun: ClipSet

    @classmethod
    def of(cls, clips: int, seen: int, size: int) -> Known:
        """`clips` pendula, balanced over colours and speeds, of which `seen` frames are shown."""
        swings = pendula.draw(clips, steps=LONGEST, generator=_noise("rollouts"))
        labels = {"colour": swings.colour, "speed": swings.speed}
        whole = ClipSet.whole(pendula.render(swings, size), labels, pendula.CLASSES, moving=("speed",))
        return cls(swings, whole, replace(whole, lengths=torch.full_like(whole.lengths, seen), steps=seen))

    def some(self, count: int, turn: int) -> Tensor:
        """Places of a few clips, slow and fast ones by turns; others at every turn."""
        slow, fast = ((self.swings.speed == speed).nonzero().flatten() for speed in (0, 1))
        least = min(len(slow), len(fast))
        by_turns = torch.stack([slow[:least], fast[:least]], 1).flatten()
        return by_turns[turn * (count + count % 2) :][:count]

    def strangers(self) -> Tensor:
        """For each clip another, (N,), that differs in colour and in speed: whose identity it is given."""
        colour, speed = self.swings.colour, self.swings.speed
        differ = (colour[:, None] != colour) & (speed[:, None] != speed)
        return torch.multinomial(differ.float(), 1, generator=_noise("strangers"))[:, 0]


@dataclass(frozen=True)
class Seen:
    """What the readers see in N clips. angle: (N, T), radians, NaN in frames without a bob. colour: (N,), -1 in clips without one."""

    angle: Tensor
    colour: Tensor

    @classmethod
    def of(cls, model: Model, codes: Codes) -> Seen:
        """In the clips that follow from codes, LONGEST frames of each."""
        return cls._read(roll(model, codes[part], LONGEST) for part in torch.split(torch.arange(_count(codes)), BATCH))

    @classmethod
    def real(cls, clips: ClipSet) -> Seen:
        return cls._read(clips.clips(part).frames for part in torch.split(torch.arange(len(clips)), BATCH))

    @classmethod
    def _read(cls, batches: Any) -> Seen:
        read = [(pendula.read_angle(frames), pendula.read_colour(frames)) for frames in batches]
        return cls(torch.cat([angle for angle, _ in read]), torch.cat([colour for _, colour in read]))

    def frequency(self, first: int, last: int) -> Tensor:
        """As read off frames `first` to `last` (left out), (N,)."""
        return pendula.fit(self.angle[:, first:last]).frequency

    def worst(self, frequency: Tensor) -> Tensor:
        """All clips, (N,) int64, those first whose frequency is farthest from the true one, and before them those without any."""
        error = (pendula.fit(self.angle).frequency / frequency).log().abs()
        return error.nan_to_num(torch.inf).argsort(descending=True, stable=True)

    def astray(self, angle: Tensor) -> Tensor:
        """Mean distance to the true angle (N, T) in each frame, (T,); a frame without a bob counts as one that hangs straight down."""
        return (self.angle.nan_to_num(0) - angle.to(self.angle)).abs().mean(0)


def near(frequency: Tensor, true: Tensor, bound: int) -> Tensor:
    """Whether frequencies (..., N) are less than `bound` per cent from the true ones (N,), bool; one that cannot be read is not."""
    found: Tensor = (frequency / true - 1).abs() < bound / 100
    return found


def by_speed_alone(swings: pendula.Swings, bound: int) -> Tensor:
    """Which clips are right, (N,) bool, where each speed has one frequency for all amplitudes: that which is right most often."""
    hits = torch.zeros(len(swings.speed), dtype=torch.bool)
    for speed in torch.unique(swings.speed):
        these = swings.speed == speed
        true = swings.frequency[these]
        # the best one may as well lie at the far end of what is right for some clip
        tried = near((1 + bound / 100 - 1e-9) * true[:, None], true, bound)
        hits[these] = tried[tried.sum(1).argmax()]
    return hits


@torch.inference_mode()
def roll(model: Model, codes: Codes, steps: int) -> Tensor:
    """Clips (B, steps, C, H, W) that go on where those of the codes end; by means, nothing is drawn."""
    device = next(model.parameters()).device
    on = require(model, Predicts).predict(codes.to(device), steps)
    return require(model, Decodes).decode(on).float().cpu()


def exchanged(model: Model, codes: Codes, identity: Tensor) -> Codes:
    """The movements of all clips on the identities of the clips `identity` (N,)."""
    return require(model, Swaps).swap(codes[identity], codes)


def spans(seen: int) -> dict[str, tuple[int, int]]:
    """The stretches of a clip that are read, by the end of a figure's name: up to a frame, and what no model saw the like of."""
    return {**{str(last): (0, last) for last in (seen, *LENGTHS)}, f"{seen + 1}_to_{LONGEST}": (seen, LONGEST)}


def within(bound: int) -> str:
    """The middle of the name of a figure."""
    return f"frequency_within_{bound}_percent"


class Measured(NamedTuple):
    """astray: how far the angle is off in each frame, radians, by the way that it was made. worst: clips rolled on, the worst first."""

    figures: Figures
    astray: dict[str, list[float]]
    worst: list[int]


def measured(model: Model, known: Known) -> Measured:
    """Pendula rolled on, and swapped ones.

    `rollout_*`: the model's own continuation of a clip. `swap_*`: the movement of a clip on the identity of another one in another
    colour and at another speed; the frequency must be the movement's, the colour the identity's. `real_*`: what the readers make of the
    real clips, which is what a perfect model would get. `rollout_by_speed_alone_*`: what a model could get that knows the speed and not
    the amplitude.
    """
    codes, other, truth = encode(model, known.begun), known.strangers(), known.swings
    rolled, swapped, real = Seen.of(model, codes), Seen.of(model, exchanged(model, codes, other)), Seen.real(known.whole)
    noise, pairs = _noise("figures"), torch.stack([other, torch.arange(len(other))], 1)
    found: Figures = {}
    for name, (first, last) in spans(known.begun.steps).items():
        seen = {way: each.frequency(first, last) for way, each in (("rollout", rolled), ("swap", swapped), ("real", real))}
        for bound in BOUNDS:
            right = {way: near(each, truth.frequency, bound) for way, each in seen.items()}
            counted = {way: share_of_pairs(hits, pairs, noise) if way == "swap" else share(hits, noise) for way, hits in right.items()}
            found |= {f"{way}_{within(bound)}_{name}": figure for way, figure in counted.items()}
    found |= {f"rollout_by_speed_alone_within_{bound}_percent": share(by_speed_alone(truth, bound), noise) for bound in BOUNDS}
    found["rollout_colour_accuracy"] = share(rolled.colour == truth.colour, noise)
    found["swap_colour_accuracy"] = share_of_pairs(swapped.colour == truth.colour[other], pairs, noise)
    found["real_colour_accuracy"] = share(real.colour == truth.colour, noise)
    both = near(swapped.frequency(0, LONGEST), truth.frequency, BOUNDS[0]) & (swapped.colour == truth.colour[other])
    found["swap_both_accuracy"] = share_of_pairs(both, pairs, noise)
    still = Seen(torch.zeros_like(rolled.angle), rolled.colour)
    ways = {"rolled on": rolled, "swapped": swapped, "real, as read": real, "a bob that hangs still": still}
    return Measured(
        found, {label: seen.astray(truth.angle).tolist() for label, seen in ways.items()}, rolled.worst(truth.frequency).tolist()
    )


def _count(codes: Codes) -> int:
    assert codes.static is not None
    return len(codes.static)
