"""Algebra of very many very small matrices, laid out (rows, columns, ...): the matrix axes come first and the many last.

Libraries take each matrix of a batch by itself and, at four rows, spend most of their time on getting there. Here one operation handles
one row of all matrices at once; the batch axes, which are contiguous, fill the vector units. Batch axes broadcast. Derivatives are
written out, so that no intermediate is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

Gradients = tuple[Tensor | None, ...]


def transpose(a: Tensor) -> Tensor:
    return a.transpose(0, 1)


def symmetric(a: Tensor) -> Tensor:
    """The mean of a matrix and its transpose."""
    return (a + a.transpose(0, 1)).mul_(0.5)


def identity(rows: int, like: Tensor) -> Tensor:
    """(rows, rows) with batch axes of length one, to broadcast against `like`."""
    return torch.eye(rows, dtype=like.dtype, device=like.device).reshape(rows, rows, *(1,) * (like.ndim - 2))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix products: (i, k, ...) and (k, j, ...) to (i, j, ...)."""
    out: Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return out


def congruence(a: Tensor, b: Tensor) -> Tensor:
    """a b a', symmetric where b is."""
    return product(product(a, b), transpose(a))


class Inverse(NamedTuple):
    """Of a covariance: its inverse, the logarithm of its determinant and its smallest own share.

    An entry's own share is its variance given all others over its variance alone: 1 where all are independent, 0 where one follows from
    others. No gradient leads to it.
    """

    matrix: Tensor
    log_det: Tensor
    share: Tensor


def invert(a: Tensor) -> Inverse:
    """Inverses of covariances (n, n, ...). Where one is singular its share is 0, up to rounding, and its inverse is of no use."""
    return Inverse(*_Invert.apply(a))  # type: ignore[no-untyped-call]


def solve(a: Tensor, b: Tensor) -> Tensor:
    """a^-1 b for covariances a (n, n, ...), (n, k, ...). A singular one does no harm where b is in its range, as a multiple of a is:
    the result is then a solution.
    """
    out: Tensor = _Solve.apply(a, b)  # type: ignore[no-untyped-call]
    return out


def fuse(c: Tensor, j: Tensor) -> Tensor:
    """(c^-1 + j)^-1 for a covariance c and a precision j, (n, n, ...) both, either of which may be singular."""
    out: Tensor = _Fuse.apply(c, j)  # type: ignore[no-untyped-call]
    return out


def root(a: Tensor) -> Tensor:
    """Lower triangular (n, n, ...) whose product with its transpose is the covariance `a`, which may be singular."""
    out: Tensor = _Root.apply(a)  # type: ignore[no-untyped-call]
    return out


def fold(gradient: Tensor, shape: torch.Size) -> Tensor:
    """A gradient summed over the batch axes along which a tensor of `shape` was broadcast."""
    return gradient if gradient.shape == shape else gradient.sum_to_size(shape)


def pivots(a: Tensor) -> tuple[Tensor, Tensor]:
    """The triangular root of each covariance and its pivots (n, ...), before those that are lost in rounding are set to zero."""
    n, floor = len(a), 4 * len(a) * torch.finfo(a.dtype).eps
    rest, lower, found = a.clone(), torch.zeros_like(a), []
    for k in range(n):
        pivot = rest[k, k]
        found.append(pivot.clone())
        # 1 / sqrt(inf) is 0: a pivot that is nothing but rounding takes its column out
        scale = torch.where(pivot > floor * a[k, k], pivot, torch.inf).rsqrt()
        column = rest[k:, k] * scale
        lower[k:, k] = column
        if k + 1 < n:
            rest[k + 1 :, k + 1 :].addcmul_(column[1:, None], column[None, 1:], value=-1)
    return lower, torch.stack(found)


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    total = a[:, 0, None] * b[None, 0]
    for k in range(1, a.shape[1]):
        total.addcmul_(a[:, k, None], b[None, k])
    return total


def _invert_lower(lower: Tensor) -> Tensor:
    """Row by row; a row with a zero on the diagonal stays zero."""
    inverse = torch.zeros_like(lower)
    for k in range(len(lower)):
        diagonal = lower[k, k]
        reciprocal = torch.where(diagonal > 0, diagonal, torch.inf).reciprocal()
        for i in range(k):
            inverse[k, : i + 1].addcmul_(lower[k, i], inverse[i, : i + 1], value=-1)
        inverse[k, :k].mul_(reciprocal)
        inverse[k, k] = reciprocal
    return inverse


def _gram(lower: Tensor) -> Tensor:
    """lower' lower."""
    total = torch.zeros_like(lower)
    for k in range(len(lower)):
        row = lower[k, : k + 1]
        total[: k + 1, : k + 1].addcmul_(row[:, None], row[None])
    return total


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _multiply(a, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:
        (a, b), (gradient,) = ctx.saved_tensors, gradients
        of_a = fold(product(gradient, transpose(b)), a.shape) if ctx.needs_input_grad[0] else None
        of_b = fold(product(transpose(a), gradient), b.shape) if ctx.needs_input_grad[1] else None
        return of_a, of_b


class _Invert(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lower, _ = pivots(a)
        diagonal = lower.diagonal(dim1=0, dim2=1)
        regular = (diagonal > 0).all(-1)
        inverse = _gram(_invert_lower(lower))
        log_det = 2 * torch.where(regular[..., None], diagonal, 1).log().sum(-1)
        share = (a.diagonal(dim1=0, dim2=1) * inverse.diagonal(dim1=0, dim2=1)).amax(-1).reciprocal()
        share = torch.where(regular, share, 0)
        ctx.save_for_backward(inverse)
        ctx.mark_non_differentiable(share)
        return inverse, log_det, share

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        inverse: Tensor = ctx.saved_tensors[0]
        return gradients[1] * inverse - congruence(inverse, gradients[0])


class _Solve(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        inverse = _invert_lower(pivots(a)[0])
        # in two halves, not by a^-1: where a is all but singular, rounding stays in the direction that does not count
        out = _multiply(transpose(inverse), _multiply(inverse, b))
        ctx.save_for_backward(inverse, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:
        (inverse, out), (gradient,) = ctx.saved_tensors, gradients
        of_b = product(transpose(inverse), product(inverse, gradient))
        return -product(of_b, transpose(out)), of_b


class _Fuse(Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, j: Tensor) -> Tensor:
        # with c = l l' the result is l (1 + l' j l)^-1 l': nothing singular is inverted, and it is a covariance by construction
        lower, _ = pivots(c)
        inner = _multiply(transpose(lower), _multiply(j, lower))
        inner.diagonal(dim1=0, dim2=1).add_(1)
        whole = _invert_lower(pivots(symmetric(inner))[0])
        half = _multiply(whole, transpose(lower))
        fused = _multiply(transpose(half), half)
        ctx.shape = c.shape
        ctx.save_for_backward(j, fused)
        return fused

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:
        (j, fused), (gradient,) = ctx.saved_tensors, gradients
        shrink = identity(len(fused), fused) - product(j, fused)
        of_c = fold(congruence(shrink, gradient), ctx.shape) if ctx.needs_input_grad[0] else None
        of_j = fold(-congruence(fused, gradient), j.shape) if ctx.needs_input_grad[1] else None
        return of_c, of_j


class _Root(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        lower, _ = pivots(a)
        ctx.save_for_backward(lower)
        return lower

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Murray 2016, equation 10, for the symmetric part of the gradient
        (lower,) = ctx.saved_tensors
        keep = torch.ones(len(lower), len(lower), dtype=lower.dtype, device=lower.device).tril_().fill_diagonal_(0.5)
        inner = product(transpose(lower), gradients[0]) * keep.reshape(len(lower), len(lower), *(1,) * (lower.ndim - 2))
        return congruence(transpose(_invert_lower(lower)), symmetric(inner))
