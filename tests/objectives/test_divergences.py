"""Divergences: closed forms against torch, and against sampling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from stillmotion.core.codes import Gaussian
from stillmotion.objectives.divergences import kl, kl_to_prior, log_density


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


def test_log_density_is_that_of_torch() -> None:
    p, x = gaussian(0, 5, 2, 4), torch.randn(5, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(log_density(x, p), torchs(p).log_prob(x))
