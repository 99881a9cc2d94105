"""Imputation error: frames are hidden from a model, which fills them in (Kalman VAE, figures 3a and 3b)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stillmotion.core.abilities import Imputes, require
from stillmotion.core.clips import Clips
from stillmotion.metrics.figure import Figures, mean
from stillmotion.metrics.quality import wrong_pixels
from stillmotion.recipes.bench import Bench

SEEN_FIRST = 4
SHARES = (0.2, 0.5, 0.8)
GAPS = (3, 9, 15)
MOST_CLIPS = 1000
WAYS = {"smooth": False, "filter": True}


def imputation(bench: Bench) -> Figures:
    """`imputation_<way>_p50` and `imputation_<way>_n9`: share of wrong pixels in hidden frames, of all test clips of full length.

    way: smooth, from all frames that are there, or filter, from the earlier ones alone. The first four frames are always there. p50: of
    the others each is hidden with probability 0.5. n9: the nine after them are hidden, and the rest is there.
    """
    model, noise = require(bench.model, Imputes), bench.generator("imputation")
    whole = bench.held.subset(bench.held.lengths == bench.held.steps).spread(MOST_CLIPS)
    clusters = whole.source
    found: Figures = {}
    for name, hidden in _hidden(len(whole), bench.held.steps, noise):
        kept = hidden.any(1)
        for way, past_only in WAYS.items():
            errors = []
            for part in bench.batches(int(kept.sum())):
                index = kept.nonzero()[part, 0]
                real = whole.clips(index)
                with torch.inference_mode():
                    filled = model.impute(Clips(real.frames, ~hidden[index], real.controls), past_only=past_only)
                errors.append(wrong_pixels(filled.float(), real.frames, hidden[index]))
            found[f"imputation_{way}_{name}"] = mean(torch.cat(errors), noise, None if clusters is None else clusters[kept])
    return found


def _hidden(clips: int, steps: int, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Names and which frames are hidden, (clips, steps) bool."""
    for share in SHARES:
        drawn = torch.rand(clips, steps, generator=generator) < share
        drawn[:, :SEEN_FIRST] = False
        yield f"p{round(100 * share)}", drawn
    for gap in GAPS:
        if SEEN_FIRST + gap < steps:
            hidden = torch.zeros(clips, steps, dtype=torch.bool)
            hidden[:, SEEN_FIRST : SEEN_FIRST + gap] = True
            yield f"n{gap}", hidden
