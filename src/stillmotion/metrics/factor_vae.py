"""FactorVAE score (Kim and Mnih 2018): the dimension that varies least among clips alike in one factor should tell which factor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.metrics.figure import Figure, Figures, bootstrap
from stillmotion.metrics.information import active, both_pools

VOTES = 100
"""Of each factor, of each part."""
BATCH = 64
"""Clips that one vote sees."""
STILL = 1e-12
"""Variances below this share of a dimension's own are rounding of float64."""


def factor_vae(
    codes: Tensor,
    factors: Mapping[str, Tensor],
    held_out: Tensor,
    held_out_factors: Mapping[str, Tensor],
    generator: torch.Generator,
    clusters: Tensor | None = None,
) -> Figures:
    """`factor_vae`: share of held-out votes that a majority vote of training votes foretells.

    codes: (N, D), held_out: (M, D); factors: two or more, labels int64, -1 unknown. A vote: 64 clips of one class of one factor,
    drawn with replacement, name the dimension whose variance, in units of that of all training clips, is least. 100 votes of each
    factor, its classes equally often. Each dimension then stands for the factor of most of its training votes. Collapsed dimensions
    are left out; where all have collapsed the score is 0. Useless codes score 1 / factors.

    The interval covers the choice of held-out clips (or of `clusters` of them) and the draw of held-out votes, not the training votes.
    Raises UserError as `information.both_pools` does.
    """
    train, test = both_pools(codes, factors, held_out, held_out_factors, clusters, least_factors=2)
    working = active(train.codes) & active(test.codes)
    if not bool(working.any()):
        return {"factor_vae": Figure(0.0, 0.0, 0.0, len(test.codes))}
    scale = train.codes[:, working].std(0)
    seen = _standard(train.codes[:, working], scale)
    unseen = _standard(test.codes[:, working], scale)
    stands_for = _tally(seen, train.factors, generator).argmax(1)

    def foretold(index: Tensor) -> float:
        votes = _tally(unseen[index], {name: labels[index] for name, labels in test.factors.items()}, generator)
        return float(votes.gather(1, stands_for[:, None]).sum() / votes.sum())

    return {"factor_vae": bootstrap(foretold, len(test.codes), generator, test.clusters)}


def _standard(codes: Tensor, scale: Tensor) -> Tensor:
    return (codes - codes.mean(0)) / scale


def _tally(codes: Tensor, factors: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """Votes for each dimension (D,) by factor: (D, factors) int64."""
    votes = [torch.bincount(_votes(codes, labels, generator), minlength=codes.shape[1]) for labels in factors.values()]
    return torch.stack(votes, 1)


def _votes(codes: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """The dimension of least variance of each of VOTES batches alike in their label: (VOTES,), or none where no clip is labelled."""
    sizes = torch.bincount(labels[labels >= 0])
    present = sizes.nonzero()[:, 0]
    if not len(present):
        return present
    kinds = present[torch.randint(len(present), (VOTES,), generator=generator)]
    order = labels.argsort(stable=True)[(labels < 0).sum() :]
    first = sizes.cumsum(0) - sizes
    place = (torch.rand(VOTES, BATCH, generator=generator) * sizes[kinds, None]).long().clamp(max=sizes[kinds, None] - 1)
    return _least(codes, order[first[kinds, None] + place])


def _least(codes: Tensor, batches: Tensor) -> Tensor:
    """The column of (N, D) of least variance in each batch (VOTES, BATCH) of rows; the first one where several do not vary at all."""
    mean = F.embedding_bag(batches, codes, mode="mean")
    square = F.embedding_bag(batches, codes.square(), mode="mean")
    least: Tensor = (square - mean.square()).clamp(min=STILL).argmin(1)
    return least
