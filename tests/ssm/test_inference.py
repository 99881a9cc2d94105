"""Filter, smoother, likelihood, samples and forecasts, against the joint Gaussian of everything."""

from __future__ import annotations

import math
import warnings
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.joint_gaussian import answer, condition, joint
from oracles.joint_gaussian import log_likelihood as joint_log_likelihood
from oracles.systems import Case, case, clip_of
from stillmotion.core.errors import UserError
from stillmotion.ssm.inference import forecast, kalman_filter, log_likelihood, observe, sample, smooth
from stillmotion.ssm.systems import Moments, Smoothed, System

FORMS = ("loop", "scan")
CLIPS = 40
# n, p, T, controls, share observed, noise, singular: thirteen kinds of forty random systems each
KINDS = [
    (1, 1, 1, 0, 0.7, 0.1, "no"), (1, 3, 8, 1, 0.5, 1.0, "no"), (2, 1, 9, 0, 0.7, 0.1, "no"), (2, 2, 6, 2, 0.3, 0.01, "no"),
    (3, 2, 7, 0, 1.0, 0.1, "no"), (3, 2, 10, 1, 0.7, 0.3, "axis"), (3, 4, 3, 0, 0.6, 0.1, "no"), (4, 2, 12, 0, 0.5, 0.03, "no"),
    (4, 2, 5, 1, 0.0, 0.1, "no"), (4, 3, 2, 0, 0.8, 1.0, "no"), (5, 2, 6, 3, 0.7, 0.1, "axis"), (5, 4, 4, 0, 0.9, 0.3, "no"),
    (2, 3, 11, 1, 0.2, 0.001, "no"),
]  # fmt: skip


def everything(found: Smoothed) -> list[Tensor]:
    """In the order of the oracle's answer."""
    f = found.filtered
    return [
        f.mean, f.covariance, f.predicted.mean, f.predicted.covariance, f.log_likelihood, found.mean, found.covariance, found.lag_one,
    ]  # fmt: skip


def error(found: Tensor, expected: Tensor) -> float:
    """The largest one, relative to the largest number expected where that is above one."""
    if not expected.numel():
        return 0.0
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1))


def in_type(c: Case, dtype: torch.dtype) -> Case:
    return Case(c.system.to(dtype), c.y.to(dtype), c.mask, None if c.controls is None else c.controls.to(dtype))


@pytest.mark.filterwarnings("ignore:computed in float64")
@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_that_of_the_joint_gaussian(kind: tuple[int, int, int, int, float, float, str]) -> None:
    """520 systems in all, with entries that float32 can hold, so that one answer serves both types."""
    n, p, frames, controls, seen, noise, singular = kind
    c = in_type(in_type(case(frames, CLIPS, frames, n, p, controls, seen, noise, singular=singular), torch.float32), torch.float64)
    u = c.controls
    answers = [answer(clip_of(c.system, k), c.y[k], c.mask[k], None if u is None else u[k]) for k in range(CLIPS)]
    for dtype, allowed in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        given_ = in_type(c, dtype)
        y = torch.where(c.mask, given_.y, torch.nan)
        for form in FORMS:
            found = everything(smooth(given_.system, y, c.mask, given_.controls, form))
            assert all(value.dtype == dtype for value in found)
            for k, right in enumerate(answers):
                errors = [error(value[k], expected) for value, expected in zip(found, right, strict=True)]
                assert max(errors) < allowed, (form, dtype, k, errors)


def test_most_of_those_systems_are_within_reach_of_float32() -> None:
    switched = 0
    for n, p, frames, controls, seen, noise, singular in KINDS:
        c = in_type(case(frames, CLIPS, frames, n, p, controls, seen, noise, singular=singular), torch.float32)
        for k in range(CLIPS):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                kalman_filter(clip_of(c.system, k), c.y[k], c.mask[k], None if c.controls is None else c.controls[k])
            switched += bool(said)
    assert switched < 0.4 * len(KINDS) * CLIPS


@pytest.mark.parametrize("form", FORMS)
def test_states_may_be_known_exactly_and_driven_along_one_direction(form: str) -> None:
    """A first state without doubt and noise of rank one: predictions stay singular for n frames."""
    c = case(11, 1, 9, 4, 2, seen=0.6)
    v = torch.randn(4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero = torch.zeros(1, 4, 4, dtype=torch.float64)
    system = replace(c.system, Q=(v @ v.mT).expand(1, 9, 4, 4), covariance=zero)
    found = everything(smooth(system, c.y, c.mask, form=form))  # type: ignore[arg-type]
    right = answer(clip_of(system, 0), c.y[0], c.mask[0])
    assert max(error(value[0], expected) for value, expected in zip(found, right, strict=True)) < 1e-9


@given(
    seed=st.integers(0, 10**6), frames=st.integers(1, 70), n=st.integers(1, 6), p=st.integers(1, 4), clips=st.integers(1, 3),
    noise=st.sampled_from([1e-8, 1e-4, 0.1, 10.0]), varying=st.booleans(), singular=st.sampled_from(["no", "axis", "rotated"]),
    seen=st.sampled_from([0.0, 0.2, 0.7, 1.0]), controls=st.integers(0, 2),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_scan_is_the_loop(
    seed: int, frames: int, n: int, p: int, clips: int, noise: float, varying: bool, singular: str, seen: float, controls: int
) -> None:
    c = case(seed, clips, frames, n, p, controls, seen, noise, varying, singular=singular)
    loop, scan = (everything(smooth(c.system, c.y, c.mask, c.controls, form)) for form in FORMS)
    for one, other in zip(loop, scan, strict=True):
        assert error(other, one) < max(1e-9, 1e-14 / noise)


@pytest.mark.parametrize("form", FORMS)
def test_the_smoother_differs_from_the_filter_wherever_it_must(form: str) -> None:
    """Before the last observation it knows more: other means, smaller covariances. From that frame on it knows the same."""
    c = case(0, 20, 12, 3, 2, seen=0.4)
    found = smooth(c.system, c.y, c.mask, form=form)  # type: ignore[arg-type]
    last = torch.stack([rows.any(-1).nonzero().max() for rows in c.mask])
    before = torch.arange(12) < last[:, None]
    apart = (found.mean - found.filtered.mean).abs().amax(-1)
    gained = torch.linalg.eigvalsh(found.filtered.covariance - found.covariance)
    assert before.sum() > 100
    assert (~before).sum() > 20
    assert apart[before].min() > 1e-6
    assert gained[before].amax(-1).min() > 1e-6
    assert gained.min() > -1e-12
    assert apart[~before].max() < 1e-12
    assert gained[~before].abs().max() < 1e-12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("varying", [True, False])
def test_gradients_of_everything_by_everything(form: str, varying: bool) -> None:
    c = case(3, 2, 4, 2, 2, 1, varying=varying)
    names = [part.name for part in fields(System)]
    tensors = [getattr(c.system, name) for name in names]

    def run(y: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        parts = dict(zip(names, values, strict=True))
        # a covariance stays one under any small change of its entries
        parts |= {name: (parts[name] + parts[name].mT) / 2 for name in ("Q", "R", "covariance")}
        return tuple(everything(smooth(System(**parts), y, c.mask, c.controls, form)))  # type: ignore[arg-type]

    inputs = [value.clone().requires_grad_() for value in (c.y, *tensors)]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("form", FORMS)
def test_an_entry_never_observed_is_one_that_is_not_there(form: str) -> None:
    c = case(1, 3, 7, 3, 3)
    mask = c.mask.clone()
    mask[..., 1] = False
    without = replace(c.system, C=c.system.C[..., [0, 2], :], R=c.system.R[..., [0, 2], :][..., [0, 2]], d=c.system.d[..., [0, 2]])  # type: ignore[index]
    full = everything(smooth(c.system, c.y, mask, form=form))  # type: ignore[arg-type]
    less = everything(smooth(without, c.y[..., [0, 2]], mask[..., [0, 2]], form=form))  # type: ignore[arg-type]
    for one, other in zip(full, less, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_mask_of_frames_is_one_of_all_their_entries() -> None:
    c = case(2, 3, 6)
    frames = c.mask.any(-1)
    one, other = smooth(c.system, c.y, frames), smooth(c.system, c.y, frames[..., None].expand_as(c.y))
    torch.testing.assert_close(one.mean, other.mean, rtol=0, atol=0)
    assert (~frames).any()


def test_the_quicker_form_is_taken_for_clips_of_any_length() -> None:
    for frames in (5, 70):
        c = case(2, 2, frames)
        assert torch.equal(smooth(c.system, c.y, c.mask).mean, smooth(c.system, c.y, c.mask, form="loop" if frames == 5 else "scan").mean)


def test_axes_of_clips_broadcast() -> None:
    """(2, 3) clips, with an A for each of the two rows and a first state for each of the three columns."""
    c = case(4, 6, 5, varying=False)
    y, mask = c.y.reshape(2, 3, 5, 2), c.mask.reshape(2, 3, 5, 2)
    A = torch.stack([c.system.A, c.system.A * 0.8])[:, None, None]
    means = torch.stack([c.system.mean, c.system.mean + 1, c.system.mean - 2])
    for form in FORMS:
        found = everything(smooth(replace(c.system, A=A, mean=means), y, mask, form=form))
        for i in range(2):
            for j in range(3):
                alone = everything(smooth(replace(c.system, A=A[i, 0, 0], mean=means[j]), y[i, j], mask[i, j], form=form))
                for one, other in zip(found, alone, strict=True):
                    torch.testing.assert_close(one[i, j], other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_changes_nothing(form: str) -> None:
    c = in_type(case(0, 2, 6, noise=1.0), torch.float32)
    plain = everything(smooth(c.system, c.y, c.mask, form=form))  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = everything(smooth(c.system, c.y, c.mask, form=form))  # type: ignore[arg-type]
        coarse = log_likelihood(c.system, c.y.bfloat16(), c.mask, form=form)  # type: ignore[arg-type]
    for one, other in zip(plain, inside, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, log_likelihood(c.system, c.y.bfloat16().float(), c.mask), rtol=1e-4, atol=1e-4)


def test_float64_anywhere_is_float64_everywhere() -> None:
    c = case(0, 2, 6, noise=1.0)
    right = smooth(c.system, c.y.float().double(), c.mask).mean
    torch.testing.assert_close(smooth(c.system, c.y.float(), c.mask).mean, right, rtol=0, atol=0)
    coarse = c.system.to(torch.float32)
    assert smooth(coarse, c.y, c.mask).mean.dtype == torch.float64
    assert smooth(coarse, c.y.float(), c.mask).mean.dtype == torch.float32


def log_normal(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)


@pytest.mark.parametrize("form", FORMS)
def test_samples_have_the_density_of_the_joint_posterior(form: str) -> None:
    """log p(z, y) - log q(z | y) is log p(y) for every z. Draws from the marginals of each frame would have this only on average."""
    c = case(7, 2, 5, 2, 2)
    draws = sample(c.system, c.y, torch.Generator().manual_seed(0), 3, c.mask, form=form)  # type: ignore[arg-type]
    assert draws.shape == (3, 2, 5, 2)
    for k in range(2):
        j = joint(clip_of(c.system, k), 5)
        at = c.mask[k].flatten()
        R = torch.block_diag(*c.system.R[k])[at][:, at]
        H = torch.block_diag(*c.system.C[k])[at]
        mean, covariance = condition(j, c.y[k], c.mask[k])
        for z in draws[:, k].flatten(1):
            of_y = log_normal(c.y[k].flatten()[at], H @ z + c.system.d[k].flatten()[at], R)  # type: ignore[index]
            ratio = log_normal(z, j.state_mean, j.state_covariance) + of_y - log_normal(z, mean, covariance)
            torch.testing.assert_close(ratio, joint_log_likelihood(j, c.y[k], c.mask[k]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_samples_have_the_moments_of_the_joint_posterior(form: str) -> None:
    c = case(8, 1, 4, 2, 1, singular="axis")
    count = 40000
    draws = sample(c.system, c.y, torch.Generator().manual_seed(0), count, c.mask, form=form)[:, 0].flatten(1)  # type: ignore[arg-type]
    mean, covariance = condition(joint(clip_of(c.system, 0), 4), c.y[0], c.mask[0])
    deviation = covariance.diagonal().clamp(min=1e-12).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / math.sqrt(count) + 1e-6).all()
    assert ((draws.T.cov() - covariance).abs() < 6 * deviation[:, None] * deviation / math.sqrt(count) + 1e-6).all()


def test_samples_follow_the_generator_and_take_gradients() -> None:
    c = case(9, 3, 60, 2, 1)
    y = c.y.clone().requires_grad_()
    one, two = (sample(c.system, y, torch.Generator().manual_seed(4), 2, c.mask, form=form) for form in FORMS)
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)
    assert not torch.equal(one, sample(c.system, y, torch.Generator().manual_seed(5), 2, c.mask))
    (gradient,) = torch.autograd.grad(one.sum(), y)
    (expected,) = torch.autograd.grad(2 * smooth(c.system, y, c.mask).mean.sum(), y)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_a_forecast_is_a_filter_of_frames_that_are_missing(form: str) -> None:
    c = case(6, 3, 9, controls=2)
    c.mask[:, 5:] = False
    whole = smooth(c.system, c.y, c.mask, c.controls)
    start = Moments(whole.filtered.mean[:, 4], whole.filtered.covariance[:, 4])
    rest = {name: getattr(c.system, name)[:, 5:] for name in ("A", "C", "Q", "R", "B", "b", "d")}
    future = replace(c.system, **rest)
    found = forecast(future, start, 4, c.controls[:, 5:], form)  # type: ignore[index, arg-type]
    torch.testing.assert_close(found.states.mean, whole.mean[:, 5:], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.states.covariance, whole.covariance[:, 5:], rtol=1e-10, atol=1e-10)
    for k in range(3):
        j = joint(clip_of(c.system, k), 9, c.controls[k])  # type: ignore[index]
        at = c.mask[k].flatten()
        gain = torch.linalg.solve(j.observation_covariance[at][:, at], j.observation_covariance[at]).T
        mean = j.observation_mean + gain @ (c.y[k].flatten() - j.observation_mean)[at]
        spread = j.observation_covariance - gain @ j.observation_covariance[at]
        torch.testing.assert_close(found.observations.mean[k].flatten(), mean[10:], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.observations.covariance[k, 0], spread[10:12, 10:12], rtol=1e-9, atol=1e-9)


def test_what_is_observed_of_smoothed_states_has_the_noise_of_observation() -> None:
    c = case(2, 2, 5, constants=False)
    states = smooth(c.system, c.y, c.mask)
    seen = observe(c.system, Moments(states.mean, states.covariance))
    by_hand = torch.einsum("btij,btj->bti", c.system.C, states.mean)
    torch.testing.assert_close(seen.mean, by_hand)
    spread = torch.einsum("btij,btjk,btlk->btil", c.system.C, states.covariance, c.system.C) + c.system.R
    torch.testing.assert_close(seen.covariance, spread)


def test_a_forecast_of_no_frames_is_refused() -> None:
    c = case(2, 2, 5)
    with pytest.raises(UserError, match="at least one frame to forecast, got 0"):
        forecast(c.system, Moments(c.system.mean, c.system.covariance), 0)
