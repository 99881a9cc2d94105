"""Separated attribute predictability (Kumar et al. 2018): how much better does the best dimension tell a factor than the second best?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.metrics.figure import Figures, bootstrap
from stillmotion.metrics.information import Pool, active, both_pools


def sap(
    codes: Tensor,
    factors: Mapping[str, Tensor],
    held_out: Tensor,
    held_out_factors: Mapping[str, Tensor],
    generator: torch.Generator,
    clusters: Tensor | None = None,
) -> Figures:
    """`sap`: mean over factors of the gap between the two best single dimensions' scores.

    codes: (N, D >= 2), held_out: (M, D); labels int64, -1 unknown. A dimension's score is the balanced accuracy on held-out clips
    of thresholds fitted on training clips: at most classes - 1 of them, chosen by a decision tree of as many leaves as classes,
    since a linear machine of one input cannot single out a class in the middle. Collapsed dimensions score 0, as in the paper;
    useless ones 1 / classes, so that one ideal dimension among useless ones gives 1 - 1 / classes and alone among collapsed ones 1.

    Useless codes give the gap between the two luckiest dimensions: about the deviation of a balanced accuracy at chance,
    sqrt((classes - 1) / M) / classes, and less of many dimensions. The interval covers the choice of held-out clips (or of `clusters`
    of them), not the fit. Raises UserError as `information.both_pools` does.
    """
    train, test = both_pools(codes, factors, held_out, held_out_factors, clusters, dimensions=2)
    right = {name: _right(train, test, name) for name in train.factors}

    def gap(index: Tensor) -> float:
        times = torch.bincount(index, minlength=len(test.codes)).double()
        return sum(_gap(right[name], test.factors[name], times) for name in right) / len(right)

    return {"sap": bootstrap(gap, len(test.codes), generator, test.clusters)}


def _right(train: Pool, test: Pool, name: str) -> Tensor:
    """(M, D) float64: 1 where the thresholds of a dimension put a held-out clip into its class; collapsed dimensions put none."""
    from sklearn.tree import DecisionTreeClassifier

    known = train.factors[name] >= 0
    labels = train.factors[name][known].numpy()
    leaves = int(train.factors[name].max()) + 1
    right = torch.zeros(len(test.codes), train.codes.shape[1], dtype=torch.double)
    for column in active(train.codes).nonzero()[:, 0].tolist():
        tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=0)
        tree.fit(train.codes[known, column, None].numpy(), labels)
        guess = torch.from_numpy(tree.predict(test.codes[:, column, None].numpy()))
        right[:, column] = (guess == test.factors[name]).double()
    return right


def _gap(right: Tensor, labels: Tensor, times: Tensor) -> float:
    """Best less second best balanced accuracy, over the classes that are there; `times` (M,) is how often each clip was drawn."""
    drawn = F.one_hot(labels.clamp(min=0)).double() * (times * (labels >= 0))[:, None]
    sizes = drawn.sum(0)
    accuracy = (drawn.T @ right)[sizes > 0] / sizes[sizes > 0, None]
    if not len(accuracy):
        return float("nan")
    first, second = accuracy.mean(0).topk(2).values.tolist()
    return float(first - second)
