"""Frame encoders: an image to a vector of features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.errors import UserError
from stillmotion.nn.blur import BlurPool


class AntialiasedEncoder(nn.Module):
    """Convolutions of kernel 4 and stride 1, each followed by LeakyReLU and a blurred stride (VDSM supplement, section 1).

    64 x 64 frames pass 63, 32, 31, 16, 15, 8, 7, 4 and end at 1 x 1. One entry of `channels` per convolution; the last is the number
    of features. `slope` 1 makes the whole stack linear, as the released code has it by accident.
    Input (..., C, H, W) in [0, 1]; output (..., channels[-1]).
    """

    def __init__(self, frame_shape: tuple[int, ...], channels: Sequence[int], slope: float = 0.2) -> None:
        super().__init__()
        colours, size, _ = frame_shape
        blocks = doublings(size)
        if len(channels) != blocks + 1:
            raise UserError(f"{blocks + 1} channel numbers for {size} x {size} frames", f"{len(channels)}: {tuple(channels)}")
        self.slope = slope
        widths = [colours, *channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 4, padding=1) for a, b in pairwise(widths[:-1]))
        self.last = nn.Conv2d(widths[-2], widths[-1], 4)
        self.blurs = nn.ModuleList(BlurPool(size // 2**block - 1) for block in range(blocks))

    def forward(self, frames: Tensor) -> Tensor:
        return self._whole(self._maps(frames), frames)

    def with_pooled(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and the mean and the maximum over all places of the last maps before them, (..., 2 channels[-2])."""
        maps = self._maps(frames)
        pooled = torch.cat([maps.mean((-2, -1)), maps.amax((-2, -1))], -1)
        return self._whole(maps, frames), pooled.view(*frames.shape[:-3], -1)

    def _maps(self, frames: Tensor) -> Tensor:
        """Maps of the last convolution but one, (N, channels[-2], 7, 7), not yet blurred."""
        x = frames.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        for number, convolution in enumerate(self.convolutions):
            x = F.leaky_relu(convolution(self.blurs[number - 1](x) if number else x), self.slope, inplace=True)
        return x

    def _whole(self, maps: Tensor, frames: Tensor) -> Tensor:
        # a product: as a convolution whose kernel is all there is to see it is many times slower
        x, weight = self.blurs[-1](maps), self.last.weight.permute(0, 2, 3, 1).flatten(1)
        features = F.leaky_relu(F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, self.last.bias), self.slope)
        return features.view(*frames.shape[:-3], -1)


def doublings(size: int) -> int:
    """How often 4 doubles to `size`. Raises UserError where the size is not 8, 16, 32, 64, ..."""
    count = round(math.log2(max(size, 1) / 4))
    if count < 1 or 4 * 2**count != size:
        raise UserError("a frame size that is a power of two from 8 up", f"{size}", "Choose 64.")
    return count
