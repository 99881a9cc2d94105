"""How sure the judge is of generated clips, and how varied they are (VDSM, table 2: H(y|x) and H(y))."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figure, Figures, bootstrap, finite, mean
from stillmotion.metrics.judge import Verdicts


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats of each distribution on the last axis, (..., K) to (...).

    0 ln 0 is 0. The published code adds 1e-16 inside the logarithm instead: in double precision that is the same number.
    """
    found: Tensor = torch.special.entr(probabilities).sum(-1)
    return found


def entropies(verdicts: Verdicts, generator: torch.Generator) -> Figures:
    """Entropies in nats of the judge's verdicts on clips that were generated from the priors, each clip by itself.

    generation_conditional_entropy: mean entropy of the verdict on one clip, H(y|x); low if clips are clear.
    generation_entropy: entropy of the mean verdict, H(y); high if clips are varied, at most ln K. Of few clips it is somewhat low.
    Both are averaged over all factors, static and moving, which is VDSM's way; `_<factor>` is that of one factor.
    Raises UserError for no clips and for verdicts that are not numbers.
    """
    if not len(verdicts):
        raise UserError("at least one generated clip", "none")
    for factor, logits in verdicts.logits.items():
        finite(logits, f"verdicts on {factor}")
    rows = {factor: verdicts.probabilities(factor) for factor in verdicts.logits}
    found = {"generation_entropy": _of_mean(list(rows.values()), generator)}
    found["generation_conditional_entropy"] = _of_each(list(rows.values()), generator)
    for factor, row in rows.items():
        found[f"generation_entropy_{factor}"] = _of_mean([row], generator)
        found[f"generation_conditional_entropy_{factor}"] = _of_each([row], generator)
    return found


def _of_mean(rows: list[Tensor], generator: torch.Generator) -> Figure:
    def statistic(index: Tensor) -> float:
        return sum(float(entropy(row[index].mean(0))) for row in rows) / len(rows)

    return bootstrap(statistic, len(rows[0]), generator)


def _of_each(rows: list[Tensor], generator: torch.Generator) -> Figure:
    return mean(torch.stack([entropy(row) for row in rows]).mean(0), generator)
