"""The filter as a scan, with its derivative written out.

The gradient that reaches a state is that of its own results plus what the next state passes back, a linear recursion against time. So the
backward pass is two more scans, of 2 and 3 products per joint, in place of differentiating those of the forward pass; and nothing of
the forward scan is kept. Letters as in `kalman`; e = F^-1 (y - C m), w = C' e; a bar, as in `m_bar`, is the gradient of the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from stillmotion.core.errors import UserError
from stillmotion.ssm import small
from stillmotion.ssm.kalman import log_density, predict, update
from stillmotion.ssm.loop import Run
from stillmotion.ssm.problem import Problem, begin
from stillmotion.ssm.scan import after_first, filter_scan, reversed_links, spreads, states
from stillmotion.ssm.small import congruence, fold, product, symmetric, transpose

INPUTS = 8
"""The first fields of Problem, A to covariance, are what takes gradients."""


def run_scan(problem: Problem) -> Run:
    """The filter in about 2 log2(T) rounds (Sarkka and Garcia-Fernandez 2021)."""
    return Run(*_Filter.apply(problem, *problem[:INPUTS]))  # type: ignore[no-untyped-call]


class Kept(NamedTuple):
    """What the backward pass starts from. before: predicted, after: filtered. `precision` is F^-1."""

    A: Tensor
    C: Tensor
    before_m: Tensor
    before_P: Tensor
    after_m: Tensor
    after_P: Tensor
    keep: Tensor
    e: Tensor
    precision: Tensor


class _Filter(Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, *inputs: Tensor) -> tuple[Tensor, ...]:
        m, P = filter_scan(problem)
        A, b, Q = (after_first(value) for value in problem[:3])
        next_m, next_P = predict(small, m[:, :, :-1], P[:, :, :-1], A, b, Q)
        before_m, before_P = begin(problem.mean, next_m), begin(problem.covariance, next_P)
        # one plain step from each frame to the next: it gives residuals, and takes off the rounding of the scan
        step = update(small, before_m, before_P, problem.C, problem.R, problem.y)
        precision = step.inverse.matrix
        e = product(precision, step.residual)
        ctx.save_for_backward(problem.A, problem.C, before_m, before_P, step.mean, step.covariance, step.keep, e, precision)
        ctx.shapes = [value.shape for value in inputs]
        ctx.mark_non_differentiable(step.inverse.share)
        density = log_density(step.residual, step.inverse, problem.observed)
        return step.mean, step.covariance, before_m, before_P, density, step.inverse.share

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UserError("first derivatives of a scan", "create_graph=True", 'Take form="loop" for second ones.')
        kept = Kept(*ctx.saved_tensors)
        m_bar, P_bar, before_m_bar, before_P_bar, density_bar = bars[:5]
        through_m, through_P = _to_states(kept, m_bar, P_bar, before_m_bar, before_P_bar, density_bar)
        found = _to_inputs(kept, *through_m, *through_P, density_bar)
        return None, *(_to_shape(value, shape) for value, shape in zip(found, ctx.shapes, strict=True))


def _to_states(
    kept: Kept, m_bar: Tensor, P_bar: Tensor, before_m_bar: Tensor, before_P_bar: Tensor, density_bar: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Whole gradients of predicted and filtered means, and of predicted and filtered covariances."""
    next_A = after_first(kept.A)
    links = product(kept.keep, kept.A)
    backwards = reversed_links(links.expand(-1, -1, kept.before_m.shape[2], -1))
    w = product(transpose(kept.C), kept.e)

    before_m_bar = before_m_bar + density_bar * w
    c = states(backwards, _pass_back(m_bar, product(transpose(next_A), before_m_bar[:, :, 1:])).flip(2)).flip(2)
    kept_c = product(transpose(kept.keep), c)

    # the gain depends on the covariance, so what reaches the mean reaches the covariance too
    curve = density_bar * (product(w, transpose(w)) - congruence(transpose(kept.C), kept.precision)) / 2
    before_P_bar = symmetric(before_P_bar + product(kept_c, transpose(w))) + curve
    before_P_bar, P_bar = (fold(value, value.shape[:3] + kept.after_P.shape[3:]) for value in (before_P_bar, symmetric(P_bar)))
    own = _pass_back(P_bar, symmetric(congruence(transpose(next_A), before_P_bar[:, :, 1:])))
    D = spreads(backwards, own.flip(2)).flip(2)
    S = symmetric(congruence(transpose(kept.keep), D)) + before_P_bar
    return (before_m_bar + kept_c, c), (S, D)


def _to_inputs(kept: Kept, a: Tensor, c: Tensor, S: Tensor, D: Tensor, density_bar: Tensor) -> tuple[Tensor, ...]:
    """Gradients of A, b, Q, C, R, y, mean and covariance from those of predicted (a, S) and filtered (c, D) moments."""
    e, C, before_P = kept.e, kept.C, kept.before_P
    K = product(product(before_P, transpose(C)), kept.precision)
    Kc = product(transpose(K), c)
    KD = product(transpose(K), D)
    before_A = product(kept.A if kept.A.shape[2] == 1 else kept.A[:, :, 1:], kept.after_P[:, :, :-1])
    A_bar = product(a[:, :, 1:], transpose(kept.after_m[:, :, :-1])) + 2 * product(S[:, :, 1:], before_A)

    surprise = density_bar * (product(e, transpose(e)) - kept.precision) / 2
    R_bar = product(KD, K) - symmetric(product(Kc, transpose(e))) + surprise
    y_bar = Kc - density_bar * e
    CP = product(C, before_P)
    C_bar = product(e, transpose(product(kept.after_P, c))) - product(Kc, transpose(product(transpose(CP), e)))
    C_bar = C_bar - product(y_bar, transpose(kept.before_m)) + 2 * (product(surprise, CP) - product(KD, kept.after_P))
    return A_bar, a[:, :, 1:], S[:, :, 1:], C_bar, R_bar, y_bar, a[:, :, :1], S[:, :, :1]


def _pass_back(own: Tensor, later: Tensor) -> Tensor:
    """What each frame has itself plus what the next one passes to it; the last frame has no next."""
    return begin(own[:, :, -1:], (own[:, :, :-1] + later).flip(2)).flip(2)


def _to_shape(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Summed over what was broadcast; a first frame that no transition leads to has no gradient."""
    if shape[2] > gradient.shape[2]:
        gradient = begin(gradient.new_zeros(*gradient.shape[:2], 1, 1), gradient)
    return gradient.sum_to_size(shape) if gradient.shape[2] else gradient.new_zeros(shape)
