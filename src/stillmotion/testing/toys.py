"""A toy whose factors are known: a bar of one colour that wanders to the left or to the right."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.data.base import ClipSet

SIZE, WIDTH = 8, 3
FRAME_SHAPE = (3, SIZE, SIZE)
COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0), "yellow": (1.0, 1.0, 0.0)}
DIRECTIONS = ("left", "right")


def toy(count: int, steps: int, generator: torch.Generator) -> ClipSet:
    """`count` clips of `steps` frames of 8 x 8 pixels: what stays is `colour` (4 classes), what moves is `direction` (2 classes).

    The bar is 3 pixels wide, as high as the frame, moves by one pixel per frame and comes back in on the other side.
    """
    colour, direction, start = (torch.randint(limit, (count,), generator=generator) for limit in (len(COLOURS), 2, SIZE))
    place = start[:, None] + (2 * direction[:, None] - 1) * torch.arange(steps)
    bar = (torch.arange(SIZE) - place[..., None]) % SIZE < WIDTH
    pixels = _palette()[colour][:, None, :, None, None] * bar[:, :, None, None, :]
    frames = (255 * pixels.expand(-1, -1, -1, SIZE, -1)).to(torch.uint8)
    labels, classes = {"colour": colour, "direction": direction}, {"colour": tuple(COLOURS), "direction": DIRECTIONS}
    return ClipSet.whole(frames, labels, classes, moving=("direction",))


def colour_of(frames: Tensor) -> Tensor:
    """Index of the colour that the summed light of each clip (B, T, 3, H, W) is closest to in hue, (B,) int64."""
    light = frames.sum((1, 3, 4))
    return torch.cosine_similarity(light[:, None], _palette().to(light), dim=-1).argmax(1)


def _palette() -> Tensor:
    return torch.tensor(list(COLOURS.values()))
