"""Missing frames of a clip, filled in by a model, and the cross-fade that a model must beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Imputes, Predicts, Swaps, require
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.core.gaps import bridge, hold, runs
from stillmotion.tasks.clips import reconstruct
from stillmotion.tasks.codes import clip_part, decode, encode

Detail = Literal["static", "fade", "none"]
REACH = 512
"""Frames around a gap that a model without clip-wide codes sees: a state that goes from frame to frame forgets what lies farther off."""


@dataclass(frozen=True)
class Told:
    """What a model says of frames that nobody saw.

    frames: (1, T, C, H, W) in [0, 1], by posterior means. samples: (N, T, C, H, W), one draw of all unseen frames each; the frames that
    were seen are in both as they were.
    """

    frames: Tensor
    samples: Tensor

    @property
    def spread(self) -> Tensor | None:
        """Standard deviation of each pixel over the samples, (T, C, H, W); zero where a frame was seen, None of fewer than two samples."""
        return self.samples.std(0) if len(self.samples) > 1 else None


class Window(NamedTuple):
    """Frames `first` to `last`, that one left out, which are shown to a model at once, and the gaps that it fills from them."""

    first: int
    last: int
    gaps: list[tuple[int, int]]


def impute(
    model: nn.Module, clip: Clips, steps: int, *, samples: int = 0, seed: int = 0, past_only: bool = False, detail: Detail = "static"
) -> Told:
    """Fills in the frames that the mask of one clip, of any length, lacks.

    steps: frames that the model was trained on at a time. A model with codes of a clip as a whole sees so many, more where a gap is too
    long for that; others see up to 512. past_only: from the frames before each gap alone. samples, seed: draws from the posterior.
    detail: what is added to the model's picture, see `lacking`.
    Raises MissingAbility, and UserError for more than one clip and for a clip without a frame.
    """
    able = require(model, Imputes)
    _check(clip)
    filled = clip.frames.repeat(1 + samples, 1, 1, 1, 1)
    noise = torch.Generator(_device(model)).manual_seed(seed)
    for first, last, gaps in windows(~clip.mask[0], _seen_at_once(model, steps), past_only):
        part = clip_part(clip, first, last)
        extra = lacking(model, part, detail)
        for generator, place in ((None, slice(0, 1)), (noise, slice(1, None))):
            count = len(filled[place])
            if count:
                with torch.inference_mode():
                    told = able.impute(_copies(part, count).to(_device(model)), generator, past_only).float().cpu()
                for start, end in gaps:
                    inside = slice(start - first, end - first)
                    filled[place, start:end] = (told[:, inside] + extra[:, inside]).clamp(0, 1)
    return Told(filled[:1], filled[1:])


def predict(model: nn.Module, clip: Clips, steps: int, ahead: int, *, samples: int = 0, seed: int = 0, detail: Detail = "static") -> Told:
    """One clip, and the `ahead` frames behind its end: T + ahead frames in all.

    steps, samples, seed, detail: as for `impute`. Controls of the clip may reach beyond its frames, and then act on those predicted.
    Raises MissingAbility, and UserError for frames that are missing and where no frame is asked for.
    """
    able, given = require(model, Predicts), clip.frames.shape[1]
    require(model, Decodes)
    _check(clip)
    if ahead < 1 or not bool(clip.mask.all()):
        raise UserError("a whole clip and at least one frame to predict", f"{ahead} frames after one that lacks {int((~clip.mask).sum())}")
    first = max(0, given - _seen_at_once(model, steps))
    part = clip_part(clip, first, given)
    extra = lacking(model, part, detail)[:, -1:]
    noise = torch.Generator(_device(model)).manual_seed(seed)

    def rolled(count: int, generator: torch.Generator | None) -> Tensor:
        codes = encode(model, _copies(part, count), generator=generator)
        if clip.controls is not None:
            codes = replace(codes, controls=clip.controls[:, first:].expand(count, -1, -1))
        with torch.inference_mode():
            longer = able.predict(codes.to(_device(model)), part.frames.shape[1] + ahead, generator)
        after = (_frames_after(model, longer, part.frames.shape[1]) + extra).clamp(0, 1)
        return torch.cat([clip.frames.expand(count, -1, -1, -1, -1), after], 1)

    empty = clip.frames[:0, :1].expand(0, given + ahead, -1, -1, -1)
    return Told(rolled(1, None), rolled(samples, noise) if samples else empty)


def cross_fade(clip: Clips) -> Tensor:
    """The frames with each gap faded linearly from the frame before it to the frame after it; at the ends the nearest frame is held."""
    return bridge(clip.frames, clip.mask)


def last_held(clip: Clips) -> Tensor:
    """The frames with the last one before it in each gap; black before the first. What filling in from the past must beat."""
    return hold(clip.frames, clip.mask)


def lacking(model: nn.Module, clip: Clips, detail: Detail) -> Tensor:
    """What the model's own picture of a clip lacks, (1, T, C, H, W): frames that are there less the same as the model decodes them.

    A model that saw few clips blurs what stands still, and would lose to a cross-fade by that alone. static: the median over all frames,
    of each pixel, which leaves what moves to the model. fade: across a gap, from what the frame before it lacks to what the frame after
    it lacks, so that the model tells how the picture departs from a cross-fade; safer where it knows little of what moves, but what moves
    leaves ghosts. none: nothing; nor of models that do not decode.
    """
    able = isinstance(model, Decodes) and isinstance(model, Encodes | EncodesFrames)
    if detail == "none" or not able or not bool(clip.mask.any()):
        return torch.zeros_like(clip.frames)
    rest = clip.frames - reconstruct(model, clip, poses=isinstance(model, EncodesFrames))
    if detail == "fade":
        return bridge(rest, clip.mask)
    return rest[clip.mask].median(0).values.expand_as(rest)


def windows(missing: Tensor, length: int, past_only: bool) -> Iterator[Window]:
    """Parts of a clip such that each gap in `missing` (T,) bool lies in one, with a quarter of its length on both sides where there is.

    They have `length` frames, more where a gap needs it. past_only: one for each gap, which ends with it.
    """
    gaps, total, margin = runs(missing), len(missing), max(1, length // 4)
    while gaps:
        start, end = gaps[0]
        if past_only:
            yield Window(max(0, end - max(length, end - start + margin)), end, [gaps.pop(0)])
            continue
        size = min(total, max(length, end - start + 2 * margin))
        reach = min(max(0, start - margin), total - size) + size
        inside = [gap for gap in gaps if gap[1] + margin <= reach or reach == total]
        gaps = gaps[len(inside) :]
        middle = (inside[0][0] + inside[-1][1]) // 2
        first = min(max(0, middle - size // 2), total - size)
        yield Window(first, first + size, inside)


def _seen_at_once(model: nn.Module, steps: int) -> int:
    """Codes of a clip as a whole fit clips as long as those they were learned from."""
    return steps if isinstance(model, Swaps) else max(steps, REACH)


def _copies(clip: Clips, count: int) -> Clips:
    index = torch.zeros(count, dtype=torch.int64)
    return clip[index]


def _frames_after(model: nn.Module, codes: Codes, given: int) -> Tensor:
    assert codes.path is not None
    return decode(model, replace(codes, path=codes.path[:, given:], path_posterior=None))


def _check(clip: Clips) -> None:
    if len(clip) != 1:
        raise UserError("one clip", f"{len(clip)}", "Give them one by one.")
    if not bool(clip.mask.any()):
        raise UserError("at least one frame that is there", "a clip of which all frames are missing", "Leave some to go by.")


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
