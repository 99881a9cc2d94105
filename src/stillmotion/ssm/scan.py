"""Filter and chains in a number of rounds that grows with the logarithm of T (Sarkka and Garcia-Fernandez 2021).

Neighbouring frames are joined in pairs, the pairs in pairs and so on; on the way back each frame takes what lies before it from the
level above. An element says of a stretch of frames what its last state is, given the state before the stretch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

from stillmotion.ssm import small
from stillmotion.ssm.kalman import update
from stillmotion.ssm.problem import Problem, begin
from stillmotion.ssm.small import fold, product, symmetric, transpose

Values = tuple[Tensor, ...]
Element = TypeVar("Element", bound=Values)


class Stretch(NamedTuple):
    """p(z_t | z_s, y_{s+1} ... y_t) = N(A z_s + b, P), and p(y_{s+1} ... y_t | z_s) as a function of z_s: information eta, precision J."""

    b: Tensor
    P: Tensor
    A: Tensor
    eta: Tensor
    J: Tensor


def prefixes(
    items: Element, join: Callable[[Element, Element], Element], follow: Callable[[Values, Element], Values], known: int
) -> Values:
    """The first `known` parts of join(1 ... t), for every t along axis 2.

    follow(state, element) are the same parts of join(whole, element), where `whole` begins with the first frame. The number of calls
    grows with log T and their work with T.
    """
    count = items[0].shape[2]
    if count == 1:
        return items[:known]
    joined = prefixes(join(_every(items, 0, count - 1), _every(items, 1, count)), join, follow, known)
    start = tuple(value[:, :, :1] for value in items[:known])
    if count == 2:
        return tuple(begin(*pair) for pair in zip(start, joined, strict=True))
    between = follow(tuple(value[:, :, : (count - 1) // 2] for value in joined), _every(items, 2, count))
    return tuple(_interleave(*three) for three in zip(start, between, joined, strict=True))


def filter_scan(problem: Problem) -> tuple[Tensor, Tensor]:
    """Mean and covariance of every state given the observations so far. Not made to be differentiated: see `parallel`."""
    m, P = prefixes(_stretches(problem), join_stretches, follow_stretch, 2)
    return m, P


def _stretches(problem: Problem) -> Stretch:
    """Stretches of one frame: an update that starts from the noise of the transition, in the first frame from the first state."""
    frames = problem.y.shape[2]
    A, b, Q = (after_first(value).expand(-1, -1, frames - 1, -1) for value in (problem.A, problem.b, problem.Q))
    A = begin(torch.zeros_like(problem.A[:, :, :1]), A)
    step = update(small, begin(problem.mean, b), begin(problem.covariance, Q), problem.C, problem.R, problem.y)
    seen = product(transpose(product(problem.C, A)), step.inverse.matrix)
    J = symmetric(product(seen, product(problem.C, A)))
    return Stretch(step.mean, step.covariance, product(step.keep, A), product(seen, step.residual), J)


def join_stretches(one: Stretch, two: Stretch) -> Stretch:
    """The operator of the paper's filter, with the symmetric (P1^-1 + J2)^-1 in place of (I + P1 J2)^-1 P1."""
    fused = small.fuse(one.P, two.J)
    kept = small.identity(len(fused), fused) - product(fused, two.J)
    onward = product(two.A, kept)
    back = product(transpose(one.A), transpose(kept))
    eta = product(back, two.eta - product(two.J, one.b)) + one.eta
    J = product(product(back, two.J), one.A) + one.J
    b = product(onward, one.b) + product(product(two.A, fused), two.eta) + two.b
    return Stretch(b, small.congruence(two.A, fused) + two.P, product(onward, one.A), eta, J)


def follow_stretch(state: Values, two: Stretch) -> Values:
    """Of the joint stretch, only its b and P: a stretch from the first frame on depends on no state before it."""
    b, P = state
    fused = small.fuse(P, two.J)
    middle = b + product(fused, two.eta - product(two.J, b))
    return product(two.A, middle) + two.b, small.congruence(two.A, fused) + two.P


class Link(NamedTuple):
    """x -> E x + g, or X -> E X E' + g."""

    g: Tensor
    E: Tensor


def states(E: Tensor, g: Tensor) -> Tensor:
    """x_t = E_t x_{t-1} + g_t from zero, in the layout of `small`."""
    x: Tensor = _States.apply(E.expand(-1, -1, g.shape[2], -1), g)  # type: ignore[no-untyped-call]
    return x


def spreads(E: Tensor, L: Tensor) -> Tensor:
    """X_t = E_t X_{t-1} E_t' + L_t from zero, all symmetric but E, in the layout of `small`."""
    frames = max(E.shape[2], L.shape[2])
    X: Tensor = _Spreads.apply(E.expand(-1, -1, frames, -1), L.expand(-1, -1, frames, -1))  # type: ignore[no-untyped-call]
    return X


def reversed_links(E: Tensor) -> Tensor:
    """The E' of the recursion that runs against the one with E: from the last frame to the first."""
    return begin(torch.zeros_like(E[:, :, :1]), transpose(E[:, :, 1:]).flip(2))


def before(x: Tensor) -> Tensor:
    """x_{t-1} for every t, zero before the first."""
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], 2)


class _States(Function):
    @staticmethod
    def forward(ctx: Any, E: Tensor, g: Tensor) -> Tensor:
        (x,) = prefixes(Link(g, E), _join_states, _follow_states, 1)
        ctx.save_for_backward(E, x)
        ctx.shape = g.shape
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        E, x = ctx.saved_tensors
        adjoint = states(reversed_links(E), gradients[0].flip(2)).flip(2)
        return fold(product(adjoint, transpose(before(x))), E.shape), fold(adjoint, ctx.shape)


class _Spreads(Function):
    @staticmethod
    def forward(ctx: Any, E: Tensor, L: Tensor) -> Tensor:
        (X,) = prefixes(Link(L, E), _join_spreads, _follow_spreads, 1)
        # once at the end: in log T rounds rounding does not pile up
        X = symmetric(X)
        ctx.save_for_backward(E, X)
        ctx.shape = L.shape
        return X

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        E, X = ctx.saved_tensors
        adjoint = spreads(reversed_links(E), symmetric(gradients[0]).flip(2)).flip(2)
        return fold(2 * product(adjoint, product(E, before(X))), E.shape), fold(adjoint, ctx.shape)


def _follow_states(state: Values, two: Link) -> tuple[Tensor]:
    return (product(two.E, state[0]) + two.g,)


def _follow_spreads(state: Values, two: Link) -> tuple[Tensor]:
    return (small.congruence(two.E, state[0]) + two.g,)


def _join_states(one: Link, two: Link) -> Link:
    return Link(*_follow_states((one.g,), two), product(two.E, one.E))


def _join_spreads(one: Link, two: Link) -> Link:
    return Link(*_follow_spreads((one.g,), two), product(two.E, one.E))


def _every(items: Element, start: int, stop: int) -> Element:
    """Every second frame, copied: the algebra wants its batch axes contiguous."""
    kind = type(items)
    return kind(*(value[:, :, start:stop:2].contiguous() for value in items))


def _interleave(start: Tensor, between: Tensor, joined: Tensor) -> Tensor:
    """Frames 1; 3, 5, ...; 2, 4, ... in their order."""
    lanes = max(start.shape[3], between.shape[3], joined.shape[3])
    odd = torch.cat([value.expand(*value.shape[:3], lanes) for value in (start, between)], 2)
    even = joined.expand(*joined.shape[:3], lanes)
    pairs = torch.stack([odd[:, :, : even.shape[2]], even], 3).flatten(2, 3)
    return pairs if odd.shape[2] == even.shape[2] else torch.cat([pairs, odd[:, :, -1:]], 2)


def after_first(value: Tensor) -> Tensor:
    """Without the first frame, where it has frames."""
    return value if value.shape[2] == 1 else value[:, :, 1:]

