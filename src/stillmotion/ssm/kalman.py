"""The two steps of the Kalman filter, and one step of the smoother, once for both layouts of matrices.

m, P: mean and covariance of the state; A, b, Q: its transition; C, R: observation and its noise; y: what was observed.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from torch import Tensor

from stillmotion.ssm import small
from stillmotion.ssm.small import Inverse


class Algebra(Protocol):
    """What the modules `small` and `batched` have in common."""

    def product(self, a: Tensor, b: Tensor, /) -> Tensor: ...
    def transpose(self, a: Tensor, /) -> Tensor: ...
    def symmetric(self, a: Tensor, /) -> Tensor: ...
    def congruence(self, a: Tensor, b: Tensor, /) -> Tensor: ...
    def identity(self, rows: int, like: Tensor, /) -> Tensor: ...
    def invert(self, a: Tensor, /) -> Inverse: ...


class Update(NamedTuple):
    """The state after an observation. keep: I - K C, what the observation leaves. residual: y - C m, and `inverse` of its covariance F."""

    mean: Tensor
    covariance: Tensor
    keep: Tensor
    residual: Tensor
    inverse: Inverse


class Backward(NamedTuple):
    """p(z_t | z_{t+1}, y_1 ... y_t) = N(J z_{t+1} + g, L), for the last frame N(g, L) with J = 0."""

    J: Tensor
    g: Tensor
    L: Tensor


def predict(of: Algebra, m: Tensor, P: Tensor, A: Tensor, b: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the next state."""
    return of.product(A, m) + b, of.symmetric(of.congruence(A, P) + Q)


def update(of: Algebra, m: Tensor, P: Tensor, C: Tensor, R: Tensor, y: Tensor) -> Update:
    """Joseph's form of the update: its covariance stays one under rounding, and errors of the gain enter squared."""
    CP = of.product(C, P)
    F = of.symmetric(of.product(CP, of.transpose(C)) + R)
    inverse = of.invert(F)
    K = of.product(of.transpose(CP), inverse.matrix)
    keep = of.identity(P.shape[0] if of is small else P.shape[-1], P) - of.product(K, C)
    residual = y - of.product(C, m)
    covariance = of.symmetric(of.congruence(keep, P) + of.congruence(K, R))
    return Update(m + of.product(K, residual), covariance, keep, residual, inverse)


def log_density(residual: Tensor, inverse: Inverse, count: Tensor) -> Tensor:
    """log N(residual; 0, F) of `count` observed entries, in the layout of `small`: (T, B)."""
    distance = small.product(small.transpose(residual), small.product(inverse.matrix, residual))[0, 0]
    return -0.5 * (distance + inverse.log_det + count * math.log(2 * math.pi))


def look_back(m: Tensor, P: Tensor, after: Tensor, spread: Tensor, A: Tensor, Q: Tensor) -> Backward:
    """p(z_t | z_{t+1}, y_1 ... y_t) of a filtered state and its prediction N(after, spread), in the layout of `small`.

    Rauch, Tung and Striebel 1965; L in the form of Joseph, so that it stays a covariance. A singular prediction is no hindrance.
    """
    J = small.transpose(small.solve(spread, small.product(A, P)))
    L = small.congruence(small.identity(len(P), P) - small.product(J, A), P) + small.congruence(J, Q)
    return Backward(J, m - small.product(J, after), small.symmetric(L))
