"""The vocabulary of linear-Gaussian state space.

The state z has n entries, an observation y has p, a control u has m; t runs from 1 to T:

    z_1 ~ N(mean, covariance)
    z_t = A_t z_{t-1} + B_t u_t + b_t + N(0, Q_t)      for t > 1
    y_t = C_t z_t + d_t + N(0, R_t)

The matrices of frame t lead into frame t and out of it: A_t joins the states t - 1 and t, C_t belongs to state t. So A_1, B_1, b_1 and
Q_1 are never used, and neither is u_1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class System:
    """The parameters. Each broadcasts, as in torch, against the shape given here, where * stands for any leading axes of clips:
    (n, n) is one matrix for all frames of all clips, (T, n, n) one per frame, (B, 1, n, n) one per clip.

    A: (*, T, n, n). C: (*, T, p, n). Q: (*, T, n, n) and R: (*, T, p, p), covariances. mean: (*, n) and covariance: (*, n, n) of the
    first state. B: (*, T, n, m), the effect of controls. b: (*, T, n) and d: (*, T, p), constants added to state and observation.
    """

    A: Tensor
    C: Tensor
    Q: Tensor
    R: Tensor
    mean: Tensor
    covariance: Tensor
    B: Tensor | None = None
    b: Tensor | None = None
    d: Tensor | None = None

    def to(self, dtype: torch.dtype) -> System:
        """The same system in another floating-point type."""
        return replace(self, **{field.name: value.to(dtype) for field in fields(self) if (value := getattr(self, field.name)) is not None})


@dataclass(frozen=True)
class Moments:
    """Gaussians: mean (*, k) and covariance (*, k, k)."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Filtered:
    """What is known of state t from the observations up to t (`mean`, `covariance`) and up to t - 1 (`predicted`).

    mean: (*, T, n). covariance: (*, T, n, n). log_likelihood: (*, T), log p(y_t | y_1 ... y_{t-1}) of the observed entries of each
    frame in nats, 0 where there are none; its sum over frames is the log-likelihood of the clip.
    """

    mean: Tensor
    covariance: Tensor
    predicted: Moments
    log_likelihood: Tensor


@dataclass(frozen=True)
class Smoothed:
    """What is known of the states from all observations.

    mean: (*, T, n). covariance: (*, T, n, n). lag_one: (*, T - 1, n, n), the covariance of z_{t+1} (rows) and z_t (columns).
    filtered: the filter's results on the way.
    """

    mean: Tensor
    covariance: Tensor
    lag_one: Tensor
    filtered: Filtered


@dataclass(frozen=True)
class Forecast:
    """The states after the last one and their observations: states (*, T, n), observations (*, T, p)."""

    states: Moments
    observations: Moments
