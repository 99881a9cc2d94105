"""Expectation maximisation: against pykalman, and what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykalman import KalmanFilter

from oracles.systems import Case, case
from stillmotion.core.errors import UserError
from stillmotion.ssm.em import fit
from stillmotion.ssm.inference import log_likelihood, smooth

THEIRS = {
    "A": "transition_matrices", "C": "observation_matrices", "Q": "transition_covariance", "R": "observation_covariance",
    "b": "transition_offsets", "d": "observation_offsets", "mean": "initial_state_mean", "covariance": "initial_state_covariance",
}  # fmt: skip


def static(seed: int, clips: int = 3, frames: int = 25, controls: int = 0, seen: float = 1.0) -> Case:
    return case(seed, clips, frames, 3, 2, controls, seen, varying=False)


@pytest.mark.parametrize("names", [["A", "C", "Q", "R", "mean", "covariance"], ["A", "R"], ["b", "d"]])
def test_steps_are_those_of_pykalman(names: list[str]) -> None:
    """One clip with wholly missing frames. Theirs sets constants after all else; ours together with the matrix beside them."""
    c = static(5, 1, 40)
    theirs = KalmanFilter(**{other: getattr(c.system, name).numpy() for name, other in THEIRS.items()})
    rows = torch.rand(40, generator=torch.Generator().manual_seed(0)) < 0.8
    y = np.ma.array(c.y[0].numpy())
    y[~rows.numpy()] = np.ma.masked
    found = fit(c.system, c.y, 4, rows[None], learn=names)
    theirs = theirs.em(y, n_iter=4, em_vars=[THEIRS[name] for name in names])
    assert float(found.log_likelihood[-1]) == pytest.approx(theirs.loglikelihood(y), abs=1e-8)
    for name, other in THEIRS.items():
        np.testing.assert_allclose(getattr(found.system, name).numpy(), getattr(theirs, other), rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 10**6), seen=st.sampled_from([0.3, 0.7, 1.0]), controls=st.integers(0, 2))
@settings(max_examples=8, deadline=None)
def test_the_likelihood_never_falls(seed: int, seen: float, controls: int) -> None:
    c = static(seed, controls=controls, seen=seen)
    found = fit(c.system, c.y, 5, c.mask, c.controls)
    assert found.log_likelihood.shape == (6,)
    assert float(found.log_likelihood.diff().min()) > -1e-8
    assert float(found.log_likelihood[-1] - found.log_likelihood[0]) > 1
    torch.testing.assert_close(found.log_likelihood[-1], log_likelihood(found.system, c.y, c.mask, c.controls).sum())


@pytest.mark.parametrize("name", ["A", "B", "C", "Q", "R", "b", "d", "mean", "covariance"])
def test_each_step_follows_the_gradient_of_the_likelihood(name: str) -> None:
    """Fisher's identity: what a step adds to a matrix W of y = W x + noise is noise covariance * gradient * (sum of E x x')^-1, exactly,
    and to a covariance S of N draws 2 S gradient S / N. With partly and wholly missing frames."""
    c = static(3, controls=1, seen=0.6)
    s, clips, frames = c.system, 3, 25
    value = getattr(s, name).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_likelihood(replace(s, **{name: value}), c.y, c.mask, c.controls).sum(), value)
    step = getattr(fit(s, c.y, 1, c.mask, c.controls, learn=[name]).system, name) - getattr(s, name)
    known, used = smooth(s, c.y, c.mask, c.controls), c.mask.any(-1)
    second = known.covariance + known.mean[..., None] * known.mean[..., None, :]
    u = c.controls[:, 1:].flatten(0, 1)  # type: ignore[index]
    eye = torch.eye(1, dtype=u.dtype)
    noise, xx = {
        "A": (s.Q, second[:, :-1].sum((0, 1))), "B": (s.Q, u.T @ u), "b": (s.Q, eye * clips * (frames - 1)),
        "C": (s.R, second[used].sum(0)), "d": (s.R, eye * used.sum()), "mean": (s.covariance, eye * clips),
        "Q": (s.Q, clips * (frames - 1)), "R": (s.R, used.sum()), "covariance": (s.covariance, clips),
    }[name]  # fmt: skip
    if name in ("Q", "R", "covariance"):
        expected = 2 * noise @ gradient @ noise / xx
    else:
        expected = (noise @ gradient.reshape(len(noise), -1) @ torch.linalg.inv(xx)).reshape(step.shape)
    assert (used.sum() < clips * frames) & (c.mask.sum() < 2 * used.sum())
    torch.testing.assert_close(step, expected, rtol=1e-7, atol=1e-8)


def test_only_what_is_to_be_learned_changes() -> None:
    c = static(4, controls=1, seen=0.8)
    found = fit(c.system, c.y, 2, c.mask, c.controls, learn={"A", "R"}).system
    for name in (*THEIRS, "B"):
        assert torch.equal(getattr(found, name), getattr(c.system, name)) == (name not in ("A", "R"))


def test_clips_of_one_frame_say_nothing_of_the_transition() -> None:
    c = static(4, frames=1)
    found = fit(c.system, c.y, 1).system
    assert torch.equal(found.A, c.system.A)
    assert not torch.equal(found.C, c.system.C)


def test_it_finds_the_system_that_made_the_clips() -> None:
    g = torch.Generator().manual_seed(0)
    c = case(1, 40, 60, 3, 4, noise=0.01, varying=False)
    z, y = torch.zeros(40, 3, dtype=torch.float64), []
    for _ in range(60):
        z = z @ c.system.A.T + torch.randn(40, 3, generator=g, dtype=torch.float64) @ torch.linalg.cholesky(c.system.Q).T
        y.append(z @ c.system.C.T + torch.randn(40, 4, generator=g, dtype=torch.float64) @ torch.linalg.cholesky(c.system.R).T)
    true = replace(c.system, b=None, d=None, mean=torch.zeros(3, dtype=torch.float64), covariance=c.system.Q)
    clips = torch.stack(y, 1)
    start = replace(true, A=0.3 * torch.eye(3, dtype=torch.float64))
    found = fit(start, clips, 20, learn=["A"])
    torch.testing.assert_close(found.system.A, true.A, rtol=0, atol=0.06)
    assert float(found.log_likelihood[-1]) > float(log_likelihood(true, clips).sum()) - 1e-6


def test_what_is_refused() -> None:
    c = case(0, 2, 5)
    with pytest.raises(UserError, match=r"expected A with 2 axes, the same in all frames and clips, got shape \(2, 5, 3, 3\)"):
        fit(c.system, c.y, 1)
    with pytest.raises(UserError, match="names to learn among A, C, Q, R, mean, covariance, b, d, got B"):
        fit(static(0).system, c.y, 1, learn=["B"])
