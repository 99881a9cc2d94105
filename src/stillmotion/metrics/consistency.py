"""Consistency: does the judge say the same of a real clip and of its reconstruction (VDSM, tables 1 and 2)?

Nothing is swapped and no label is read: a perfect auto-encoder that tells nothing apart scores 1. It is not the accuracy of the
two-factor protocol, beside which it was published.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figures, finite, mean, share
from stillmotion.metrics.judge import Verdicts


def consistency(
    real: Verdicts, reconstructed: Verdicts, generator: torch.Generator, clusters: Tensor | None = None, prefix: str = "consistency_"
) -> Figures:
    """Share of clips for which the judge says the same of both, for each factor, and `mean`, the average over the factors.

    real, reconstructed: verdicts on the same N clips in the same order, by one judge. clusters: (N,), clips that are resampled
    together. prefix: of the names; "consistency_pooled_judge_" for a judge trained the released notebooks' way, on real and
    reconstructed clips together and drawn from one pool with those it is tested on. Raises UserError for no clips, for verdicts on
    other clips, and for ones that are not numbers.
    """
    check_same(real, reconstructed)
    same = {factor: real.top(factor) == reconstructed.top(factor) for factor in real.logits}
    found = {f"{prefix}{factor}": share(hits, generator, clusters) for factor, hits in same.items()}
    whole = torch.stack(list(same.values()), 1)
    if bool(whole.all()) or not bool(whole.any()):
        return found | {f"{prefix}mean": share(whole[:, 0], generator, clusters)}
    return found | {f"{prefix}mean": mean(whole.double().mean(1), generator, clusters)}


def check_same(first: Verdicts, second: Verdicts) -> None:
    """Raises UserError unless both are finite verdicts on as many clips, at least one, by judges of the same factors."""
    if not len(first) or len(first) != len(second):
        raise UserError("verdicts on the same clips, at least one", f"{len(first)} and {len(second)}")
    if list(first.logits) != list(second.logits):
        raise UserError("verdicts of one judge", f"one of {', '.join(first.logits)} and one of {', '.join(second.logits)}")
    for verdicts in (first, second):
        for factor, logits in verdicts.logits.items():
            finite(logits, f"verdicts on {factor}")
