"""The toy: its frames say what its labels say."""

from __future__ import annotations

from itertools import pairwise

import torch

from stillmotion.testing.toys import COLOURS, colour_of, toy


def test_each_frame_shows_one_bar_in_the_colour_of_the_label() -> None:
    data = toy(50, 6, torch.Generator().manual_seed(0))
    frames, palette = data.clips().frames, torch.tensor(list(COLOURS.values()))
    assert frames.shape == (50, 6, 3, 8, 8)
    lit = frames.amax(2)
    assert torch.equal(lit.sum((2, 3)), torch.full((50, 6), 24.0))  # 3 columns of 8 pixels
    expected = palette[data.labels["colour"]][:, None, :, None, None] * lit[:, :, None]
    assert torch.equal(frames, expected)
    assert colour_of(frames).tolist() == data.labels["colour"].tolist()


def test_the_bar_moves_by_one_pixel_in_the_direction_of_the_label() -> None:
    data = toy(50, 6, torch.Generator().manual_seed(0))
    columns = data.clips().frames.amax((2, 3))
    for clip, direction in zip(columns, data.labels["direction"].tolist(), strict=True):
        for before, after in pairwise(clip):
            assert torch.equal(before.roll(1 if data.classes["direction"][direction] == "right" else -1), after)


def test_the_factors_are_independent_and_all_classes_occur() -> None:
    data = toy(4000, 1, torch.Generator().manual_seed(0))
    pairs = torch.bincount(2 * data.labels["colour"] + data.labels["direction"], minlength=8)
    assert ((pairs - 500).abs() < 5 * 500**0.5).all()


def test_the_generator_alone_decides() -> None:
    first, again, other = (toy(8, 3, torch.Generator().manual_seed(seed)).frames for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
