"""Divergences: closed forms against torch, and against sampling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from stillmotion.core.codes import Gaussian
from stillmotion.objectives.divergences import kl, kl_to_mixture, kl_to_prior, log_density


def gaussian(seed: int, *shape: int) -> Gaussian:
    g = torch.Generator().manual_seed(seed)
    mean = torch.randn(shape, generator=g, dtype=torch.float64)
    return Gaussian(mean, torch.rand(shape, generator=g, dtype=torch.float64) * 2 + 0.05)


def torchs(gaussian: Gaussian) -> Independent:
    return Independent(Normal(gaussian.mean, gaussian.scale), 1)


@given(st.integers(0, 10**6))
def test_kl_is_that_of_torch(seed: int) -> None:
    q, p = gaussian(seed, 3, 2, 4), gaussian(seed + 1, 3, 2, 4)
    torch.testing.assert_close(kl(q, p), kl_divergence(torchs(q), torchs(p)))
    assert (kl(q, p) >= 0).all()


def test_kl_is_the_mean_of_the_log_ratio() -> None:
    q, p = gaussian(0, 1, 3), gaussian(1, 1, 3)
    wide = Gaussian(q.mean.expand(200000, 3), q.scale.expand(200000, 3))
    x = wide.sample(torch.Generator().manual_seed(0))
    ratio = log_density(x, q) - log_density(x, p)
    error = float(ratio.std() / len(x) ** 0.5)
    assert abs(float(ratio.mean() - kl(q, p))) < 4 * error


@given(st.integers(0, 10**6))
def test_kl_of_a_gaussian_from_itself_is_zero(seed: int) -> None:
    q = gaussian(seed, 5, 4)
    torch.testing.assert_close(kl(q, q), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.2, 3.0])
def test_kl_to_a_centred_prior(scale: float) -> None:
    q = gaussian(0, 5, 4)
    prior = Gaussian(torch.zeros(5, 4, dtype=torch.float64), torch.full((5, 4), scale, dtype=torch.float64))
    torch.testing.assert_close(kl_to_prior(q, scale), kl_divergence(torchs(q), torchs(prior)))


def mixture(seed: int, count: int) -> tuple[torch.Tensor, Gaussian]:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), gaussian(seed, count, 4)


@given(st.integers(0, 10**6))
def test_a_mixture_of_one_gaussian_many_times_over_is_that_gaussian(seed: int) -> None:
    q, (logits, p) = gaussian(seed, 3, 4), mixture(seed + 1, 5)
    same = Gaussian(p.mean[:1].expand(5, 4), p.scale[:1].expand(5, 4))
    torch.testing.assert_close(kl_to_mixture(q, logits, same), kl(q, Gaussian(p.mean[:1], p.scale[:1])))


def test_of_gaussians_far_apart_the_mixture_costs_the_choice_and_no_more() -> None:
    weights = torch.tensor([0.125, 0.875], dtype=torch.float64)
    logits = weights.log() + 3
    p = Gaussian(torch.tensor([[-40.0], [40.0]], dtype=torch.float64), torch.full((2, 1), 0.5, dtype=torch.float64))
    q = Gaussian(torch.tensor([[-40.3], [40.0]], dtype=torch.float64), torch.tensor([[0.4], [0.5]], dtype=torch.float64))
    torch.testing.assert_close(kl_to_mixture(q, logits, p), kl(q, p) - weights.log())


@pytest.mark.parametrize("seed", range(8))
def test_the_divergence_from_a_mixture_is_never_told_too_small(seed: int) -> None:
    q, (logits, p) = gaussian(seed, 1, 4), mixture(seed + 1, 3)
    wide = Gaussian(q.mean.expand(100000, 4), q.scale.expand(100000, 4))
    x = wide.sample(torch.Generator().manual_seed(0))
    density = torch.logsumexp(logits.log_softmax(0) + log_density(x[:, None], p), 1)
    ratio = log_density(x, q) - density
    assert float(kl_to_mixture(q, logits, p)) > float(ratio.mean()) - 4 * float(ratio.std() / len(x) ** 0.5)


def test_a_gaussian_without_weight_leaves_gradients_finite() -> None:
    q, (_, p) = gaussian(0, 3, 4), mixture(1, 3)
    logits = torch.tensor([0.0, -2000.0, 0.0], dtype=torch.float64, requires_grad=True)
    kl_to_mixture(q, logits, p).sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_log_density_is_that_of_torch() -> None:
    p, x = gaussian(0, 5, 2, 4), torch.randn(5, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(log_density(x, p), torchs(p).log_prob(x))
