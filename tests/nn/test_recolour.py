"""Random recolouring."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp

from stillmotion.nn.recolour import coarsen, disguise, recolour, scramble


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_strength_0_changes_nothing(channels: int) -> None:
    frames = torch.rand(3, 4, channels, 8, 8)
    torch.testing.assert_close(recolour(frames, 0.0, generator()), frames)


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("scrambled", [0.0, 0.5, 1.0])
def test_values_stay_in_0_to_1(strength: float, scrambled: float) -> None:
    out = recolour(torch.rand(20, 2, 3, 8, 8), strength, generator(), scrambled)
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("scrambled", [0.0, 1.0])
def test_all_frames_of_a_clip_are_coloured_alike_and_clips_apart(scrambled: float) -> None:
    picture = torch.rand(1, 1, 3, 8, 8)
    out = recolour(picture.expand(4, 5, 3, 8, 8), 1.0, generator(), scrambled)
    assert torch.equal(out, out[:, :1].expand_as(out))
    distances = torch.cdist(out[:, 0].flatten(1), out[:, 0].flatten(1)) + torch.eye(4)
    assert distances.min() > 0.1


@pytest.mark.parametrize("scrambled", [0.0, 1.0])
def test_equal_colours_stay_equal_whatever_their_place(scrambled: float) -> None:
    """A colour goes to a colour: where things are, and which pixels are alike, is kept."""
    colours = torch.rand(3, 2)
    where = torch.randint(0, 2, (8, 8), generator=generator(1))
    out = recolour(colours[:, where][None, None], 1.0, generator(), scrambled)[0, 0]
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


def told_apart(dark: torch.Tensor, bright: torch.Tensor) -> float:
    """The chance that the two are the same distribution, by the test of Kolmogorov and Smirnov."""
    return float(ks_2samp(dark.numpy(), bright.numpy()).pvalue)


def flat(value: float, clips: int = 4000) -> torch.Tensor:
    return torch.full((clips, 1, 3, 1, 1), value)


def test_scrambled_dark_and_bright_are_the_same_distribution_and_mixed_ones_are_not() -> None:
    dark, bright = (scramble(flat(value), generator(seed))[:, 0, 0, 0, 0] for seed, value in enumerate((0.1, 0.8)))
    assert told_apart(dark, bright) > 0.01
    # of a sine at a random place: the arcsine law, whose deviation is the square root of 1/8
    assert float(dark.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(dark.std()) == pytest.approx(0.125**0.5, abs=0.01)
    mixed = [recolour(flat(value), 1.0, generator(seed))[:, 0, 0, 0, 0] for seed, value in enumerate((0.1, 0.8))]
    assert told_apart(*mixed) < 1e-6


def test_scrambling_turns_what_is_brighter_around_in_half_of_the_clips() -> None:
    pair = torch.cat([flat(0.3), flat(0.5)], -1)
    rises = torch.diff(scramble(pair, generator()), dim=-1)[:, 0, 0]
    assert float((rises > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    kept = torch.diff(recolour(pair, 1.0, generator()), dim=-1)[:, 0, 0]
    assert float((kept >= 0).float().mean()) == 1  # a mix keeps the order


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_clips_that_are_scrambled(share: float) -> None:
    pair = torch.cat([flat(0.3), flat(0.5)], -1)
    falls = torch.diff(recolour(pair, 1.0, generator(), share), dim=-1)[:, 0, 0] < 0
    assert float(falls.float().mean()) == pytest.approx(share / 2, abs=0.03)


def test_a_disguise_is_worn_where_it_is_asked_for() -> None:
    frames = torch.rand(6, 2, 3, 8, 8)
    assert disguise(frames, 0.0, {"scrambled": 1.0}, generator()) is None
    assert disguise(frames, 1.0, {}, None) is None
    for weights, scrambled in (({}, 0.0), ({"scrambled": 0.0}, 0.0), ({"scrambled": 1.0}, 1.0)):
        worn = disguise(frames, 1.0, weights, generator())
        assert worn is not None
        torch.testing.assert_close(worn, recolour(frames, 1.0, generator(), scrambled))


def test_of_coarse_frames_only_the_means_of_squares_are_told() -> None:
    frames = torch.rand(2, 3, 3, 16, 16, generator=generator())
    squares = frames.unflatten(-1, (4, 4)).unflatten(-3, (4, 4))
    other = squares.flip(-3, -1).flatten(-2).flatten(-3, -2)
    assert not torch.allclose(other, frames, atol=0.1)
    torch.testing.assert_close(coarsen(other, 4), coarsen(frames, 4))
    assert not torch.allclose(coarsen(frames.flip(-1), 4), coarsen(frames, 4), atol=0.01)
    flat = torch.full((1, 1, 1, 16, 16), 0.3)
    torch.testing.assert_close(coarsen(flat, 8), flat)
    assert torch.equal(coarsen(frames, 1), frames)


def test_coarse_frames_tell_where_a_thing_is_to_a_fraction_of_a_square() -> None:
    rows = torch.arange(64.0)
    for middle in (20.0, 21.0, 24.5, 30.0):
        thing = torch.exp(-0.5 * ((rows - middle) / 5) ** 2)
        light = coarsen((thing[:, None] * thing)[None, None, None], 8)[0, 0, 0].sum(1)
        assert float((light * rows).sum() / light.sum()) == pytest.approx(middle, abs=0.1)


def test_frames_are_disguised_as_asked() -> None:
    frames = torch.rand(2, 3, 3, 8, 8, generator=generator())
    assert disguise(frames, 0.0, {}, generator()) is None
    assert disguise(frames, 1.0, {}, None, coarse=4) is None
    both, coarse = disguise(frames, 1.0, {}, generator(), coarse=4), disguise(frames, 0.0, {}, generator(), coarse=4)
    assert both is not None
    assert coarse is not None
    torch.testing.assert_close(both, coarsen(recolour(frames, 1.0, generator()), 4))
    torch.testing.assert_close(coarse, coarsen(frames, 4))
