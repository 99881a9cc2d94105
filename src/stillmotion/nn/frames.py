"""Small frame encoders and decoders that the Kalman VAE and the models beside it share, so that comparisons are of dynamics alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from stillmotion.nn.encoders import doublings

Kind = Literal["conv", "dense"]


class FrameEncoder(nn.Module):
    """Frames (..., C, H, W) in [0, 1] to features (..., features): convolutional or dense (Kalman VAE, supplement).

    conv: 3 x 3 convolutions with stride 2 and ReLU, `width` channels each, down to 4 x 4 pixels. dense: two layers of `width` units
    with ReLU.
    """

    def __init__(self, frame_shape: tuple[int, ...], kind: Kind, width: int) -> None:
        super().__init__()
        colours, size, _ = frame_shape
        if kind == "conv":
            channels = [colours, *[width] * doublings(size)]
            steps: list[nn.Module] = [part for a, b in pairwise(channels) for part in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(True))]
            self.features = width * 16
        else:
            steps = [nn.Linear(colours * size * size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
            self.features = width
        self.net, self.kind = nn.Sequential(*steps), kind

    def forward(self, frames: Tensor) -> Tensor:
        flat = frames.flatten(0, -4)
        features: Tensor = self.net(flat.contiguous(memory_format=torch.channels_last) if self.kind == "conv" else flat.flatten(1))
        return features.flatten(1).view(*frames.shape[:-3], -1)


class ChannelsLast(nn.Module):
    """(N, H, W, C) to (N, C, H, W) without moving a number: convolutions on a CPU are faster here in this order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class Doubled(nn.Module):
    """Four times the channels to twice the height and width: (N, 4 C, H, W) to (N, C, 2 H, 2 W).

    As nn.PixelShuffle, but of channels in the order (row, column, channel), so that whole runs of numbers are copied.
    """

    def forward(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(count, height, width, 2, channels // 2).transpose(2, 3)
        return rows.reshape(count, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)


class FrameDecoder(nn.Module):
    """Codes (..., inputs) to logits or means (..., C, H, W), the mirror of FrameEncoder.

    conv: a linear map to 4 x 4 pixels of `width` channels, then for each doubling a 3 x 3 convolution with ReLU whose fourfold channels
    are shuffled into pixels, and a 1 x 1 convolution at the end. dense: two layers of `width` units with ReLU.
    """

    def __init__(self, inputs: int, frame_shape: tuple[int, ...], kind: Kind, width: int) -> None:
        super().__init__()
        colours, size, _ = frame_shape
        if kind == "conv":
            blocks = [
                part for _ in range(doublings(size)) for part in (nn.Conv2d(width, 4 * width, 3, padding=1), nn.ReLU(True), Doubled())
            ]
            first = (nn.Linear(inputs, width * 16), nn.Unflatten(1, (4, 4, width)), ChannelsLast())
            self.net = nn.Sequential(*first, *blocks, nn.Conv2d(width, colours, 1))
        else:
            layers = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, colours * size * size)]
            self.net = nn.Sequential(*layers, nn.Unflatten(1, (colours, size, size)))

    def forward(self, codes: Tensor) -> Tensor:
        frames: Tensor = self.net(codes.flatten(0, -2))
        return frames.view(*codes.shape[:-1], *frames.shape[1:])
