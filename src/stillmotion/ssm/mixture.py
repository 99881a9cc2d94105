"""Soft mixtures of K linear systems, whose weights may depend on what the filter has seen so far.

Every frame has its own matrices, A_t = sum_k alpha_t^k A^k and likewise B_t and C_t (Fraccaro et al. 2017, equation 9). Given the weights
the system is linear, so everything in `inference` applies to the system that `mix` returns. Where the weights depend on the frames
before, some of which are missing, the filter has to ask for them frame by frame: `filter_mixture`, and `roll` beyond the last frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.core.precision import full_precision
from stillmotion.core.random import normal
from stillmotion.ssm import batched, small
from stillmotion.ssm.conditioning import in_type, judge, with_enough_digits
from stillmotion.ssm.kalman import Update, predict, update
from stillmotion.ssm.loop import by_frame, filtered_of, gather
from stillmotion.ssm.problem import Problem, effect, formulate
from stillmotion.ssm.systems import Filtered, Moments, System

Carry = TypeVar("Carry")


@dataclass(frozen=True)
class Mixture:
    """K systems that share their noise. A: (K, n, n), C: (K, p, n), B: (K, n, m) or None; Q: (n, n), R: (p, p), mean: (n,) and
    covariance: (n, n) as in System."""

    A: Tensor
    C: Tensor
    Q: Tensor
    R: Tensor
    mean: Tensor
    covariance: Tensor
    B: Tensor | None = None


@dataclass(frozen=True)
class Past:
    """What is known of the frame before, with one axis of clips.

    code: (B, p), what was observed, and in entries that were not, what the filter had predicted. mean: (B, n) and covariance:
    (B, n, n) of the state given the observations up to that frame.
    """

    code: Tensor
    mean: Tensor
    covariance: Tensor


Weights = Callable[[int, Past | None, Carry], tuple[Tensor, Carry]]
"""(frame t from 0, the frame before or None, what it returned last) -> (weights (B, K) of frame t, what it wants to see next time)."""


@dataclass(frozen=True)
class FilteredMixture:
    """filtered: as of `kalman_filter`. weights: (B, T, K). system: the system that they make, for all else. past: of the frame after the
    last, with which `roll` goes on."""

    filtered: Filtered
    weights: Tensor
    system: System
    past: Past


@dataclass(frozen=True)
class Rolled:
    """states: (B, T, n), codes: (B, T, p) and weights: (B, T, K) of the frames after the last."""

    states: Tensor
    codes: Tensor
    weights: Tensor


def mix(mixture: Mixture, weights: Tensor) -> System:
    """The system with weights (*, T, K) of each frame. Raises UserError where there are not as many weights as systems."""
    if weights.shape[-1] != len(mixture.A):
        raise UserError(f"{len(mixture.A)} weights per frame, as many as there are systems", f"{weights.shape[-1]}")
    with full_precision(weights):
        A, C = _blend(weights, mixture.A), _blend(weights, mixture.C)
        B = None if mixture.B is None else _blend(weights, mixture.B)
        return System(A, C, mixture.Q, mixture.R, mixture.mean, mixture.covariance, B)


def filter_mixture(
    mixture: Mixture, y: Tensor, weights: Weights[Carry], carry: Carry, mask: Tensor | None = None, controls: Tensor | None = None
) -> tuple[FilteredMixture, Carry]:
    """The filter of y (B, T, p), mask and controls as in `inference`, that asks `weights` for the mixture of each frame in turn.

    Returns with the last carry. Where float32 is too little the function is asked again, from `carry`; what it is given is in the type
    of the mixture either way.
    """
    if y.ndim != 3:
        raise UserError("observations of shape (clips, frames, entries)", f"{tuple(y.shape)}")
    if (controls is None) != (mixture.B is None):
        raise UserError("controls and their effect B together", "only one of them", "Give both or neither.")
    last: list[Carry] = []

    def work(system: System, y: Tensor) -> FilteredMixture:
        found, end = _walk(mixture, formulate(system, y, mask, None), weights, carry, controls)
        last.append(end)
        return found

    with full_precision(y):
        start = System(mixture.A[0], mixture.C[0], mixture.Q, mixture.R, mixture.mean, mixture.covariance)
        return with_enough_digits(work, start, y), last[-1]


def roll(
    mixture: Mixture, past: Past, frames: int, weights: Weights[Carry], carry: Carry, generator: torch.Generator | None = None,
    controls: Tensor | None = None, start: int = 0,
) -> Rolled:  # fmt: skip
    """The `frames` states and codes after `past`, whose own codes feed the weights: the mean path, or one draw where there is a generator.

    A draw begins with one of the state of `past`. start: the number of the first of these frames, as `weights` is told it.
    Raises UserError for less than one frame, and for controls without B or the other way round.
    """
    if frames < 1:
        raise UserError("at least one frame to roll on", str(frames))
    roots = [small.root(value) for value in (mixture.Q, mixture.R)]
    found = list[Rolled]()
    with full_precision(past.mean):
        z = past.mean + _noise(small.root(past.covariance.movedim(0, -1)).movedim(-1, 0), past.mean, generator)
        for t in range(frames):
            alpha, carry = weights(start + t, past, carry)
            system = mix(mixture, alpha.to(z.dtype))
            push = effect(system, None if controls is None else controls[:, t])
            z = _apply(system.A, z) + push + _noise(roots[0], z, generator)
            code = _apply(system.C, z)
            code = code + _noise(roots[1], code, generator)
            past = Past(code, z, torch.zeros_like(past.covariance))
            found.append(Rolled(z, code, alpha))
    return Rolled(*(torch.stack([getattr(one, part.name) for one in found], 1) for part in fields(Rolled)))


def _walk(
    mixture: Mixture, problem: Problem, weights: Weights[Carry], carry: Carry, controls: Tensor | None
) -> tuple[FilteredMixture, Carry]:
    """Predict, ask for the weights, update; weights are asked for in the type of the mixture, and the rest is in that of the problem."""
    dtype, frames, clips = problem.y.dtype, problem.y.shape[2], problem.y.shape[3]
    Q, R, y, seen = (by_frame(value, frames) for value in (problem.Q, problem.R, problem.y, problem.seen))
    m, P = (by_frame(value, 1)[0].expand(clips, -1, -1) for value in (problem.mean, problem.covariance))
    past, alphas, before, after = None, list[Tensor](), list[Moments](), list[Update]()
    for t in range(frames):
        alpha, carry = weights(t, past, carry)
        alphas.append(alpha.to(dtype))
        system = mix(in_type(mixture, dtype), alphas[-1])
        if t:
            m, P = predict(batched, m, P, system.A, effect(system, None if controls is None else controls[:, t])[..., None], Q[t])
        before.append(Moments(m, P))
        after.append(update(batched, m, P, system.C * seen[t], R[t], y[t]))
        code = y[t] + (1 - seen[t]) * (system.C @ m)
        m, P = after[-1].mean, after[-1].covariance
        past = in_type(Past(code[..., 0], m[..., 0], P), mixture.A.dtype)
    run = gather(before, after, problem.observed)
    judge(problem, run)
    blend = torch.stack(alphas, 1)
    assert past is not None
    return FilteredMixture(filtered_of(problem, run), blend, mix(in_type(mixture, dtype), blend), past), carry


def _blend(weights: Tensor, matrices: Tensor) -> Tensor:
    """(*, K) and (K, rows, columns) to (*, rows, columns)."""
    return (weights @ matrices.flatten(1)).reshape(*weights.shape[:-1], *matrices.shape[1:])


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _noise(root: Tensor, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Of the shape of `like` (B, k), with the covariance whose root is given; zero without a generator."""
    return torch.zeros_like(like) if generator is None else _apply(root, normal(tuple(like.shape), generator, like))
