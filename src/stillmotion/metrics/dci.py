"""Disentanglement, completeness, informativeness (Eastwood and Williams 2018), with gradient boosting as the predictor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stillmotion.metrics.figure import Figures, bootstrap
from stillmotion.metrics.information import Pool, active, both_pools

CLIPS = 10_000
"""Training clips at most."""
ROUNDS, RATE, LEAVES = 20, 0.3, 8


class Reading(NamedTuple):
    """Of M held-out clips and F factors. right: (F, M), predicted rightly. known: (F, M). moved: (M, F * D), nats. All float64."""

    right: Tensor
    known: Tensor
    moved: Tensor


def dci(
    codes: Tensor,
    factors: Mapping[str, Tensor],
    held_out: Tensor,
    held_out_factors: Mapping[str, Tensor],
    generator: torch.Generator,
    clusters: Tensor | None = None,
) -> Figures:
    """`dci_disentanglement`, `dci_completeness`, `dci_informativeness`, 1 best.

    codes: (N, D >= 2), held_out: (M, D); factors: two or more, labels int64, -1 unknown. Each factor is predicted by gradient boosting
    on histograms: 20 rounds of trees of 8 leaves, on at most 10,000 training clips.
    Importance of a dimension for a factor: how far predictions of held-out clips move, as Kullback-Leibler divergence in nats, when
    its values are shuffled among the clips. (Usual implementations take the impurity that the splits removed on training clips, which
    these trees do not tell; figures of both are near but not equal.) Disentanglement: 1 - entropy, to the base of the factors, of
    a dimension's importances, mean over dimensions by importance. Completeness: 1 - entropy, to the base of the dimensions, of
    a factor's importances, mean over factors. Informativeness: accuracy on held-out clips, mean over factors; chance is the
    share of the largest class. Of dimensions that split alike the trees use the first, so that their order moves figures a little
    (0.02 on 240 clips). Useless codes give a little more than 0 in the first two, from predictors fitted to noise; collapsed
    codes give 0.

    The intervals cover the choice of held-out clips (or of `clusters` of them), not the fit. Raises UserError as
    `information.both_pools` does.
    """
    train, test = both_pools(codes, factors, held_out, held_out_factors, clusters, dimensions=2, least_factors=2)
    shuffled = torch.randperm(len(test.codes), generator=generator)
    chosen = torch.randperm(len(train.codes), generator=generator)[:CLIPS]
    reading = _read(train, chosen, test, shuffled)

    def importance(index: Tensor) -> Tensor:
        times = torch.bincount(index, minlength=len(test.codes)).double()
        return (times @ reading.moved).view(len(test.factors), -1).T / len(index)

    def informativeness(index: Tensor) -> float:
        return float((reading.right[:, index].sum(1) / reading.known[:, index].sum(1)).mean())

    statistics = {
        "dci_disentanglement": lambda index: disentanglement(importance(index)),
        "dci_completeness": lambda index: completeness(importance(index)),
        "dci_informativeness": informativeness,
    }
    return {name: bootstrap(statistic, len(test.codes), generator, test.clusters) for name, statistic in statistics.items()}


def disentanglement(importance: Tensor) -> float:
    """Of (D, F) importances >= 0: 1 - entropy of each row to the base F, mean by row sum; 0 where all are 0."""
    weight = importance.sum(1)
    return float((weight * _concentration(importance)).sum() / weight.sum()) if float(weight.sum()) > 0 else 0.0


def completeness(importance: Tensor) -> float:
    """Of (D, F) importances >= 0: 1 - entropy of each column to the base D, plain mean; a column of zeros counts 0."""
    return float((_concentration(importance.T) * (importance.sum(0) > 0)).mean())


def _concentration(rows: Tensor) -> Tensor:
    share = rows / rows.sum(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    concentration: Tensor = 1 - torch.special.entr(share).sum(1) / math.log(rows.shape[1])
    return concentration


def _read(train: Pool, chosen: Tensor, test: Pool, shuffled: Tensor) -> Reading:
    working = active(train.codes)
    right, moved = [], []
    for name, truth in test.factors.items():
        labels = train.factors[name][chosen]
        predictor = _fit(train.codes[chosen][labels >= 0] * working, labels[labels >= 0])
        guess, shift = _moves(predictor, test.codes * working, working, shuffled)
        right.append((guess == truth).double())
        moved.append(shift)
    known = torch.stack([labels >= 0 for labels in test.factors.values()]).double()
    return Reading(torch.stack(right), known, torch.cat(moved, 1))


def _fit(codes: Tensor, labels: Tensor) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosting = HistGradientBoostingClassifier(
        max_iter=ROUNDS, learning_rate=RATE, max_leaf_nodes=LEAVES, early_stopping=False, random_state=0
    )
    return boosting.fit(codes.numpy(), labels.numpy())


def _moves(predictor: Any, codes: Tensor, working: Tensor, shuffled: Tensor) -> tuple[Tensor, Tensor]:
    """The class predicted of each clip (M,), and the divergence (M, D) of its prediction when one dimension is another clip's."""
    before = torch.from_numpy(predictor.predict_proba(codes.numpy()))
    moved = torch.zeros_like(codes)
    for column in working.nonzero()[:, 0].tolist():
        other = codes.clone()
        other[:, column] = codes[shuffled, column]
        after = torch.from_numpy(predictor.predict_proba(other.numpy()))
        moved[:, column] = (before * (before.log() - after.log())).sum(1).clamp(min=0)
    return torch.from_numpy(predictor.classes_)[before.argmax(1)], moved
