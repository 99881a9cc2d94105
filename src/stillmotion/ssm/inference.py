"""Exact inference in a linear-Gaussian system: filter, smoother, likelihood, joint samples, forecasts.

All take observations y (*, T, p), a mask (*, T) or (*, T, p), true where observed, and controls (*, T, m), with any axes of clips in
place of *. What stands in y where nothing is observed has no effect, and may be NaN. All are differentiable, work in float32 or
float64 and outside autocast, and raise UserError for input that does not fit together. `form` is "loop", frame by frame, or
"scan", in about 2 log2(T) rounds; the quicker one for the length of the clips where it is None. The forms agree up to rounding; second
derivatives exist for the loop alone.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.core.precision import full_precision
from stillmotion.core.random import normal
from stillmotion.ssm import small
from stillmotion.ssm.conditioning import judge, with_enough_digits
from stillmotion.ssm.kalman import Backward, look_back, predict
from stillmotion.ssm.loop import Run, filtered_of, run_loop, spreads_by_loop, states_by_loop
from stillmotion.ssm.parallel import run_scan
from stillmotion.ssm.problem import Problem, begin, first, formulate
from stillmotion.ssm.scan import spreads, states
from stillmotion.ssm.systems import Filtered, Forecast, Moments, Smoothed, System

Form = Literal["loop", "scan"]
SHORT = {False: 64, True: 16}
"""Clips of fewer frames are quicker in a loop: without and with gradients."""


def kalman_filter(
    system: System, y: Tensor, mask: Tensor | None = None, controls: Tensor | None = None, form: Form | None = None
) -> Filtered:
    """States given the observations so far, and the likelihood of each frame given those before."""

    def work(system: System, y: Tensor) -> Filtered:
        problem = formulate(system, y, mask, controls)
        return filtered_of(problem, _run(problem, _quicker(form, problem)))

    with full_precision(y):
        return with_enough_digits(work, system, y)


def log_likelihood(
    system: System, y: Tensor, mask: Tensor | None = None, controls: Tensor | None = None, form: Form | None = None
) -> Tensor:
    """log p(y) of the observed entries in nats, (*,): the sum over frames of the densities of their residuals."""
    return kalman_filter(system, y, mask, controls, form).log_likelihood.sum(-1)


def smooth(system: System, y: Tensor, mask: Tensor | None = None, controls: Tensor | None = None, form: Form | None = None) -> Smoothed:
    """States given all observations (Rauch, Tung and Striebel 1965)."""

    def work(system: System, y: Tensor) -> Smoothed:
        problem = formulate(system, y, mask, controls)
        chosen = _quicker(form, problem)
        run = _run(problem, chosen)
        J, g, L = _backward(problem, run)
        mean, covariance = (value.flip(2) for value in _moments(J, g, L, chosen))
        lag_one = small.product(covariance[:, :, 1:], small.transpose(J.flip(2)[:, :, :-1]))
        shape = problem.shape
        return Smoothed(first(mean, 1, shape), first(covariance, 2, shape), first(lag_one, 2, shape), filtered_of(problem, run))

    with full_precision(y):
        return with_enough_digits(work, system, y)


def sample(
    system: System, y: Tensor, generator: torch.Generator, count: int = 1, mask: Tensor | None = None, controls: Tensor | None = None,
    form: Form | None = None,
) -> Tensor:  # fmt: skip
    """Joint draws of all states given all observations, (count, *, T, n): from the last frame to the first, each given the next.

    Draws are differentiable in everything but the noise.
    """

    def work(system: System, y: Tensor) -> Tensor:
        problem = formulate(system, y, mask, controls)
        chosen = _quicker(form, problem)
        J, g, L = _backward(problem, _run(problem, chosen))
        n, frames, clips = len(problem.mean), problem.y.shape[2], problem.shape.numel()
        noise = normal((clips, count, frames, n), generator, y).permute(3, 1, 2, 0)
        path = _states(J, g + small.product(small.root(L), noise.flip(2)), chosen).flip(2)
        return path.permute(1, 3, 2, 0).reshape(count, *problem.shape, frames, n)

    with full_precision(y):
        return with_enough_digits(work, system, y)


def forecast(
    system: System, start: Moments, frames: int, controls: Tensor | None = None, form: Form | None = None
) -> Forecast:
    """The `frames` states that follow a state `start` (mean (*, n), covariance (*, n, n)), and what will be observed of them.

    The matrices and controls are those of the frames to come: the first A leads from `start` into the first of them. The system's own
    first state has no part in it.
    """
    if frames < 1:
        raise UserError("at least one frame to forecast", str(frames))
    whole = System(system.A, system.C, system.Q, system.R, start.mean, start.covariance, system.B, system.b, system.d)
    unseen = start.mean.new_zeros(*start.mean.shape[:-1], frames, system.C.shape[-2])
    with full_precision(start.mean):
        problem = formulate(whole, unseen, torch.zeros_like(unseen, dtype=torch.bool), controls)
        A, b, Q = (value.expand(-1, -1, frames, -1) for value in problem[:3])
        m, P = predict(small, problem.mean, problem.covariance, A[:, :, :1], b[:, :, :1], Q[:, :, :1])
        mean, covariance = _moments(A, begin(m, b[:, :, 1:]), begin(P, Q[:, :, 1:]), _quicker(form, problem))
        states = Moments(first(mean, 1, problem.shape), first(covariance, 2, problem.shape))
        return Forecast(states, observe(system, states))


def observe(system: System, states: Moments) -> Moments:
    """What is observed of states (*, T, n): means (*, T, p) and covariances (*, T, p, p), with the noise of observation."""
    C = system.C.to(states.mean.dtype)
    mean = (C @ states.mean[..., None])[..., 0]
    return Moments(mean if system.d is None else mean + system.d, C @ states.covariance @ C.mT + system.R)


def _quicker(form: Form | None, problem: Problem) -> Form:
    if form is not None:
        return form
    learning = any(value.requires_grad for value in problem if isinstance(value, Tensor))
    return "loop" if problem.y.shape[2] < SHORT[learning] else "scan"


def _run(problem: Problem, form: Form) -> Run:
    run = (run_loop if form == "loop" else run_scan)(problem)
    judge(problem, run)
    return run


def _backward(problem: Problem, run: Run) -> Backward:
    """p(z_t | z_{t+1}, y_1 ... y_t), the last frame first."""
    A, Q = (value if value.shape[2] == 1 else value[:, :, 1:] for value in (problem.A, problem.Q))
    after, spread = run.predicted_mean[:, :, 1:], run.predicted_covariance[:, :, 1:]
    J, g, L = look_back(run.mean[:, :, :-1], run.covariance[:, :, :-1], after, spread, A, Q)
    m, P = run.mean[:, :, -1:], run.covariance[:, :, -1:]
    return Backward(begin(torch.zeros_like(P), J.flip(2)), begin(m, g.flip(2)), begin(P, L.flip(2)))


def _moments(E: Tensor, g: Tensor, L: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """Of x_t = E_t x_{t-1} + g_t + N(0, L_t), from zero."""
    return _states(E, g, form), (spreads_by_loop if form == "loop" else spreads)(E, L)


def _states(E: Tensor, g: Tensor, form: Form) -> Tensor:
    """x_t = E_t x_{t-1} + g_t, from zero."""
    return (states_by_loop if form == "loop" else states)(E, g)
