"""The frame encoder and decoder of VDSM as plain convolutions, one clip and one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def blurred_stride(x: Tensor) -> Tensor:
    """A depthwise binomial convolution of stride 2 over reflected borders, (N, C, H, W)."""
    channels = x.shape[1]
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
    return F.conv2d(F.pad(x, (1, 2, 1, 2), mode="reflect"), kernel, stride=2, groups=channels)


def encode(x: Tensor, kernels: Sequence[tuple[Tensor, Tensor]], slope: float) -> Tensor:
    """Features (N, F) of images (N, C, H, W); kernels: (weight, bias) of each convolution, the last without padding."""
    *inner, (last, bias) = kernels
    for weight, shift in inner:
        x = blurred_stride(F.leaky_relu(F.conv2d(x, weight, shift, padding=1), slope))
    return F.leaky_relu(F.conv2d(x, last, bias), slope).flatten(1)


def first_kernel(bank: Tensor) -> Tensor:
    """(inputs, 16 * C) to the (inputs, C, 4, 4) of a transposed convolution from 1 x 1: pixels in reading order."""
    return bank.view(bank.shape[0], 4, 4, -1).permute(0, 3, 1, 2)


def later_kernel(bank: Tensor) -> Tensor:
    """(inputs, 16 * C), ordered (a, b, p, q, C), to (inputs, C, 4, 4) with row 2 a + p and column 2 b + q."""
    kernel = bank.new_empty(bank.shape[0], bank.shape[1] // 16, 4, 4)
    parts = bank.view(bank.shape[0], 2, 2, 2, 2, -1)
    for row in range(4):
        for column in range(4):
            kernel[:, :, row, column] = parts[:, row // 2, column // 2, row % 2, column % 2]
    return kernel


def layers(mix: Tensor, code: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], slope: float) -> Iterator[Tensor]:
    """What each layer of the blended decoder puts out for one clip before its activation: mix (K,), code (T, I) to (T, C, H, W)."""
    x = code[:, :, None, None]
    for depth, (bank, shifts) in enumerate(zip(weights, biases, strict=True)):
        kernel = sum(share * expert for share, expert in zip(mix, bank, strict=True))
        shift = sum(share * expert for share, expert in zip(mix, shifts, strict=True))
        assert isinstance(kernel, Tensor)
        assert isinstance(shift, Tensor)
        if depth == 0:
            y = F.conv_transpose2d(x, first_kernel(kernel), shift)
        else:
            y = F.conv_transpose2d(x, later_kernel(kernel), shift, stride=2, padding=1)
        yield y
        x = F.leaky_relu(y, slope)


def decode(mix: Tensor, code: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], slope: float) -> Tensor:
    """Logits (B, T, C, H, W) of shares (B, K) and codes (B, T, I), clip by clip."""
    return torch.stack([list(layers(m, c, weights, biases, slope))[-1] for m, c in zip(mix, code, strict=True)])
