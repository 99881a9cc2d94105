"""Random recolouring."""

from __future__ import annotations

import pytest
import torch

from stillmotion.nn.recolour import KNOTS, _bend, recolour


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


def test_at_strength_2_dark_and_bright_tell_nothing() -> None:
    """The order of two greys survives a gain and an offset, and not a curve: rank correlation over clips is gone."""
    greys = torch.rand(400, 2, generator=generator(2))
    frames = greys[:, None, None, None, :].expand(400, 1, 1, 1, 2)
    brighter = greys[:, 1] > greys[:, 0]
    kept = {strength: _as_before(recolour(frames, strength, generator(3)), brighter) for strength in (1.0, 2.0)}
    assert kept[1.0] > 0.95
    assert abs(kept[2.0] - 0.5) < 0.12


def _as_before(frames: torch.Tensor, brighter: torch.Tensor) -> float:
    """The share of clips in which the second grey is still the brighter one, if it was."""
    return float(((frames[..., 1] >= frames[..., 0]).flatten() == brighter).float().mean())


def test_a_curve_passes_through_its_knots_and_is_straight_between_them() -> None:
    frames = torch.linspace(0, 1, 17).expand(1, 1, 1, 1, 17)
    out = _bend(frames, 1.0, generator(4)).flatten()
    heights = torch.rand(1, 1, KNOTS, generator=generator(4)).flatten()
    torch.testing.assert_close(out[::4], heights)
    torch.testing.assert_close(out[2::4], (heights[:-1] + heights[1:]) / 2)
    torch.testing.assert_close(_bend(frames, 0.0, generator(4)), frames)
