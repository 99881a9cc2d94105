"""Intervention score of the MSD benchmark: when one part of a code is resampled, what must stay stays, and the rest is at chance."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figures, bootstrap, finite
from stillmotion.metrics.judge import Verdicts


def intervention(
    name: str,
    verdicts: Verdicts,
    labels: Mapping[str, Tensor],
    stay: Collection[str],
    generator: torch.Generator,
    clusters: Tensor | None = None,
) -> Figures:
    """`name`: 1 - (on + off) / 2, with on = mean |accuracy - 1| of factors in `stay`, off = mean |accuracy - 1 / classes| of the others.

    verdicts: what a judge says of N clips of which one part was resampled. labels: factor -> (N,) int64 of the clips before, -1
    unknown; the factors are those of `labels`. Classes are the judge's. 1 is ideal. Clips in
    which nothing changed score 1 - mean(1 - 1 / classes) / 2 over the other factors, and clips in which all is lost the same over those
    in `stay`. |accuracy - 1 / classes| of a factor at chance is on average sqrt(2 (classes - 1) / (pi N)) / classes, not 0.
    The interval covers the choice of clips (or of clusters), not the draws of the resampled part.
    Raises UserError where nothing or everything must stay, for a factor that the judge lacks or no clip has, and for NaN.
    """
    off = [factor for factor in labels if factor not in stay]
    _check(verdicts, labels, stay, off)
    right = {factor: (verdicts.top(factor) == values).double() for factor, values in labels.items()}
    there = torch.stack([values >= 0 for values in labels.values()]).any(0).nonzero()[:, 0]

    def accuracy(factor: str, index: Tensor) -> float:
        return float(right[factor][index][labels[factor][index] >= 0].mean())

    def score(index: Tensor) -> float:
        lost = sum(1 - accuracy(factor, there[index]) for factor in stay) / len(stay)
        told = sum(abs(accuracy(factor, there[index]) - 1 / verdicts.logits[factor].shape[1]) for factor in off) / len(off)
        return 1 - (lost + told) / 2

    return {name: bootstrap(score, len(there), generator, None if clusters is None else clusters[there])}


def _check(verdicts: Verdicts, labels: Mapping[str, Tensor], stay: Collection[str], off: Collection[str]) -> None:
    if not stay or not off or not set(stay) <= set(labels):
        got = f"{', '.join(stay) or 'none'} that stay, of {', '.join(labels) or 'none'}"
        raise UserError("labelled factors that must stay and others that were resampled", got, "Choose data labelled with both kinds.")
    for factor, values in labels.items():
        if factor not in verdicts.logits:
            raise UserError(f"a judge of {factor}", f"one of {', '.join(verdicts.logits)}", "Train one on this data, or drop the factor.")
        logits = finite(verdicts.logits[factor], f"logits of {factor}")
        if values.shape != logits.shape[:1]:
            raise UserError(f"{factor} of {len(logits)} clips", f"{tuple(values.shape)}", "Give the labels of the clips judged.")
        if logits.shape[1] < 2:
            raise UserError(f"at least two classes of {factor}", f"{logits.shape[1]}", "Leave this factor out.")
        if not bool((values >= 0).any()):
            raise UserError(f"clips labelled with {factor}", f"none of {len(values)}", "Leave this factor out, or use more clips.")
