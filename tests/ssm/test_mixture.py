"""Mixtures of systems, against their definition clip by clip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracles.joint_gaussian import answer
from oracles.systems import clip_of
from stillmotion.core.errors import UserError
from stillmotion.ssm.inference import kalman_filter, smooth
from stillmotion.ssm.mixture import Mixture, Past, filter_mixture, mix, roll
from stillmotion.ssm.systems import System

B, T, N, P, K, U = 3, 7, 3, 2, 4, 2


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(controls: bool = False, dtype: torch.dtype = torch.float64) -> Mixture:
    A = 0.9 * torch.eye(N, dtype=torch.float64) + 0.1 * drawn(0, K, N, N)
    eye = torch.eye(N, dtype=dtype)
    return Mixture(
        A.to(dtype), drawn(1, K, P, N).to(dtype), 0.2 * eye, 0.3 * eye[:P, :P], drawn(2, N).to(dtype), 2 * eye,
        drawn(3, K, N, U).to(dtype) if controls else None,
    )  # fmt: skip


Y, MASK, CONTROLS = drawn(4, B, T, P), torch.rand(B, T, P, generator=torch.Generator().manual_seed(5)) < 0.6, drawn(6, B, T, U)
NET = drawn(7, P, K)


def from_codes(step: int, past: Past | None, carry: Tensor) -> tuple[Tensor, Tensor]:
    """Weights from a running mean of codes, which is the carry; the first frame has them equal."""
    if past is not None:
        carry = 0.5 * carry + 0.5 * past.code
    return torch.softmax(carry @ NET.to(carry), -1), carry


def by_hand(m: Mixture, y: Tensor, mask: Tensor, controls: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights and filtered means of one clip, from the textbook form of the filter, and rows of C left out where they are not observed."""
    mean, P_, carry, weights, means = m.mean, m.covariance, torch.zeros(P, dtype=y.dtype), [], []
    for t in range(len(y)):
        alpha = torch.softmax(carry @ NET, -1)
        A, C = torch.einsum("k,kij->ij", alpha, m.A), torch.einsum("k,kij->ij", alpha, m.C)
        if t:
            mean, P_ = A @ mean, A @ P_ @ A.T + m.Q
            if controls is not None and m.B is not None:
                mean = mean + torch.einsum("k,kij,j->i", alpha, m.B, controls[t])
        code = torch.where(mask[t], y[t], C @ mean)
        at = mask[t].nonzero()[:, 0]
        gain = P_ @ C[at].T @ torch.linalg.inv(C[at] @ P_ @ C[at].T + m.R[at][:, at])
        mean, P_ = mean + gain @ (y[t, at] - C[at] @ mean), P_ - gain @ C[at] @ P_
        carry = 0.5 * carry + 0.5 * code
        weights.append(alpha)
        means.append(mean)
    return torch.stack(weights), torch.stack(means)


@pytest.mark.parametrize("controlled", [False, True])
def test_the_filter_feeds_the_weights(controlled: bool) -> None:
    m, u = mixture(controlled), CONTROLS if controlled else None
    found, carry = filter_mixture(m, torch.where(MASK, Y, torch.nan), from_codes, torch.zeros(B, P, dtype=Y.dtype), MASK, u)
    for k in range(B):
        weights, means = by_hand(m, Y[k], MASK[k], None if u is None else u[k])
        torch.testing.assert_close(found.weights[k], weights, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.filtered.mean[k], means, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.past.mean, found.filtered.mean[:, -1])
    after, _ = from_codes(T, found.past, carry)
    assert after.shape == (B, K)


def test_given_its_weights_the_system_is_linear_and_all_the_rest_applies() -> None:
    found, _ = filter_mixture(mixture(True), Y, from_codes, torch.zeros(B, P, dtype=Y.dtype), MASK, CONTROLS)
    smoothed = smooth(found.system, Y, MASK, CONTROLS)
    torch.testing.assert_close(smoothed.filtered.mean, found.filtered.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(smoothed.filtered.log_likelihood, found.filtered.log_likelihood, rtol=1e-12, atol=1e-12)
    shared = {name: getattr(found.system, name).expand(B, *getattr(found.system, name).shape) for name in ("Q", "R", "mean", "covariance")}
    right = answer(clip_of(replace(found.system, **shared), 0), Y[0], MASK[0], CONTROLS[0])
    torch.testing.assert_close(smoothed.mean[0], right.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.filtered.log_likelihood[0], right.log_likelihood, rtol=1e-9, atol=1e-9)


def test_one_system_alone_is_that_system() -> None:
    m = mixture()
    chosen = torch.nn.functional.one_hot(torch.full((B, T), 2), K).double()
    alone = kalman_filter(System(m.A[2], m.C[2], m.Q, m.R, m.mean, m.covariance), Y, MASK)
    torch.testing.assert_close(kalman_filter(mix(m, chosen), Y, MASK).mean, alone.mean)


def test_gradients_reach_the_systems_and_what_makes_the_weights() -> None:
    m = mixture()

    def run(A: Tensor, C: Tensor, net: Tensor, y: Tensor) -> Tensor:
        def weights(step: int, past: Past | None, carry: None) -> tuple[Tensor, None]:
            seen = torch.zeros(B, N, dtype=y.dtype) if past is None else past.mean + past.covariance.sum(-1)
            return torch.softmax(seen @ net, -1), None

        found, _ = filter_mixture(replace(m, A=A, C=C), y, weights, None, MASK[:, :3])
        return found.filtered.log_likelihood

    inputs = [value.clone().requires_grad_() for value in (m.A, m.C, drawn(8, N, K), Y[:, :3])]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_float32_gives_way_and_the_weights_are_asked_in_the_type_of_the_mixture() -> None:
    m, types = mixture(dtype=torch.float32), set()

    def weights(step: int, past: Past | None, carry: int) -> tuple[Tensor, int]:
        types.add(torch.float32 if past is None else past.code.dtype)
        return torch.full((B, K), 1 / K), carry + 1

    diffuse = replace(m, covariance=1e6 * m.covariance)
    with pytest.warns(UserWarning, match="computed in float64"):
        found, asked = filter_mixture(diffuse, Y.float(), weights, 0, MASK)
    assert asked == T
    assert types == {torch.float32}
    fine, _ = filter_mixture(replace(mixture(), covariance=2e6 * torch.eye(N, dtype=Y.dtype)), Y, weights, 0, MASK)
    torch.testing.assert_close(found.filtered.mean, fine.filtered.mean.float(), rtol=1e-4, atol=1e-4)
    assert found.weights.dtype == found.system.A.dtype == torch.float32


@pytest.mark.parametrize("controlled", [False, True])
def test_rolling_on_is_the_mean_path(controlled: bool) -> None:
    m = mixture(controlled)
    u = CONTROLS if controlled else None
    past = Past(drawn(9, B, P), drawn(10, B, N), torch.eye(N, dtype=Y.dtype).expand(B, N, N))
    found = roll(m, past, 3, from_codes, torch.zeros(B, P, dtype=Y.dtype), controls=u)
    z, code, carry = past.mean, past.code, torch.zeros(B, P, dtype=Y.dtype)
    for t in range(3):
        carry = 0.5 * carry + 0.5 * code
        alpha = torch.softmax(carry @ NET, -1)
        z = torch.einsum("bk,kij,bj->bi", alpha, m.A, z)
        if controlled:
            z = z + torch.einsum("bk,kij,bj->bi", alpha, m.B, CONTROLS[:, t])
        code = torch.einsum("bk,kij,bj->bi", alpha, m.C, z)
        torch.testing.assert_close(found.states[:, t], z)
        torch.testing.assert_close(found.codes[:, t], code)
        torch.testing.assert_close(found.weights[:, t], alpha)


def test_rolled_draws_have_the_noise_of_the_system() -> None:
    m, count = mixture(), 20000
    spread = 0.5 * torch.eye(N, dtype=Y.dtype) + 0.2
    past = Past(torch.zeros(count, P, dtype=Y.dtype), drawn(10, N).expand(count, N), spread.expand(count, N, N))

    def even(step: int, past: Past | None, carry: None) -> tuple[Tensor, None]:
        return torch.full((count, K), 1 / K, dtype=Y.dtype), None

    found = roll(m, past, 1, even, None, torch.Generator().manual_seed(0))
    A, C = m.A.mean(0), m.C.mean(0)
    S = A @ spread @ A.T + m.Q
    torch.testing.assert_close(found.states[:, 0].T.cov(), S, rtol=0.06, atol=0.03)
    torch.testing.assert_close(found.codes[:, 0].T.cov(), C @ S @ C.T + m.R, rtol=0.06, atol=0.05)
    torch.testing.assert_close(found.states[:, 0].mean(0), A @ drawn(10, N), rtol=0, atol=0.03)


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="expected 4 weights per frame, as many as there are systems, got 3"):
        mix(mixture(), torch.ones(B, T, 3))
    with pytest.raises(UserError, match="controls and their effect B together"):
        filter_mixture(mixture(True), Y, from_codes, torch.zeros(B, P), MASK)
    with pytest.raises(UserError, match="observations of shape"):
        filter_mixture(mixture(), Y[0], from_codes, torch.zeros(B, P))
    past = Past(drawn(9, B, P), drawn(10, B, N), torch.eye(N, dtype=Y.dtype).expand(B, N, N))
    with pytest.raises(UserError, match="at least one frame to roll on, got 0"):
        roll(mixture(), past, 0, from_codes, torch.zeros(B, P))
    with pytest.raises(UserError, match="controls and their effect B together"):
        roll(mixture(True), past, 2, from_codes, torch.zeros(B, P, dtype=Y.dtype))
