"""Random recolouring."""

from __future__ import annotations

import pytest
import torch

from stillmotion.nn.recolour import recolour


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_strength_0_changes_nothing(channels: int) -> None:
    frames = torch.rand(3, 4, channels, 8, 8)
    torch.testing.assert_close(recolour(frames, 0.0, generator()), frames)


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
def test_values_stay_in_0_to_1(strength: float) -> None:
    out = recolour(torch.rand(20, 2, 3, 8, 8), strength, generator())
    assert out.min() >= 0
    assert out.max() <= 1


def test_all_frames_of_a_clip_are_coloured_alike_and_clips_apart() -> None:
    picture = torch.rand(1, 1, 3, 8, 8)
    out = recolour(picture.expand(4, 5, 3, 8, 8), 1.0, generator())
    assert torch.equal(out, out[:, :1].expand_as(out))
    distances = torch.cdist(out[:, 0].flatten(1), out[:, 0].flatten(1)) + torch.eye(4)
    assert distances.min() > 0.1


def test_equal_colours_stay_equal_whatever_their_place() -> None:
    """A colour goes to a colour: where things are, and which pixels are alike, is kept."""
    colours = torch.rand(3, 2)
    where = torch.randint(0, 2, (8, 8), generator=generator(1))
    out = recolour(colours[:, where][None, None], 1.0, generator())[0, 0]
    for index in (0, 1):
        alike = out[:, where == index]
        torch.testing.assert_close(alike, alike[:, :1].expand_as(alike))


def test_a_stronger_recolouring_moves_colours_further() -> None:
    frames = torch.rand(50, 1, 3, 4, 4)
    moved = [float((recolour(frames, strength, generator()) - frames).abs().mean()) for strength in (0.1, 0.5, 1.0)]
    assert moved == sorted(moved)
    assert moved[0] > 0


def test_the_generator_alone_decides() -> None:
    frames = torch.rand(2, 3, 3, 8, 8)
    assert torch.equal(recolour(frames, 1.0, generator(5)), recolour(frames, 1.0, generator(5)))
    assert not torch.equal(recolour(frames, 1.0, generator(5)), recolour(frames, 1.0, generator(6)))
