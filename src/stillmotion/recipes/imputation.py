"""Imputation error: frames are hidden from a model, which fills them in (Kalman VAE, figures 3a and 3b)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.abilities import Imputes, require
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.metrics.figure import Figure, Figures, mean
from stillmotion.metrics.quality import wrong_pixels
from stillmotion.recipes.bench import Bench

SEEN_FIRST = 4
SHARES = (0.2, 0.5, 0.8)
GAPS = (3, 9, 15)
MOST_CLIPS = 1000
WAYS = {"smooth": False, "filter": True}

Fill = Callable[[Clips], Tensor]
"""Clips whose mask lacks what is hidden -> frames (B, T, C, H, W)."""


class Errors(NamedTuple):
    """values: (M,) float64, the share of wrong pixels of each hidden frame. clip: (M,) int64, the clip that it belongs to."""

    values: Tensor
    clip: Tensor


def imputation(bench: Bench) -> Figures:
    """`imputation_<way>_p50` and `imputation_<way>_n9`: share of wrong pixels in hidden frames, of all test clips of full length.

    way: smooth, from all frames that are there, or filter, from the earlier ones alone. The first four frames are always there. p50: of
    the others each is hidden with probability 0.5. n9: the nine after them are hidden, and the rest is there.
    """
    model, noise = require(bench.model, Imputes), bench.generator("imputation")
    whole = whole_clips(bench.held, MOST_CLIPS)
    found: Figures = {}
    for name, hidden in _hidden(len(whole), whole.steps, noise):
        for way, past_only in WAYS.items():
            errors = hidden_errors(partial(model.impute, past_only=past_only), whole, hidden, bench.batches(len(whole)))
            found[f"imputation_{way}_{name}"] = figure_of(errors, noise, whole.source)
    return found


def whole_clips(clips: ClipSet, most: int) -> ClipSet:
    """At most so many of the clips that have all their frames, evenly spread."""
    return clips.subset(clips.lengths == clips.steps).spread(most)


def hidden_errors(fill: Fill, clips: ClipSet, hidden: Tensor, batches: Iterable[Tensor]) -> Errors:
    """The error of every frame that `hidden` (N, T) bool takes away, in the order of clips and frames.

    batches: positions of the N clips, a batch at a time; clips of which nothing is hidden are not filled in.
    Raises UserError where nothing is hidden of any.
    """
    values, owners = list[Tensor](), list[Tensor]()
    for part in batches:
        index = part[hidden[part].any(1)]
        if not len(index):
            continue
        real, missing = clips.clips(index), hidden[index]
        with torch.inference_mode():
            filled = fill(Clips(real.frames, ~missing, real.controls)).float()
        single = torch.ones(int(missing.sum()), 1, dtype=torch.bool)
        values.append(wrong_pixels(filled[missing][:, None], real.frames[missing][:, None], single))
        owners.append(index.repeat_interleave(missing.sum(1)))
    if not values:
        raise UserError("clips of which a frame is hidden", "none", f"The first {SEEN_FIRST} frames of a clip are always there.")
    return Errors(torch.cat(values), torch.cat(owners))


def figure_of(errors: Errors, noise: torch.Generator, clusters: Tensor | None = None) -> Figure:
    """The mean over hidden frames. Those of one clip, or of one of `clusters` (N,) of clips, are drawn together."""
    found = mean(errors.values, noise, errors.clip if clusters is None else clusters[errors.clip])
    return replace(found, clips=len(torch.unique(errors.clip)))


def random_drops(clips: int, steps: int, share: float, generator: torch.Generator) -> Tensor:
    """Which frames are hidden, (clips, steps) bool: each after the first four with probability `share`.

    From generators of one seed, a larger share hides all that a smaller one does.
    """
    drawn = torch.rand(clips, steps, generator=generator) < share
    drawn[:, :SEEN_FIRST] = False
    return drawn


def middle_gap(clips: int, steps: int, gap: int) -> Tensor:
    """Which frames are hidden, (clips, steps) bool: the `gap` after the first four."""
    hidden = torch.zeros(clips, steps, dtype=torch.bool)
    hidden[:, SEEN_FIRST : SEEN_FIRST + gap] = True
    return hidden


def _hidden(clips: int, steps: int, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Names and which frames are hidden, (clips, steps) bool."""
    for share in SHARES:
        yield f"p{round(100 * share)}", random_drops(clips, steps, share, generator)
    for gap in GAPS:
        if SEEN_FIRST + gap < steps:
            yield f"n{gap}", middle_gap(clips, steps, gap)
