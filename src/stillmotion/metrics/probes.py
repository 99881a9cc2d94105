"""What a code tells of a factor, by a linear probe."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError


class Probe(NamedTuple):
    """accuracy: on held-out clips. chance: share of the largest class among them. clips: how many."""

    accuracy: float
    chance: float
    clips: int


def linear_probe(code: Tensor, labels: Tensor, held_out: Tensor, held_out_labels: Tensor) -> Probe:
    """Accuracy of a logistic regression on standardised codes, fitted on (N, D) and judged on clips it never saw.

    labels: (N,) int64; clips of unknown class (-1) are left out. Raises UserError where fewer than two classes are left.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    code, labels = code[labels >= 0], labels[labels >= 0]
    held_out, held_out_labels = held_out[held_out_labels >= 0], held_out_labels[held_out_labels >= 0]
    if len(labels.unique()) < 2 or not len(held_out_labels):  # type: ignore[no-untyped-call]
        raise UserError("at least two classes to probe for, and held-out clips", f"{len(held_out_labels)} held-out clips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(code.numpy(), labels.numpy())
    chance = int(torch.bincount(held_out_labels).max()) / len(held_out_labels)
    return Probe(float(probe.score(held_out.numpy(), held_out_labels.numpy())), chance, len(held_out_labels))
