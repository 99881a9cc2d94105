"""The same VDSM computed the plain way: one clip at a time, ordinary convolutions, float32. What `vdsm_step` measures against.

Heads, recurrent nets and losses are the model's own; frame encoder and decoder are replaced by direct readings of the paper:
convolutions in contiguous memory with a depthwise blur, and for each clip its own blend of the experts, sum_k s_hat_k W_k, applied
to the frames of that clip as transposed convolutions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.models.vdsm import VDSM
from stillmotion.nn.blended import BlendedDecoder
from stillmotion.nn.encoders import AntialiasedEncoder


def clip_by_clip(model: VDSM) -> VDSM:
    """A copy of the model with the same weights and the same losses, whose encoder and decoder compute the plain way."""
    plain = copy.deepcopy(model)
    plain.encoder = PlainEncoder(model.encoder)  # type: ignore[assignment]
    plain.decoder = ClipByClipDecoder(model.decoder)  # type: ignore[assignment]
    return plain


class PlainEncoder(nn.Module):
    """`AntialiasedEncoder` with contiguous convolutions and a depthwise convolution as blur. (..., C, H, W) to (..., features)."""

    kernel: Tensor

    def __init__(self, encoder: AntialiasedEncoder) -> None:
        super().__init__()
        self.slope = encoder.slope
        self.convolutions = copy.deepcopy(encoder.convolutions)
        self.last = copy.deepcopy(encoder.last)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps))

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.flatten(0, -4).contiguous()
        for convolution in self.convolutions:
            x = self._blur(F.leaky_relu(convolution(x), self.slope))
        features: Tensor = F.leaky_relu(self.last(x), self.slope)
        return features.flatten(1).view(*frames.shape[:-3], -1)

    def _blur(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, 4, 4)
        return F.conv2d(F.pad(x, (1, 2, 1, 2), mode="reflect"), kernel, stride=2, groups=channels)


class ClipByClipDecoder(nn.Module):
    """`BlendedDecoder` with its experts in the order of convolutions, (experts, in, out, 4, 4), one clip after the other."""

    def __init__(self, decoder: BlendedDecoder) -> None:
        super().__init__()
        self.slope = decoder.slope
        kernels = (convolution_order(weight.detach(), width, layer) for layer, (weight, width) in
                   enumerate(zip(decoder.weights, decoder.widths, strict=True)))
        self.weights = nn.ParameterList(nn.Parameter(kernel) for kernel in kernels)
        self.biases = nn.ParameterList(nn.Parameter(bias.detach().clone()) for bias in decoder.biases)

    def forward(self, mix: Tensor, code: Tensor) -> Tensor:
        return torch.stack([self._clip(shares, frames) for shares, frames in zip(mix, code, strict=True)])

    def _clip(self, shares: Tensor, code: Tensor) -> Tensor:
        x = code[:, :, None, None]
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = F.leaky_relu(x, self.slope)
            stride, padding = (2, 1) if layer else (1, 0)
            x = F.conv_transpose2d(x, blend(shares, weight), blend(shares, bias), stride=stride, padding=padding)
        return x


def blend(shares: Tensor, bank: Tensor) -> Tensor:
    """sum_k shares_k bank_k over the first axis of the bank."""
    return (shares.view(-1, *[1] * (bank.ndim - 1)) * bank).sum(0)


def convolution_order(weight: Tensor, width: int, layer: int) -> Tensor:
    """Weights (experts, in, 16 * out) of `BlendedDecoder` as kernels (experts, in, out, 4, 4) of transposed convolutions."""
    experts, fan_in, _ = weight.shape
    if layer == 0:
        return weight.view(experts, fan_in, 4, 4, width).permute(0, 1, 4, 2, 3).contiguous()
    blocks = weight.view(experts, fan_in, 2, 2, 2, 2, width)  # (a, b, p, q): row 2 a + p, column 2 b + q
    return blocks.permute(0, 1, 6, 2, 4, 3, 5).reshape(experts, fan_in, width, 4, 4)
