"""Modularity and explicitness (Ridgeway and Mozer 2018): one factor per dimension; every class easy to read from the whole code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figures, bootstrap
from stillmotion.metrics.information import Pool, both_pools, levels, mutual_information, pool


def modularity(codes: Tensor, factors: Mapping[str, Tensor], generator: torch.Generator, clusters: Tensor | None = None) -> Figures:
    """`modularity`: mean over dimensions of 1 - sum over the other factors of (I / I of its best factor)^2 / (factors - 1).

    codes: (N, D). factors: two or more, name -> (N,) int64, -1 unknown. I is the plug-in mutual information of 20 equal-width bins.
    Collapsed dimensions, of which it says nothing, are left out; where all have collapsed it is 0.

    Useless codes do not give 0: their I is the bias of the estimate, in proportion to classes - 1, so that factors of unlike
    numbers of classes look modular. Read it beside MIG or explicitness only. The interval covers the choice of clips (or of
    clusters); a clip drawn twice adds to the bias, so that it leans to one side. Raises UserError as `information.pool` does.
    """
    clips = pool(codes, factors, clusters, least_factors=2)
    binned = levels(clips.codes)

    def statistic(index: Tensor) -> float:
        told = torch.stack([mutual_information(binned[index], labels[index]) for labels in clips.factors.values()], 1)
        return _modularity(told)

    return {"modularity": bootstrap(statistic, len(clips.codes), generator, clips.clusters)}


def _modularity(told: Tensor) -> float:
    """Of mutual information (D, factors), which collapsed dimensions have none of."""
    told = told[told.amax(1) > 0]
    if not len(told):
        return 0.0
    ratio = told / told.amax(1, keepdim=True)
    strays = (ratio.square().sum(1) - 1) / (told.shape[1] - 1)
    return float(1 - strays.mean())


def explicitness(
    codes: Tensor,
    factors: Mapping[str, Tensor],
    held_out: Tensor,
    held_out_factors: Mapping[str, Tensor],
    generator: torch.Generator,
    clusters: Tensor | None = None,
) -> Figures:
    """`explicitness`: area under the ROC curve of a logistic regression, one class against the rest, mean over all factors' classes.

    codes: (N, D), held_out: (M, D); labels int64, -1 unknown. Fitted on standardised training codes, measured on held-out clips.
    1 is perfect and 0.5 is chance. Classes that only one of the two parts has are left out.
    The interval covers the choice of held-out clips (or of `clusters` of them), not the fit. Raises UserError as
    `information.both_pools` does, and where the parts have no class in common.
    """
    train, test = both_pools(codes, factors, held_out, held_out_factors, clusters)
    readers = [reader for name in train.factors for reader in _readers(train, test, name)]
    if not readers:
        raise UserError("classes that both training and held-out clips show", "none in common", "Split clips of the same classes.")

    def statistic(index: Tensor) -> float:
        times = torch.bincount(index, minlength=len(test.codes)).double()
        areas = torch.tensor([_area(rank, times * of_class, times * of_rest) for rank, of_class, of_rest in readers], dtype=torch.double)
        return float(areas.nanmean())

    return {"explicitness": bootstrap(statistic, len(test.codes), generator, test.clusters)}


def _readers(train: Pool, test: Pool, name: str) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each class: rank (M,) of each held-out clip by its score (ties share one), which clips are of it, and which of another."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    known = train.factors[name] >= 0
    scaler = StandardScaler().fit(train.codes[known].numpy())
    inputs, asked = scaler.transform(train.codes[known].numpy()), scaler.transform(test.codes.numpy())
    labels, truth = train.factors[name][known], test.factors[name]
    found = []
    for kind in sorted(set(labels.tolist()) & set(truth[truth >= 0].tolist())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            reader = LogisticRegression(tol=1e-3).fit(inputs, (labels == kind).numpy())
        rank = torch.unique(torch.from_numpy(reader.decision_function(asked)), return_inverse=True)[1]
        found.append((rank, truth == kind, (truth >= 0) & (truth != kind)))
    return found


def _area(rank: Tensor, of_class: Tensor, of_rest: Tensor) -> float:
    """Chance that a clip of the class ranks above one of the rest, ties counting half; weights (M,) float64. NaN where either lacks."""
    hits, misses = torch.bincount(rank, weights=of_class), torch.bincount(rank, weights=of_rest)
    below = misses.cumsum(0) - misses / 2
    return float((hits * below).sum() / (hits.sum() * misses.sum()))
