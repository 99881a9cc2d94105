"""A model whose codes can be read off by eye: frames are one grey level, the path is that level, the static code its blue part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stillmotion.core.abilities import EncodesFrames, Generates, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian


class GreyModel(nn.Module, Swaps, EncodesFrames, Generates):
    """static: the mean of the last channel over the frames that are there; path: the first channel of each frame. Both are painted back.

    windows: the numbers of frames of the clips that it was asked to encode; seen: the levels of their frames.
    """

    name = "grey"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.windows: list[int] = []
        self.seen: list[Tensor] = []

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        self.windows.append(clips.frames.shape[1])
        self.seen.append(clips.frames[..., 0, 0, 0])
        share = clips.mask / clips.mask.sum(1, keepdim=True)
        static = (clips.frames[..., -1, 0, 0] * share).sum(1, keepdim=True)
        dynamic = clips.frames[:, :1, 0, 0, 0]
        path = clips.frames[..., 0, 0, 0][..., None] * self.weight
        posterior = Gaussian(static, torch.zeros_like(static))
        return Codes(static, dynamic, path, clips.mask, posterior, Gaussian(dynamic, torch.zeros_like(dynamic)))

    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        codes = self.encode(clips, generator)
        return Codes(codes.static, None, 1 - codes.path, clips.mask)  # type: ignore[operator]

    def decode(self, codes: Codes) -> Tensor:
        assert codes.path is not None
        assert codes.static is not None
        level = codes.path[..., None, None].expand(-1, -1, 3, 2, 2).clone()
        level[:, :, -1] = codes.static[:, :, None, None]
        return level

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        draw: dict[str, Any] = {"generator": generator}
        return Codes(torch.rand(count, 1, **draw), None, torch.rand(count, steps, 1, **draw), torch.ones(count, steps, dtype=torch.bool))


def grey_clips(*lengths: int, blue: float = 0.5) -> Clips:
    """Clip i of 2 x 2 frames, whose frame t has the level (t + 1) / 256 and the last channel `blue` + i / 10; padded to the longest."""
    steps = max(lengths)
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    frames = ((torch.arange(steps) + 1) / 256).view(1, steps, 1, 1, 1).repeat(len(lengths), 1, 3, 2, 2)
    frames[:, :, -1] = blue + torch.arange(len(lengths))[:, None, None, None] / 10
    return Clips(frames * mask[:, :, None, None, None], mask)
