"""The same algebra as in `small`, laid out (..., rows, columns) as torch has it: the quicker one for few matrices at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from stillmotion.ssm.small import Inverse

product = torch.matmul


def transpose(a: Tensor) -> Tensor:
    return a.mT


def symmetric(a: Tensor) -> Tensor:
    """The mean of a matrix and its transpose."""
    return (a + a.mT) / 2


def identity(rows: int, like: Tensor) -> Tensor:
    """(rows, rows), to broadcast against `like`."""
    return torch.eye(rows, dtype=like.dtype, device=like.device)


def congruence(a: Tensor, b: Tensor) -> Tensor:
    """a b a', symmetric where b is."""
    return torch.matmul(torch.matmul(a, b), a.mT)


def invert(a: Tensor) -> Inverse:
    """Inverses of covariances (..., n, n). Where one is singular its share is 0 and its inverse is of no use."""
    return Inverse(*_Invert.apply(a))  # type: ignore[no-untyped-call]


class _Invert(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lower, failed = torch.linalg.cholesky_ex(a)
        diagonal = lower.diagonal(dim1=-2, dim2=-1)
        try:
            inverse = torch.cholesky_inverse(lower)
        except RuntimeError:
            # a pivot of exactly zero; the share will say so, and the filter goes on to its end, where they are looked at
            inverse = torch.full_like(lower, torch.nan)
        share = (a.diagonal(dim1=-2, dim2=-1) * inverse.diagonal(dim1=-2, dim2=-1)).amax(-1).reciprocal()
        share = torch.where(failed == 0, share, 0)
        ctx.save_for_backward(inverse)
        ctx.mark_non_differentiable(share)
        return inverse, 2 * diagonal.log().sum(-1), share

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        inverse: Tensor = ctx.saved_tensors[0]
        return gradients[1][..., None, None] * inverse - inverse @ gradients[0] @ inverse
