"""Convolutions whose weights learn faster on a CPU: the same numbers as those of torch, with the gradient of the weight as one product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = 64
"""Pixels of the smaller side of a convolution, up to which the product is faster: three to four times at 4 x 4, a little at 8 x 8."""


class Conv2d(nn.Conv2d):
    """As nn.Conv2d."""

    def forward(self, x: Tensor) -> Tensor:
        if not _worth(x, self):
            return super().forward(x)
        return _convolve(x, self, transposed=False)


class ConvTranspose2d(nn.ConvTranspose2d):
    """As nn.ConvTranspose2d."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not _worth(x, self):
            return super().forward(x, output_size)
        return _convolve(x, self, transposed=True)


def _worth(x: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether weights learn from this in bfloat16 on a CPU, where oneDNN's gradients of them are slow for few pixels.

    Not where autocast would leave the numbers as they are, and not for groups, dilated kernels, other padding than zeros and single frames.
    """
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    numbers = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.dim() == 4
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return cast and torch.is_grad_enabled() and numbers and plain


def _convolve(x: Tensor, layer: nn.Conv2d | nn.ConvTranspose2d, *, transposed: bool) -> Tensor:
    bias = None if layer.bias is None else layer.bias.bfloat16()
    more = layer.output_padding if transposed else (0, 0)
    given = x.bfloat16(), layer.weight.bfloat16(), bias, layer.stride, layer.padding, transposed, more  # cast as autocast would
    result: Tensor = Convolution.apply(*given)  # type: ignore[no-untyped-call]
    return result


class Convolution(torch.autograd.Function):
    """A convolution, and what it passes back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, transposed: bool, more: Any
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = stride, padding, (1, 1), transposed, more, 1
        return torch.convolution(x, weight, bias, *ctx.how)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        stride, padding, _, transposed, *_ = ctx.how
        for_x, for_weight, for_bias, *_ = ctx.needs_input_grad
        large, small = (gradient, x) if transposed else (x, gradient)
        product = for_weight and small.shape[2] * small.shape[3] <= SMALL
        theirs = [for_x, for_weight and not product, False]
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(gradient, x, weight, None, *ctx.how, theirs)
        if product:
            of_weight = weight_gradient(large, small, weight.shape, stride, padding)
        return of_x, of_weight, gradient.sum((0, 2, 3)) if for_bias else None, None, None, None, None


def weight_gradient(large: Tensor, small: Tensor, shape: torch.Size, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The gradient of the weight, of this shape, of a convolution from large (N, L, H, W) to small (N, S, h, w), or back if transposed.

    One of the two is a gradient, the other the input: their product over all places at which the kernel lies. Patches of a kernel's size
    are copied row by row, which in channels_last are runs of numbers.
    """
    (down, across), (_, channels, height, width) = stride, small.shape
    taps = shape[2:]
    padded = F.pad(large.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    n, y, x, c = padded.stride()
    places = (len(small), height, width, *taps, large.shape[1])
    patches = padded.as_strided(places, (n, y * down, x * across, y, x, c)).reshape(-1, taps[0] * taps[1] * large.shape[1])
    product = small.permute(0, 2, 3, 1).reshape(-1, channels).t() @ patches
    return product.view(channels, *taps, -1).permute(0, 3, 1, 2)
