"""Moving digits swapped: which digit a judge sees, and whether its centre of light goes where that of the motion's clip goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from stillmotion.core.abilities import Model
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.random import noise_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.figure import Figures, mean, share
from stillmotion.metrics.judge import Judges, Verdicts
from stillmotion.metrics.paths import centroids, path_correlation, path_reach
from stillmotion.metrics.swaps import share_of_pairs
from stillmotion.tasks.clips import reconstruct, swap
from stillmotion.tasks.codes import encode

DIGIT = "digit"
FOLLOWED = 0.9
"""A trajectory whose correlation with that of the motion's clip is higher is followed."""
BATCH = 40
BELOW_ALL = 3.0
"""Correlations are apart by 2 at most."""
TURN, SHEAR, SCALE = 0.2, 0.2, 0.15
"""Training digits of the judge are turned (radians), sheared and scaled by at most so much, either way."""

_noise = partial(noise_of, "vdsm/digits")


class Shown(NamedTuple):
    """Of N clips, what they show. verdicts: of the judge. paths: centres of light, (N, T, 2), pixels."""

    verdicts: Verdicts
    paths: Tensor

    @staticmethod
    def of(judge: Judges, frames: Tensor, mask: Tensor) -> Shown:
        return Shown(judge.read(Clips(frames, mask)), centroids(frames))

    @staticmethod
    def cat(parts: list[Shown]) -> Shown:
        return Shown(Verdicts.cat([part.verdicts for part in parts]), torch.cat([part.paths for part in parts]))


@dataclass(frozen=True)
class Seen:
    """Test clips, the same rebuilt, and each with the digit of another clip, identity (N,)."""

    identity: Tensor
    real: Shown
    rebuilt: Shown
    swapped: Shown

    @classmethod
    def of(cls, model: Model, judge: Judges, clips: ClipSet) -> Seen:
        """Raises UserError where the clips show one digit alone."""
        codes, identity = encode(model, clips), strangers(clips.labels[DIGIT])
        real, rebuilt, swapped = list[Shown](), list[Shown](), list[Shown]()
        for part in torch.split(torch.arange(len(clips)), BATCH):
            batch = clips.clips(part)
            real.append(Shown.of(judge, batch.frames, batch.mask))
            rebuilt.append(Shown.of(judge, reconstruct(model, batch), batch.mask))
            swapped.append(Shown.of(judge, swap(model, codes[identity[part]], codes[part]), batch.mask))
        return cls(identity, *map(Shown.cat, (real, rebuilt, swapped)))

    @property
    def correlation(self) -> Tensor:
        """Of the path of each swapped clip with that of the clip whose motion it was given, (N,)."""
        return path_correlation(self.swapped.paths, self.real.paths)

    def kept(self, digit: Tensor) -> Tensor:
        """Whether the judge sees the digit of the identity in the swapped clip, (N,) bool."""
        return self.swapped.verdicts.top(DIGIT) == digit[self.identity]


def strangers(digit: Tensor) -> Tensor:
    """For each clip another (N,) that shows another digit: pairs of one digit would be right without any swap.

    Raises UserError where there is but one digit.
    """
    differ = digit[:, None] != digit
    if not bool(differ.any(1).all()):
        raise UserError("clips of two digits", "one digit alone", "Take more clips.")
    return torch.multinomial(differ.float(), 1, generator=_noise("strangers"))[:, 0]


def measured(seen: Seen, clips: ClipSet) -> Figures:
    """Figures of swaps, of reconstructions, and what the judge makes of the real clips.

    `swap_digit_accuracy`: the identity's digit is seen. `path_correlation_swap`: of the centres of light of the swapped clip and of the
    motion's clip, the mean. `swap_path_followed`: the share of swaps in which it is 0.9 or more. `path_reach_swap`: how far the swapped
    digit wanders, as a share of how far it should. Every test clip lends its motion once.
    """
    digit, noise = clips.labels[DIGIT], _noise("figures")
    pairs = torch.stack([seen.identity, torch.arange(len(digit))], 1)
    kept, followed = seen.kept(digit), seen.correlation >= FOLLOWED
    rebuilt = path_correlation(seen.rebuilt.paths, seen.real.paths)
    return {
        "swap_digit_accuracy": share_of_pairs(kept, pairs, noise),
        "swap_path_followed": share_of_pairs(followed, pairs, noise),
        "swap_digit_and_path_followed": share_of_pairs(kept & followed, pairs, noise),
        "path_correlation_swap": mean(seen.correlation, noise),
        "path_reach_swap": mean(path_reach(seen.swapped.paths, seen.real.paths), noise),
        "rebuilt_digit_accuracy": share(seen.rebuilt.verdicts.top(DIGIT) == digit, noise),
        "rebuilt_path_followed": share(rebuilt >= FOLLOWED, noise),
        "path_correlation_rebuilt": mean(rebuilt, noise),
        "path_reach_rebuilt": mean(path_reach(seen.rebuilt.paths, seen.real.paths), noise),
        "real_digit_accuracy": share(seen.real.verdicts.top(DIGIT) == digit, noise),
    }


# What the judge learns from


def digits_alone(splits: Splits) -> Splits:
    """The splits with no label but the digit."""
    return Splits(*(replace(part, labels={DIGIT: part.labels[DIGIT]}, classes={DIGIT: part.classes[DIGIT]}) for part in splits))


def handwritten(splits: Splits) -> Splits:
    """The splits, with every training clip in another hand: its digit turned, sheared and scaled about its own centre."""
    return splits._replace(train=distorted(splits.train, _noise("hands")))


def distorted(clips: ClipSet, generator: torch.Generator) -> ClipSet:
    """Clips whose digit moves as before and looks alike in all frames of a clip, distorted by amounts drawn for each clip.

    All channels show the first one.
    """
    maps, grey = _maps(len(clips), generator), clips.frames[:, :1]
    frames = grey.new_empty(grey.shape)
    for part in torch.split(torch.arange(len(clips)), BATCH):
        where = clips.where(part)[0]
        every = where.flatten()
        frames[every] = _bent(grey[every], maps[part].repeat_interleave(where.shape[1], 0))
    return replace(clips, frames=frames.expand(-1, clips.frames.shape[1], -1, -1))


def _maps(count: int, generator: torch.Generator) -> Tensor:
    """Where a place of the new image lies in the old one, relative to the centre: (count, 2, 2)."""
    turn, shear, wide, high = (2 * torch.rand(4, count, generator=generator) - 1).unbind(0)
    turn, shear = TURN * turn, SHEAR * shear
    cos, sin, none, one = turn.cos(), turn.sin(), torch.zeros(count), torch.ones(count)
    turned = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    sheared = torch.stack([one, shear, none, one], 1).view(-1, 2, 2)
    scaled = torch.stack([1 + SCALE * wide, none, none, 1 + SCALE * high], 1).view(-1, 2, 2)
    return turned @ sheared @ scaled


def _bent(frames: Tensor, maps: Tensor) -> Tensor:
    """Frames (F, 1, H, W) uint8, each distorted about its centre of light."""
    pixels = frames.float() / 255
    sides = torch.tensor([frames.shape[-1], frames.shape[-2]])
    middle = ((2 * centroids(pixels[None])[0] + 1) / sides - 1).nan_to_num(0)  # in units of half a side, as grid_sample counts
    shift = middle - (maps @ middle[..., None])[..., 0]
    grid = affine_grid(torch.cat([maps, shift[..., None]], 2), list(frames.shape), align_corners=False)
    return (255 * grid_sample(pixels, grid, align_corners=False)).round().byte()


def failures(seen: Seen, clips: ClipSet, count: int) -> list[dict[str, Any]]:
    """The swaps that went worst, plain as JSON: another digit first, then the lowest correlation.

    motion, identity: places among the clips. seen: the class that the judge sees. correlation: of the trajectories.
    """
    wrong = ~seen.kept(clips.labels[DIGIT])
    places = (seen.correlation - BELOW_ALL * wrong).argsort(stable=True)[:count]
    top, correlation = seen.swapped.verdicts.top(DIGIT), seen.correlation
    return [
        {"motion": k, "identity": int(seen.identity[k]), "seen": int(top[k]), "correlation": float(correlation[k])} for k in places.tolist()
    ]


def one_of_each(clips: ClipSet, count: int) -> ClipSet:
    """The first clip of each of `count` digits."""
    classes = torch.unique(clips.labels[DIGIT])
    chosen = classes[torch.linspace(0, len(classes) - 1, min(count, len(classes))).round().long()]
    return clips.subset((clips.labels[DIGIT] == chosen[:, None]).int().argmax(1))
