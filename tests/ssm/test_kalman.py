"""The steps of filter and smoother, against conditioning in other forms."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.ssm import batched, small
from stillmotion.ssm.kalman import log_density, look_back, predict, update


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(seed: int, n: int) -> Tensor:
    factor = drawn(seed, 5, n, n + 1)
    return factor @ factor.mT


M, S, A, B, Q = drawn(0, 5, 3, 1), covariance(1, 3), drawn(2, 5, 3, 3), drawn(3, 5, 3, 1), covariance(4, 3)
C, R, Y = drawn(5, 5, 2, 3), covariance(6, 2), drawn(7, 5, 2, 1)


def many(value: Tensor) -> Tensor:
    """(5, rows, columns) to the layout of `small` with 5 frames of one clip."""
    return value.permute(1, 2, 0)[..., None]


def few(value: Tensor) -> Tensor:
    return value[..., 0].permute(2, 0, 1)


def test_both_layouts_predict_and_update_alike_and_as_information_adds_up() -> None:
    mean, spread = predict(batched, M, S, A, B, Q)
    torch.testing.assert_close(spread, A @ S @ A.mT + Q)
    other = predict(small, *(many(value) for value in (M, S, A, B, Q)))
    torch.testing.assert_close(few(other[0]), mean)
    torch.testing.assert_close(few(other[1]), spread)

    step = update(batched, M, S, C, R, Y)
    precision = torch.linalg.inv(S) + C.mT @ torch.linalg.inv(R) @ C
    torch.testing.assert_close(step.covariance, torch.linalg.inv(precision))
    right = torch.linalg.solve(precision, torch.linalg.solve(S, M) + C.mT @ torch.linalg.solve(R, Y))
    torch.testing.assert_close(step.mean, right)
    alike = update(small, *(many(value) for value in (M, S, C, R, Y)))
    for one, two in ((alike.mean, step.mean), (alike.covariance, step.covariance), (alike.keep, step.keep)):
        torch.testing.assert_close(few(one), two)


def test_the_density_of_a_residual_counts_what_is_observed() -> None:
    step = update(small, *(many(value) for value in (M, S, C, R, Y)))
    F = C @ S @ C.mT + R
    normal = torch.distributions.MultivariateNormal((C @ M)[..., 0], F)
    torch.testing.assert_close(log_density(step.residual, step.inverse, torch.full((5, 1), 2.0))[:, 0], normal.log_prob(Y[..., 0]))


def test_looking_back_is_conditioning_on_the_next_state() -> None:
    after, spread = predict(batched, M, S, A, B, Q)
    J, g, L = look_back(*(many(value) for value in (M, S, after, spread, A, Q)))
    gain = S @ A.mT @ torch.linalg.inv(spread)
    torch.testing.assert_close(few(J), gain)
    torch.testing.assert_close(few(g), M - gain @ after)
    torch.testing.assert_close(few(L), S - gain @ spread @ gain.mT, rtol=1e-8, atol=1e-8)
