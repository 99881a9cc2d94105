"""Linear-Gaussian systems by brute force: the joint covariance of all states and observations, conditioned on what is observed."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.ssm.systems import System


class Answer(NamedTuple):
    """For one clip: what a filter and a smoother should say. lag_one: (T - 1, n, n), of z_{t+1} and z_t."""

    filtered_mean: Tensor
    filtered_covariance: Tensor
    predicted_mean: Tensor
    predicted_covariance: Tensor
    log_likelihood: Tensor
    mean: Tensor
    covariance: Tensor
    lag_one: Tensor


class Joint(NamedTuple):
    """Of the states and observations of one clip. states: (T n,) and observations: (T p,) stacked frame by frame."""

    state_mean: Tensor
    state_covariance: Tensor
    observation_mean: Tensor
    observation_covariance: Tensor
    cross: Tensor


def joint(system: System, frames: int, controls: Tensor | None = None) -> Joint:
    """z = G (first state; noises) + constants, where G is built row by row from the definition."""
    n, p = system.A.shape[-1], system.C.shape[-2]
    A, C, Q, R = (per_frame(value, frames, 2) for value in (system.A, system.C, system.Q, system.R))
    b = torch.zeros(frames, n, dtype=A.dtype) if system.b is None else per_frame(system.b, frames, 1)
    d = torch.zeros(frames, p, dtype=A.dtype) if system.d is None else per_frame(system.d, frames, 1)
    if system.B is not None:
        b = b + torch.einsum("tij,tj->ti", per_frame(system.B, frames, 2), controls)
    G = torch.zeros(frames * n, frames * n, dtype=A.dtype)
    mean = torch.zeros(frames * n, dtype=A.dtype)
    for t in range(frames):
        row = slice(t * n, (t + 1) * n)
        if t:
            above = slice((t - 1) * n, t * n)
            G[row], mean[row] = A[t] @ G[above], A[t] @ mean[above] + b[t]
        else:
            mean[row] = system.mean
        G[row, row] = torch.eye(n, dtype=A.dtype)
    S = G @ torch.block_diag(system.covariance, *Q[1:]) @ G.T
    H = torch.block_diag(*C)
    return Joint(mean, S, H @ mean + d.flatten(), H @ S @ H.T + torch.block_diag(*R), S @ H.T)


def condition(j: Joint, y: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of all states given the entries of y (T, p) where `seen` (T, p)."""
    at = seen.flatten().nonzero()[:, 0]
    F, U = j.observation_covariance[at][:, at], j.cross[:, at]
    gain = torch.linalg.solve(F, U.T).T
    return j.state_mean + gain @ (y.flatten()[at] - j.observation_mean[at]), j.state_covariance - gain @ U.T


def log_likelihood(j: Joint, y: Tensor, seen: Tensor) -> Tensor:
    """log p of the observed entries, from their joint covariance."""
    at = seen.flatten().nonzero()[:, 0]
    F, r = j.observation_covariance[at][:, at], y.flatten()[at] - j.observation_mean[at]
    return -0.5 * (r @ torch.linalg.solve(F, r) + torch.linalg.slogdet(F)[1] + len(at) * math.log(2 * math.pi))


def answer(system: System, y: Tensor, seen: Tensor, controls: Tensor | None = None) -> Answer:
    """Everything of one clip: y and seen (T, p), system without axes of clips."""
    (frames, _), n = y.shape, system.A.shape[-1]
    j = joint(system, frames, controls)
    parts: list[list[Tensor]] = [[], [], [], [], []]
    for t in range(frames):
        row = slice(t * n, (t + 1) * n)
        so_far, before = seen.clone(), seen.clone()
        so_far[t + 1 :], before[t:] = False, False
        for part, value in zip(parts, (*at(condition(j, y, so_far), row), *at(condition(j, y, before), row)), strict=False):
            part.append(value)
        parts[4].append(log_likelihood(j, y, so_far) - log_likelihood(j, y, before))
    mean, covariance = condition(j, y, seen)
    blocks = covariance.reshape(frames, n, frames, n)
    own = torch.stack([blocks[t, :, t] for t in range(frames)])
    lag = torch.stack([blocks[t + 1, :, t] for t in range(frames - 1)]) if frames > 1 else torch.zeros(0, n, n, dtype=y.dtype)
    return Answer(*(torch.stack(part) for part in parts), mean.reshape(frames, n), own, lag)


def at(moments: tuple[Tensor, Tensor], row: slice) -> tuple[Tensor, Tensor]:
    return moments[0][row], moments[1][row, row]


def per_frame(value: Tensor, frames: int, axes: int) -> Tensor:
    return value.expand(frames, *value.shape[-axes:])
