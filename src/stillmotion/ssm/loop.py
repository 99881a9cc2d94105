"""Filter and chains frame by frame: the plain form, and the quicker one for short clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.ssm import batched
from stillmotion.ssm.kalman import Update, log_density, predict, update
from stillmotion.ssm.problem import Problem, first
from stillmotion.ssm.small import Inverse
from stillmotion.ssm.systems import Filtered, Moments


class Run(NamedTuple):
    """What a filter leaves behind, in the layout of `small`.

    log_likelihood: (T, B). share: (T, B), the smallest own share in the covariance of the residual of each frame.
    """

    mean: Tensor
    covariance: Tensor
    predicted_mean: Tensor
    predicted_covariance: Tensor
    log_likelihood: Tensor
    share: Tensor


def run_loop(problem: Problem) -> Run:
    """The filter of Kalman 1960, one frame after the other."""
    frames = problem.y.shape[2]
    A, b, Q, C, R, y = (by_frame(value, frames) for value in problem[:6])
    m, P = by_frame(problem.mean, 1)[0], by_frame(problem.covariance, 1)[0]
    # covariances that no clip has to itself are computed once
    m, P = m.expand(y[0].shape[0], -1, -1), P.expand(max(value[0].shape[0] for value in (A, Q, C, R, [P])), -1, -1)
    before, after = [], []
    for t in range(frames):
        if t:
            m, P = predict(batched, m, P, A[t], b[t], Q[t])
        before.append(Moments(m, P))
        after.append(update(batched, m, P, C[t], R[t], y[t]))
        m, P = after[-1].mean, after[-1].covariance
    return gather(before, after, problem.observed)


def gather(before: Sequence[Moments], after: Sequence[Update], count: Tensor) -> Run:
    """The steps of a loop as one."""
    matrix, log_det, share = zip(*(step.inverse for step in after), strict=True)
    inverse = Inverse(together(matrix), torch.stack(log_det), torch.stack(share))
    density = log_density(together([step.residual for step in after]), inverse, count)
    mean, covariance = together([step.mean for step in after]), together([step.covariance for step in after])
    predicted = together([step.mean for step in before]), together([step.covariance for step in before])
    return Run(mean, covariance, *predicted, density, inverse.share)


def filtered_of(problem: Problem, run: Run) -> Filtered:
    """The results of either form with the axes of the observations."""
    shape = problem.shape
    predicted = Moments(first(run.predicted_mean, 1, shape), first(run.predicted_covariance, 2, shape))
    density = run.log_likelihood.mT.reshape(*shape, -1)
    return Filtered(first(run.mean, 1, shape), first(run.covariance, 2, shape), predicted, density)


def states_by_loop(E: Tensor, g: Tensor) -> Tensor:
    """x_t = E_t x_{t-1} + g_t from zero, in the layout of `small`."""
    frames, states = g.shape[2], []
    x = g.new_zeros(max(E.shape[3], g.shape[3]), *g.shape[:2])
    for E_t, g_t in zip(by_frame(E, frames), by_frame(g, frames), strict=True):
        x = E_t @ x + g_t
        states.append(x)
    return together(states)


def spreads_by_loop(E: Tensor, L: Tensor) -> Tensor:
    """X_t = E_t X_{t-1} E_t' + L_t from zero, in the layout of `small`."""
    frames, covariances = max(E.shape[2], L.shape[2]), []
    X = L.new_zeros(max(E.shape[3], L.shape[3]), *L.shape[:2])
    for E_t, L_t in zip(by_frame(E, frames), by_frame(L, frames), strict=True):
        X = batched.symmetric(batched.congruence(E_t, X) + L_t)
        covariances.append(X)
    return together(covariances)


def by_frame(value: Tensor, frames: int) -> list[Tensor]:
    """(rows, columns, T, B) to T times (B, rows, columns); one that does not vary is the same tensor T times, which saves its gradient."""
    matrices = list(value.permute(2, 3, 0, 1).contiguous().unbind(0))
    return matrices * frames if len(matrices) == 1 else matrices


def together(matrices: Sequence[Tensor]) -> Tensor:
    """T times (B, rows, columns) to (rows, columns, T, B)."""
    return torch.stack(list(matrices)).permute(2, 3, 0, 1).contiguous()
