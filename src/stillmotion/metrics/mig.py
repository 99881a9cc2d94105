"""Mutual information gap (Chen et al. 2018): is each factor told by one dimension alone?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion.metrics.figure import Figure, Figures, bootstrap
from stillmotion.metrics.information import entropy, levels, mutual_information, pool

CANDIDATES = 16
"""Dimensions per factor that a resample considers for the best two: those that tell most of it over all clips."""


def mig(codes: Tensor, factors: Mapping[str, Tensor], generator: torch.Generator, clusters: Tensor | None = None) -> Figures:
    """`mig_<factor>` and their mean `mig`: (I(best) - I(second best)) / H(factor), between 0 and 1.

    codes: (N, D >= 2). factors: name -> (N,) int64, -1 unknown. I is the plug-in mutual information of 20 equal-width bins, as in
    the usual implementation of the benchmark. Its bias for useless codes, (20 - 1) (classes - 1) / (2 N) nats, is almost the same
    for the best two dimensions, so that the gap of useless codes stays below bias / H.

    The intervals cover the choice of clips (or of clusters); the edges of the bins stay those of all clips. A clip drawn twice adds
    to the bias, so that with few clips they lean down.
    Raises UserError as `information.pool` does.
    """
    clips = pool(codes, factors, clusters, dimensions=2)
    binned = levels(clips.codes)
    best = {name: _best(binned, labels) for name, labels in clips.factors.items()}

    def mean(index: Tensor) -> float:
        return sum(_gap(best[name][index], labels[index]) for name, labels in clips.factors.items()) / len(best)

    figures = {"mig": bootstrap(mean, len(clips.codes), generator, clips.clusters)}
    for name, labels in clips.factors.items():
        figures[f"mig_{name}"] = _of_factor(best[name], labels, generator, clips.clusters)
    return figures


def _of_factor(binned: Tensor, labels: Tensor, generator: torch.Generator, clusters: Tensor | None) -> Figure:
    known = labels >= 0
    binned, labels, clusters = binned[known], labels[known], None if clusters is None else clusters[known]
    return bootstrap(lambda index: _gap(binned[index], labels[index]), len(labels), generator, clusters)


def _best(binned: Tensor, labels: Tensor) -> Tensor:
    told = mutual_information(binned, labels)
    return binned[:, told.topk(min(CANDIDATES, len(told))).indices]


def _gap(binned: Tensor, labels: Tensor) -> float:
    first, second = mutual_information(binned, labels).topk(2).values.tolist()
    whole = entropy(labels)
    return float((first - second) / whole) if whole else float("nan")
