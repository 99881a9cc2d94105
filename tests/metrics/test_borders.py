from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillmotion.metrics.borders import border_colour, nearer_to_first


def painted(colours: list[list[float]], size: int, width: int, steps: int = 3) -> Tensor:
    """Clips with a border of one colour and noise inside."""
    frames = torch.rand(len(colours), steps, 3, size, size, generator=torch.Generator().manual_seed(0))
    ring = torch.ones(size, size, dtype=torch.bool)
    ring[width:-width, width:-width] = False
    for clip, colour in zip(frames, colours, strict=True):
        clip[:, :, ring] = torch.tensor(colour)[:, None]
    return frames


def there(frames: Tensor) -> Tensor:
    return torch.ones(frames.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize(("size", "width"), [(8, 1), (16, 1), (32, 2), (64, 4), (128, 8)])
def test_the_border_alone_is_read_at_every_size(size: int, width: int) -> None:
    colours = [[0.1, 0.5, 0.9], [1.0, 0.0, 0.25]]
    frames = painted(colours, size, width)
    assert torch.equal(border_colour(frames, there(frames)), torch.tensor(colours))


def test_an_arm_that_crosses_the_border_does_not_matter() -> None:
    frames = painted([[0.2, 0.3, 0.4]], 64, 4)
    frames[:, :, :, :4, 10:30] = 1.0
    frames[:, 0] = torch.where(torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) < 0.3, 0.0, frames[:, 0])
    assert border_colour(frames, there(frames)).tolist() == [pytest.approx([0.2, 0.3, 0.4])]


def test_padding_does_not_matter() -> None:
    frames = painted([[0.2, 0.3, 0.4], [0.5, 0.6, 0.7]], 16, 1, steps=10)
    mask = torch.arange(10) < torch.tensor([[2], [10]])
    frames[0, 2:] = 0.0
    assert border_colour(frames, mask).tolist() == [pytest.approx([0.2, 0.3, 0.4]), pytest.approx([0.5, 0.6, 0.7])]


def test_nearer_is_by_distance_in_all_channels() -> None:
    first, second = torch.zeros(3, 3), torch.ones(3, 3)
    colour = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.4], [0.0, 0.0, 1.0]])
    assert nearer_to_first(colour, first, second).tolist() == [True, False, True]
