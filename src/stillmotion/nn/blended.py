"""The blended decoder of VDSM: N expert decoders whose weights are mixed, once per clip, into one decoder for that clip.

Every layer is a batched matrix product over the clips followed by overlap-add, on a CPU some clips at a time. A transposed convolution of
kernel 4 and stride 2 sends each input pixel to a 4 x 4 patch of the output; seen in blocks of 2 x 2 output pixels that is 2 x 2
neighbouring blocks, so overlap-add is four shifted sums. The weights are kept in the order the product wants: kernel row = 2 a + p,
column = 2 b + q, with (a, b) the block and (p, q) the pixel inside it. On CPU this is several times faster than grouped transposed
convolutions, and it needs nothing but matrix products on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from stillmotion.core.errors import UserError
from stillmotion.core.precision import full_precision, working_dtype
from stillmotion.nn.encoders import doublings

PIECE = 1 << 14
"""Columns of a bank that are blended at a time on a CPU."""
PATCHES = 1 << 19
"""Numbers of patches that are made and added up at a time on a CPU, where they stay in its cache; at least those of one clip."""


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
        for weight, bias in blended[1:-1]:
            x = grow(x, weight, bias, self.slope, steps)
        x = grow(x, *blended[-1], 1.0, steps)
        size = 2 ** (len(blended) + 1)
        return x.float().view(clips, steps, size, size, -1).permute(0, 1, 4, 2, 3)


def blend(mix: Tensor, bank: Tensor, dtype: torch.dtype) -> Tensor:
    """sum_k mix_bk bank_k for each clip b, computed in `dtype`: mix (B, experts), bank (experts, ...), output (B, ...)."""
    flat: Tensor = Blend.apply(mix, bank.flatten(1), dtype)  # type: ignore[no-untyped-call]
    return flat.view(-1, *bank.shape[1:])


class Blend(Function):
    """mix @ bank, in pieces and in the precision of the bank: to convert it costs more than such a thin product, and it is most of a model.

    mix: (B, experts), bank: (experts, N), output: (B, N) of `dtype`. The gradients have the dtypes of mix and bank.
    """

    @staticmethod
    def forward(ctx: Any, mix: Tensor, bank: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(mix, bank)
        out = bank.new_empty(mix.shape[0], bank.shape[1], dtype=dtype)
        with full_precision(mix):
            for part, piece in zip(_pieces(out), _pieces(bank), strict=True):
                part.copy_(mix @ piece)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (gradient,) = gradients
        mix, bank = ctx.saved_tensors
        for_shares = torch.zeros_like(mix.T)
        for_bank = torch.empty_like(bank) if ctx.needs_input_grad[1] else None
        shares = mix.T.contiguous()
        with full_precision(mix):
            for k, (change, piece) in enumerate(zip(_pieces(gradient), _pieces(bank), strict=True)):
                precise = change.to(bank.dtype)
                for_shares.addmm_(piece, precise.T)  # this way round it is faster
                if for_bank is not None:
                    torch.mm(shares, precise, out=_pieces(for_bank)[k])
        return for_shares.T, for_bank, None


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    return torch.split(x, PIECE if x.device.type == "cpu" else x.shape[1], 1)


def grow(x: Tensor, weight: Tensor, bias: Tensor, slope: float, steps: int) -> Tensor:
    """A transposed convolution of kernel 4, stride 2 and padding 1, with a weight for each clip, plus bias, then LeakyReLU. See Grow."""
    out: Tensor = Grow.apply(x, weight, bias, slope, steps)  # type: ignore[no-untyped-call]
    return out


class Grow(Function):
    """Some clips at a time: their patches, x @ weight, and at once the sums of these.

    x: (B, T * size * size, D). weight: (B, D, 16 * C), the last axis ordered (a, b, p, q, C). bias: (B, C). slope 1: no LeakyReLU.
    Output (B, T * 2 size * 2 size, C), of the dtype of x; without LeakyReLU, which is the last layer, as `_addable`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, slope: float, steps: int) -> Tensor:
        clips, pixels, _ = x.shape
        size, width = math.isqrt(pixels // steps), bias.shape[1]
        outs = []
        for part in _clips(clips, weight.shape[2] * pixels, x):
            patches = torch.bmm(x[part], weight[part]).view(-1, size, size, 16 * width)
            shift = bias[part]
            if slope == 1:
                patches, shift = _addable(patches), _addable(shift)
            outs.append(overlap_add(patches, shift, slope).view(-1, 4 * pixels, width))
        out = torch.cat(outs) if len(outs) > 1 else outs[0]
        ctx.slope, ctx.size = slope, size
        ctx.save_for_backward(x, weight, out if slope != 1 else None)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (gradient,) = gradients
        x, weight, out = ctx.saved_tensors
        clips, pixels, _ = x.shape
        width = gradient.shape[2]
        for_x, for_weight, for_bias = torch.empty_like(x), torch.empty_like(weight), weight.new_empty(clips, width)
        for part in _clips(clips, weight.shape[2] * pixels, x):
            change = gradient[part]
            if ctx.slope != 1:
                # the sign of the output is the sign of what went in, so the output can stand for the input
                change = torch.ops.aten.leaky_relu_backward(change, out[part], ctx.slope, True)
            for_bias[part] = change.sum(1, dtype=torch.promote_types(change.dtype, torch.float32))
            patches = cut(change.view(-1, 2 * ctx.size, 2 * ctx.size, width).to(x.dtype)).view(-1, pixels, 16 * width)
            torch.bmm(patches, weight[part].mT, out=for_x[part])
            torch.bmm(x[part].mT, patches, out=for_weight[part])
        return for_x, for_weight, for_bias, None, None


def _clips(clips: int, numbers: int, like: Tensor) -> Iterator[slice]:
    """So many clips at a time, of so many numbers of patches each."""
    most = max(1, PATCHES // numbers) if like.device.type == "cpu" else clips
    return (slice(start, start + most) for start in range(0, clips, most))


def _addable(x: Tensor) -> Tensor:
    """On a CPU at least float32: sums over runs as short as the colours of a pixel are several times slower in low precision there."""
    return x.to(torch.promote_types(x.dtype, torch.float32)) if x.device.type == "cpu" else x


def overlap_add(patches: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Patches to pixels, plus bias, then LeakyReLU (slope 1: none).

    patches: (N, size, size, 16 * C), the last axis ordered (a, b, p, q, C). bias: (B, C), N = B * T. Output (N, 2 size, 2 size, C).
    """
    n, size = patches.shape[:2]
    clips, width = bias.shape
    parts = patches.view(n, size, size, 2, 2, 2, 2, width)
    bordered = patches.new_zeros(n, 2 * size + 2, 2 * size + 2, width)
    for a in (0, 1):
        for b in (0, 1):
            pixels = bordered[:, 2 * a : 2 * (a + size), 2 * b : 2 * (b + size)]
            pixels.view(n, size, 2, size, 2, width).add_(parts[:, :, :, a, b].transpose(2, 3))
    out = bordered[:, 1:-1, 1:-1] + bias.repeat_interleave(n // clips, 0)[:, None, None]
    return nn.functional.leaky_relu_(out, slope) if slope != 1 else out


def cut(pixels: Tensor) -> Tensor:
    """The adjoint of `overlap_add`: pixels (N, 2 size, 2 size, C) to patches (N, size, size, 16 * C), by copies."""
    n, double, _, width = pixels.shape
    bordered = nn.functional.pad(pixels, (0, 0, 1, 1, 1, 1))
    image, row = (double + 2) ** 2 * width, (double + 2) * width
    patches = bordered.as_strided(
        (n, double // 2, double // 2, 2, 2, 2, 2, width), (image, 2 * row, 2 * width, 2 * row, 2 * width, row, width, 1)
    )
    return patches.reshape(n, double // 2, double // 2, 16 * width)
