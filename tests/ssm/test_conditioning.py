"""Numbers that do not hold: float32 gives way, float64 refuses, and nothing is ever silently wrong."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracles.systems import case
from stillmotion.ssm.conditioning import IllConditioned, in_type
from stillmotion.ssm.inference import Form, kalman_filter, smooth
from stillmotion.ssm.systems import Moments, Smoothed, System

FORMS: tuple[Form, ...] = ("loop", "scan")


def like_the_kalman_vae(frames: int, first: float = 20.0) -> tuple[System, Tensor, Tensor]:
    """Its noises, an observation matrix as it is after training, transitions near the identity; float32."""
    g = torch.Generator().manual_seed(0)
    A = torch.eye(4) + 0.02 * torch.randn(3, frames, 4, 4, generator=g)
    A = A / torch.linalg.matrix_norm(A, 2)[..., None, None].clamp(min=1)
    C = torch.randn(3, frames, 2, 4, generator=g)
    system = System(A, C, 0.08 * torch.eye(4), 0.03 * torch.eye(2), torch.zeros(4), first * torch.eye(4))
    return system, torch.randn(3, frames, 2, generator=g), torch.rand(3, frames, generator=g) < 0.6


def largest_error(found: Smoothed, right: Smoothed) -> float:
    pairs = [
        (found.mean, right.mean), (found.covariance, right.covariance), (found.lag_one, right.lag_one),
        (found.filtered.mean, right.filtered.mean), (found.filtered.log_likelihood, right.filtered.log_likelihood),
    ]  # fmt: skip
    return max(float((one.double() - other).abs().max() / other.abs().max().clamp(min=1)) for one, other in pairs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frames", [20, 300])
def test_float32_holds_the_kalman_vae(form: Form, frames: int) -> None:
    system, y, mask = like_the_kalman_vae(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = smooth(system, y, mask, form=form)
    assert largest_error(found, smooth(system.to(torch.float64), y.double(), mask)) < 2e-5


@pytest.mark.parametrize("form", FORMS)
def test_a_diffuse_start_is_computed_in_float64(form: Form) -> None:
    system, y, mask = like_the_kalman_vae(20, 1e6)
    with pytest.warns(UserWarning, match="computed in float64 because float32 is too little, which needs predicted states whose entries"):
        found = smooth(system, y, mask, form=form)
    assert found.mean.dtype == found.filtered.log_likelihood.dtype == torch.float32
    assert largest_error(found, smooth(system.to(torch.float64), y.double(), mask)) < 1e-6


def test_gradients_pass_through_the_switch() -> None:
    system, y, mask = like_the_kalman_vae(6, 1e6)
    y.requires_grad_()
    with pytest.warns(UserWarning, match="computed in float64"):
        kalman_filter(system, y, mask).log_likelihood.sum().backward()
    fine = y.detach().double().requires_grad_()
    kalman_filter(system.to(torch.float64), fine, mask).log_likelihood.sum().backward()
    assert y.grad is not None
    assert fine.grad is not None
    torch.testing.assert_close(y.grad, fine.grad.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_entry_observed_twice_without_noise_is_refused(form: Form, dtype: torch.dtype) -> None:
    c = case(0, 2, 5)
    system = replace(c.system, C=c.system.C[..., :1, :].expand(-1, -1, 2, -1), R=torch.zeros(2, 2)).to(dtype)
    says = r"residuals whose entries have a share of more than 1e-12 .*, got .* in frame \d of clip \d \(float64\)\. Give float64, raise"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(IllConditioned, match=says):
            smooth(system, c.y.to(dtype), torch.ones_like(c.mask), form=form)
    mask = torch.ones_like(c.mask)
    mask[..., 1] = False
    assert smooth(system.to(torch.float64), c.y, mask, form=form).mean.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_a_transition_that_explodes_is_refused_in_the_end(form: Form) -> None:
    c = case(0, 1, 300, noise=1.0, varying=False)
    mask = torch.zeros_like(c.mask)
    with pytest.raises(IllConditioned, match=r"\(float64\)"):
        kalman_filter(replace(c.system, A=c.system.A * 50), c.y, mask, form=form)


def test_types_change_in_all_of_a_container() -> None:
    found = in_type(Moments(torch.zeros(2), torch.ones(2, 2)), torch.float64)
    assert found.mean.dtype == found.covariance.dtype == torch.float64
    assert in_type(None, torch.float64) is None
