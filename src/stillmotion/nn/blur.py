"""Antialiased downsampling (Zhang 2019): a binomial low-pass before every stride."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BlurPool(nn.Module):
    """The 4-tap binomial filter [1, 3, 3, 1] / 8 along both axes, stride 2, reflected borders.

    It is applied as two products with one fixed (out, in) matrix: on CPU many times faster, backward above all, than a depthwise
    convolution, and the borders cost nothing. Input (N, C, size, size), best in channels_last; output (N, C, ceil(size / 2), ...).
    """

    matrix: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("matrix", binomial_matrix(size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        down = self.matrix.to(x.dtype)
        out = down.shape[0]
        rows = torch.matmul(down, x.permute(0, 2, 3, 1).reshape(n, h, w * c))
        both = torch.matmul(down, rows.view(n * out, w, c))
        return both.view(n, out, out, c).permute(0, 3, 1, 2)


def binomial_matrix(size: int) -> Tensor:
    """The filter with its stride and reflected borders as a matrix, (ceil(size / 2), size)."""
    taps = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
    matrix = torch.zeros((size + 1) // 2, size)
    for row in range(matrix.shape[0]):
        for offset, tap in enumerate(taps):
            column = abs(2 * row + offset - 1)
            column = 2 * (size - 1) - column if column >= size else column
            matrix[row, column] += tap
    return matrix
