"""How often the judge says the true class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figures, finite, share
from stillmotion.metrics.judge import REMEDY, Verdicts


def accuracies(
    verdicts: Verdicts,
    labels: Mapping[str, Tensor],
    factors: Iterable[str],
    generator: torch.Generator,
    clusters: Tensor | None = None,
    name: str = "{}",
) -> Figures:
    """Share of the clips of known class whose most probable class is the true one, for each of `factors`.

    labels: factor -> (N,) int64, -1 where unknown. clusters: (N,), clips that are resampled together. name: of a figure, with {}
    for the factor. Factors that the judge or the labels lack are left out; raises UserError where none is left, for verdicts that
    are not numbers, and for labels of other classes than the judge's.
    """
    found = {}
    for factor in judged(verdicts, labels, factors):
        index = known(verdicts, labels, factor)
        within = None if clusters is None else clusters[index]
        found[name.format(factor)] = share(right(verdicts, labels, factor)[index], generator, within)
    return found


def judged(verdicts: Verdicts, labels: Mapping[str, Tensor], factors: Iterable[str]) -> list[str]:
    """Those of `factors` that the judge tells and that at least one clip is labelled with. Raises UserError where there are none."""
    wanted = list(factors)
    both = [factor for factor in wanted if factor in verdicts.logits and factor in labels]
    found = [factor for factor in both if len(known(verdicts, labels, factor))]
    if not found:
        told = ", ".join(verdicts.logits)
        expected = f"clips of known {' or '.join(wanted)}" if wanted else "at least one factor to measure"
        raise UserError(expected, f"{len(verdicts)} clips labelled {', '.join(labels) or 'with nothing'}, and a judge of {told}")
    return found


def known(verdicts: Verdicts, labels: Mapping[str, Tensor], factor: str) -> Tensor:
    """Positions (M,) int64 of the clips whose class of the factor is known. Raises UserError where verdicts and labels do not fit."""
    logits, truth = finite(verdicts.logits[factor], f"verdicts on {factor}"), labels[factor]
    if len(truth) != len(logits):
        raise UserError(f"one label of {factor} for each of {len(logits)} verdicts", f"{len(truth)}")
    if len(truth) and int(truth.max()) >= logits.shape[1]:
        raise UserError(f"labels of {factor} below {logits.shape[1]}, the number of the judge's classes", f"{int(truth.max())}", REMEDY)
    return (truth >= 0).nonzero().flatten()


def right(verdicts: Verdicts, labels: Mapping[str, Tensor], factor: str) -> Tensor:
    """For which clips the most probable class is the true one, (N,) bool; false where that is unknown."""
    found: Tensor = verdicts.top(factor) == labels[factor]
    return found
