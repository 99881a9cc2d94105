"""Muon: steps along orthogonal momenta, so that what shows in few pixels is learned as fast as what shows in many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
LENGTH = 0.5
"""Root mean square of the numbers of a step, in learning rates. That of Adam is about 0.2; longer ones measured better (docs/log.md)."""
ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of an odd polynomial that, applied so often, brings what lies between a hundredth and 1 near 1."""


class Muon(torch.optim.Adam):
    """Steps along the orthogonal factor of the momentum for matrices, and Adam for everything else (Jordan and others, 2024).

    matrices: those of the parameters that are matrices (M, N) or convolutions (M, N, height, width), read as (M, N height width).
    The update has Nesterov's form, and the length LENGTH sqrt(max(M, N)) lr in each singular direction, as by Liu and others (2025).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], matrices: Iterable[nn.Parameter], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.matrices = {id(value) for value in matrices}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients that are there; those of the matrices are used up."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            for value in group["params"]:
                if id(value) in self.matrices and value.grad is not None:
                    momentum = self.state[value].setdefault("momentum", torch.zeros_like(value))
                    momentum.lerp_(value.grad, 1 - MOMENTUM)
                    update = value.grad.lerp(momentum, MOMENTUM)
                    rows = update.flatten(1)
                    value.add_(orthogonal(rows).view_as(value), alpha=-group["lr"] * LENGTH * max(rows.shape) ** 0.5)
                    value.grad = None
        super().step()


def is_matrix(name: str, value: Tensor) -> bool:
    """Whether Muon takes a parameter of a model for a matrix: layers and convolutions, not biases and not banks of experts.

    Experts step as well by Adam, in less time.
    """
    return value.dim() in (2, 4) and "bias" not in name and min(value.flatten(1).shape) > 1


def orthogonal(matrices: Tensor) -> Tensor:
    """About the orthogonal factor U V' of each matrix U S V', (..., M, N): values that are not tiny come out between 0.68 and 1.14.

    The polynomial is applied to the smaller Gram matrix and not to the matrix itself, which takes a fraction of the products.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    rows = matrices.mT if tall else matrices
    gram = rows @ rows.mT
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] + torch.finfo(gram.dtype).tiny
    gram, one = gram / size, torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, (a, b, c) = one.expand_as(gram), QUINTIC
    for _ in range(ROUNDS):
        once = a * one + b * gram + c * (gram @ gram)
        factor, gram = once @ factor, once @ gram @ once
    turned = factor @ (rows / size.sqrt())
    return turned.mT if tall else turned
