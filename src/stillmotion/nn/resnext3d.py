"""The 3D ResNeXt of Hara, Kataoka and Satoh (CVPR 2018): a residual network of grouped convolutions over time and space.

Modules carry the names of the authors' published weight files (conv1, bn1, layer1 ... layer4, downsample), so that these load
without a table of names. The classifier on top is left out: what is wanted of it are the features below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 2
"""Channels that leave a block, per channel inside it."""


@dataclass(frozen=True)
class ResNeXt3dShape:
    """stem: channels of the first convolution. widths, blocks: channels inside the blocks of each stage, and how many blocks it has.

    The defaults are ResNeXt-101 of cardinality 32, with 2,048 features.
    """

    stem: int = 64
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    blocks: tuple[int, ...] = (3, 4, 23, 3)
    cardinality: int = 32

    @property
    def features(self) -> int:
        return EXPANSION * self.widths[-1]


class Block(nn.Module):
    """1 x 1 x 1, grouped 3 x 3 x 3 with the stride, 1 x 1 x 1, each with batch norm, around a shortcut.

    Where the shape changes the shortcut is a strided 1 x 1 x 1 convolution with batch norm (type B of the paper).
    (B, before, T, H, W) to (B, 2 * width, T / stride, H / stride, W / stride), sizes rounded up.
    """

    def __init__(self, before: int, width: int, cardinality: int, stride: int) -> None:
        super().__init__()
        after = EXPANSION * width
        self.conv1 = nn.Conv3d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(after)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv3d(before, after, 1, stride, bias=False), nn.BatchNorm3d(after))

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.bn1(self.conv1(x)), inplace=True)
        inside = F.relu(self.bn2(self.conv2(inside)), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(inside)) + shortcut, inplace=True)


class ResNeXt3d(nn.Module):
    """(B, 3, T, H, W) to (B, features): the mean over time and space of what the last stage gives.

    The stem halves H and W, the pooling after it and each stage but the first halve T, H and W: 16 x 112 x 112 end at 1 x 4 x 4.
    """

    def __init__(self, shape: ResNeXt3dShape) -> None:
        super().__init__()
        self.shape = shape
        self.conv1 = nn.Conv3d(3, shape.stem, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(shape.stem)
        for number, stage in enumerate(_stages(shape), 1):
            self.add_module(f"layer{number}", stage)

    def forward(self, clips: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(clips)), inplace=True)
        x = F.max_pool3d(x, 3, stride=2, padding=1)
        for number in range(1, len(self.shape.widths) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean((2, 3, 4))


def _stages(shape: ResNeXt3dShape) -> Iterator[nn.Sequential]:
    before = shape.stem
    for stage, (width, count) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
        first = Block(before, width, shape.cardinality, stride=1 if stage == 0 else 2)
        before = EXPANSION * width
        yield nn.Sequential(first, *(Block(before, width, shape.cardinality, stride=1) for _ in range(count - 1)))
