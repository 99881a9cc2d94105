"""The blended decoder of VDSM: N expert decoders whose weights are mixed, once per clip, into one decoder for that clip.

Every layer is one batched matrix product over the clips followed by overlap-add. A transposed convolution of kernel 4 and stride 2
sends each input pixel to a 4 x 4 patch of the output; seen in blocks of 2 x 2 output pixels that is 2 x 2 neighbouring blocks, so
overlap-add is four shifted sums. The weights are kept in the order the product wants: kernel row = 2 a + p, column = 2 b + q, with
(a, b) the block and (p, q) the pixel inside it. On CPU this is several times faster than grouped transposed convolutions, and it
needs nothing but matrix products on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from stillmotion.core.errors import UserError
from stillmotion.core.precision import working_dtype
from stillmotion.nn.encoders import doublings

PIECE = 1 << 16
"""Columns of a bank that are blended at a time on a CPU: a converted piece stays in its cache."""


class BlendedDecoder(nn.Module):
    """A bank of experts and the decoder they blend into (VDSM, section 3.2, and supplement).

    mix: (B, experts), the shares of the experts, rows sum to 1. code: (B, T, inputs).
    Output: logits (B, T, C, H, W), float32. `channels`: one number per resolution from 4 x 4 up to half the frame size.
    """

    def __init__(self, experts: int, inputs: int, channels: Sequence[int], frame_shape: tuple[int, ...], slope: float = 0.01) -> None:
        super().__init__()
        colours, size, _ = frame_shape
        if len(channels) != doublings(size):
            raise UserError(f"{doublings(size)} channel numbers for {size} x {size} frames", f"{len(channels)}: {tuple(channels)}")
        self.slope = slope
        self.widths = [*channels, colours]
        fans = [inputs, *channels]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(experts, fan_in, 16 * width)) for fan_in, width in zip(fans, self.widths, strict=True)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(experts, width)) for width in self.widths)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation of each expert by itself: over the whole bank the fan-in would be wrong by orders of magnitude.

        An output pixel of a transposed convolution of kernel 4, stride 2 sums 4 taps of each input channel; the first layer sums 1.
        Half of the variance is common to all experts: blends of N independent experts would start smaller by sqrt(N) in every layer,
        and the decoder would answer grey for its first hundreds of steps.
        """
        gain = math.sqrt(2 / (1 + self.slope**2))
        for layer, weight in enumerate(self.weights):
            taps = 1 if layer == 0 else 4
            std = gain / math.sqrt(2 * weight.shape[1] * taps)
            with torch.no_grad():
                weight.copy_(torch.randn_like(weight[:1]) * std + torch.randn_like(weight) * std)

    def forward(self, mix: Tensor, code: Tensor) -> Tensor:
        clips, steps, _ = code.shape
        dtype = working_dtype(code)
        blended = [(blend(mix, weight, dtype), blend(mix, bias, dtype)) for weight, bias in zip(self.weights, self.biases, strict=True)]
        weight, bias = blended[0]
        x = torch.bmm(code.to(dtype), weight).view(clips, steps * 16, -1)
        x = nn.functional.leaky_relu(x + bias[:, None], self.slope)
        for layer, (weight, bias) in enumerate(blended[1:], start=1):
            size = 2 ** (layer + 1)
            patches = torch.bmm(x, weight).view(clips * steps, size, size, -1)
            slope = self.slope
            if layer == len(blended) - 1:
                slope, patches, bias = 1.0, _addable(patches), _addable(bias)
            x = overlap_add(patches, bias, slope).view(clips, -1, bias.shape[-1])
        size = 2 ** (len(blended) + 1)
        return x.float().view(clips, steps, size, size, -1).permute(0, 1, 4, 2, 3)


def _addable(x: Tensor) -> Tensor:
    """On a CPU at least float32: sums over runs as short as the colours of a pixel are several times slower in low precision there."""
    return x.to(torch.promote_types(x.dtype, torch.float32)) if x.device.type == "cpu" else x


def blend(mix: Tensor, bank: Tensor, dtype: torch.dtype) -> Tensor:
    """sum_k mix_bk bank_k for each clip b, computed in `dtype`: mix (B, experts), bank (experts, ...), output (B, ...)."""
    flat: Tensor = Blend.apply(mix, bank.flatten(1), dtype)  # type: ignore[no-untyped-call]
    return flat.view(-1, *bank.shape[1:])


class Blend(Function):
    """mix @ bank in low precision without a low-precision copy of the bank, which is most of the parameters of a model.

    mix: (B, experts), bank: (experts, N), output: (B, N) of `dtype`. The gradients have the dtypes of mix and bank.
    """

    @staticmethod
    def forward(ctx: Any, mix: Tensor, bank: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(mix, bank)
        shares = mix.to(dtype)
        out = bank.new_empty(mix.shape[0], bank.shape[1], dtype=dtype)
        for part, piece in zip(_pieces(out), _pieces(bank), strict=True):
            part.copy_(shares @ piece.to(dtype))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (gradient,) = gradients
        mix, bank = ctx.saved_tensors
        for_mix = torch.zeros_like(mix)
        for change, piece in zip(_pieces(gradient), _pieces(bank), strict=True):
            for_mix += change @ piece.to(gradient.dtype).T
        if not ctx.needs_input_grad[1]:
            return for_mix, None, None
        shares = mix.T.to(gradient.dtype).contiguous()
        for_bank = torch.empty_like(bank)
        for change, part in zip(_pieces(gradient), _pieces(for_bank), strict=True):
            part.copy_(shares @ change)
        return for_mix, for_bank, None


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    return torch.split(x, PIECE if x.device.type == "cpu" else x.shape[1], 1)


def overlap_add(patches: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Patches to pixels, plus bias, then LeakyReLU (slope 1: none). See OverlapAdd for the shapes."""
    out: Tensor = OverlapAdd.apply(patches, bias, slope)  # type: ignore[no-untyped-call]
    return out


class OverlapAdd(Function):
    """Patches to pixels, plus bias, then LeakyReLU (slope 1: none), with a backward of plain copies.

    patches: (N, size, size, 16 * C), the last axis ordered (a, b, p, q, C). bias: (B, C), N = B * T.
    Output (N, 2 size, 2 size, C).
    """

    @staticmethod
    def forward(ctx: Any, patches: Tensor, bias: Tensor, slope: float) -> Tensor:
        n, size = patches.shape[:2]
        clips, width = bias.shape
        parts = patches.view(n, size, size, 2, 2, 2, 2, width)
        bordered = patches.new_zeros(n, 2 * size + 2, 2 * size + 2, width)
        for a in (0, 1):
            for b in (0, 1):
                pixels = bordered[:, 2 * a : 2 * (a + size), 2 * b : 2 * (b + size)]
                pixels.view(n, size, 2, size, 2, width).add_(parts[:, :, :, a, b].transpose(2, 3))
        out = bordered[:, 1:-1, 1:-1] + bias.repeat_interleave(n // clips, 0)[:, None, None]
        if slope != 1:
            nn.functional.leaky_relu_(out, slope)
        ctx.slope, ctx.clips = slope, clips
        ctx.save_for_backward(out if slope != 1 else None)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        (out,) = ctx.saved_tensors
        if ctx.slope != 1:
            # the sign of the output is the sign of what went in, so the output can stand for the input
            gradient = torch.ops.aten.leaky_relu_backward(gradient, out, ctx.slope, True)
        n, double, _, width = gradient.shape
        precise = torch.promote_types(gradient.dtype, torch.float32)
        for_bias = gradient.reshape(ctx.clips, -1, width).sum(1, dtype=precise).to(gradient.dtype)
        bordered = nn.functional.pad(gradient, (0, 0, 1, 1, 1, 1))
        image, row = (double + 2) ** 2 * width, (double + 2) * width
        patches = bordered.as_strided(
            (n, double // 2, double // 2, 2, 2, 2, 2, width), (image, 2 * row, 2 * width, 2 * row, 2 * width, row, width, 1)
        )
        return patches.reshape(n, double // 2, double // 2, 16 * width), for_bias, None
