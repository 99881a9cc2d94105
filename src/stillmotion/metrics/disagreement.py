"""Disagreement: how much the judge changes its mind where one half of a clip is kept and the other is sampled.

The scores of the report on the sequential auto-encoder (DSA) and its beta-VAE: the classifier reads the real clip and the decoded
one. For static factors f is kept and z is from the prior, for moving ones z is kept and f is from the prior.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.consistency import check_same
from stillmotion.metrics.figure import Figures, mean, share
from stillmotion.metrics.judge import Verdicts

LEAST = 1e-6
"""No class is given less: a sure judge's KL would measure its overconfidence alone. It bounds KL by about ln 1e6 = 13.8 nats, and
that of a uniform guess among K classes by (1 - 1/K) ln 1e6 - ln K, which is 9.72 for six; the report's, unclamped, reach 25."""


def disagreement(
    real: Verdicts, decoded: Verdicts, factors: Iterable[str], generator: torch.Generator, clusters: Tensor | None = None
) -> Figures:
    """Of each factor that was kept: share of clips with another top class, mean KL(p_decoded || p_real), and KL-random, in nats.

    real, decoded: verdicts on the same N clips in the same order. factors: those that the kept half tells of. clusters: (N,), clips
    that are resampled together. KL-random has a uniform p in the place of p_decoded. Probabilities are clamped from below at 1e-6
    and divided by their sum, so that KL is never negative. KL depends on how sure the judge is: it compares models under one judge,
    not across papers. Raises UserError for no clips, for verdicts on other clips, for a factor that the judge does not know, and for
    verdicts that are not numbers.
    """
    check_same(real, decoded)
    found = {}
    for factor in factors:
        if factor not in real.logits:
            raise UserError(f"a factor of the judge ({', '.join(real.logits)})", factor)
        p, q = _clamped(decoded.probabilities(factor)), _clamped(real.probabilities(factor))
        found[f"disagreement_{factor}"] = share(real.top(factor) != decoded.top(factor), generator, clusters)
        found[f"disagreement_kl_{factor}"] = mean(_kl(p, q), generator, clusters)
        found[f"disagreement_kl_random_{factor}"] = mean(_kl(torch.full_like(q, 1 / q.shape[1]), q), generator, clusters)
    return found


def _clamped(probabilities: Tensor) -> Tensor:
    at_least = probabilities.clamp(min=LEAST)
    return at_least / at_least.sum(1, keepdim=True)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    found: Tensor = (p * (p / q).log()).sum(1)
    return found
