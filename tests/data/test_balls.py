"""Ball worlds: the published ranges, true states behind every frame, and the drawing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data import balls
from stillmotion.data.base import Splits
from stillmotion.data.collisions import room

WORLDS: dict[str, Callable[..., Splits]] = {"box": balls.box, "gravity": balls.gravity, "polygon": balls.polygon}
each_world = pytest.mark.parametrize("world", WORLDS)


def states_of(world: str, clips: int = 300, **options: int) -> Tensor:
    return WORLDS[world](clips=clips, validation=1, test=1, **options).train.truth()


def centre_of(frames: Tensor) -> Tensor:
    """Mean place (..., 2) of the lit pixels of frames (..., 1, 32, 32)."""
    lit = frames[..., 0, :, :].double() / frames.sum((-3, -2, -1))[..., None, None]
    centres = torch.arange(32).double() + 0.5
    return torch.stack([lit.sum(-2) @ centres, lit.sum(-1) @ centres], -1)


@each_world
def test_every_frame_shows_the_ball_where_the_state_says(world: str):
    data = WORLDS[world](clips=200, validation=1, test=1).train
    frames = data.frames.view(200, 20, 1, 32, 32)
    assert frames.unique().tolist() == [0, 255]
    assert (centre_of(frames) - data.truth()[..., :2]).norm(dim=-1).max() < 0.5
    area = (frames > 0).sum((2, 3, 4)).float()
    assert area.mean() == pytest.approx(math.pi * balls.DRAWN**2, rel=0.01)
    assert data.state_names == ("x", "y", "vx", "vy")


def test_a_ball_is_a_disc_of_the_drawn_radius():
    frame = balls.render(torch.tensor([[[10.3, 20.9]]], dtype=torch.float64))[0, 0, 0]
    lit = [[math.dist((column + 0.5, row + 0.5), (10.3, 20.9)) <= 3.25 for column in range(32)] for row in range(32)]
    assert torch.equal(frame > 0, torch.tensor(lit))


@each_world
def test_between_contacts_balls_fly_freely(world: str):
    states = states_of(world)
    pull = torch.tensor([0.0, 0.2 if world == "gravity" else 0.0], dtype=torch.float64)
    before, after = states[:, :-1], states[:, 1:]
    free = (after[..., 2:] - before[..., 2:] - pull).abs().amax(-1) < 1e-9
    assert 0.5 < free.double().mean() < 0.95
    torch.testing.assert_close(after[free][:, :2], before[free][:, :2] + before[free][:, 2:] + pull / 2, atol=1e-9, rtol=0)


@each_world
def test_energy_stays_and_so_does_the_ball(world: str):
    states = states_of(world, steps=60)
    energy = states[..., 2:].square().sum(-1) / 2 - (0.2 * states[..., 1] if world == "gravity" else 0)
    torch.testing.assert_close(energy, energy[:, :1].expand(-1, 60), atol=1e-9, rtol=0)
    walls = room(balls.HEXAGON if world == "polygon" else balls.SQUARE, 3)
    assert walls.depth(states[..., :2]).min() > -1e-9
    assert walls.depth(states[:, 0, :2]).min() > 1 - 1e-9


@pytest.mark.parametrize(("world", "slow", "fast", "spread"), [("box", 2, 3, 10), ("gravity", 1, 2, 8), ("polygon", 2, 3, 2.5)])
def test_balls_start_as_published(world: str, slow: float, fast: float, spread: float):
    first = states_of(world, clips=4000, steps=1)[:, 0]
    speed, heading = first[:, 2:].norm(dim=1), torch.atan2(first[:, 3], first[:, 2])
    assert slow <= speed.min() < slow + 0.01 < fast - 0.01 < speed.max() <= fast
    assert torch.histc(heading, 8, -math.pi, math.pi).sub(500).abs().max() < 100
    assert first[:, :2].mean(0).tolist() == pytest.approx([16, 16], abs=0.4)
    ends = 10 / spread  # in deviations; what is beyond lies on the ends
    beyond = math.erfc(ends / math.sqrt(2))
    variance = spread**2 * (1 - beyond - 2 * ends * math.exp(-(ends**2) / 2) / math.sqrt(2 * math.pi)) + 100 * beyond
    assert first[:, :2].std(0).tolist() == pytest.approx([math.sqrt(variance)] * 2, rel=0.03)
    assert first[:, :2].min() >= 6
    assert first[:, :2].max() <= 26


def test_the_hexagon_is_the_published_one_turned_over():
    published = [(3, 1), (1, 15), (8, 30), (25, 30), (30, 8), (15, 1)]
    assert [(x, 32 - y) for x, y in balls.HEXAGON] == published


def test_a_start_behind_a_wall_is_moved_towards_the_middle():
    walls = room(balls.HEXAGON, 3)
    place = torch.tensor([[16.0, 16.0], [25.0, 7.0], [6.0, 26.0], [26.0, 26.0]], dtype=torch.float64)
    moved = balls.pulled_in(place, walls)
    assert moved[0].tolist() == [16, 16]
    assert walls.depth(moved).amin(1)[1:].tolist() == pytest.approx([1, 1, 1])
    across, along = (moved - 16).unbind(1)
    meant = place - 16
    assert (across * meant[:, 1] - along * meant[:, 0]).abs().max() < 1e-12


def test_the_label_is_the_quadrant_that_the_ball_sets_out_to():
    velocity = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    assert [balls.DIRECTIONS[k] for k in balls.direction(velocity)] == ["left and up", "right and up", "left and down", "right and down"]
    data = balls.box(clips=40, validation=1, test=1, steps=2).train
    assert torch.equal(data.labels["direction"], balls.direction(data.truth()[:, 0, 2:]))
    assert data.moving == tuple(data.classes) == ("direction",)


@each_world
def test_the_same_seed_gives_the_same_clips_and_another_others(world: str):
    once, again, other = (WORLDS[world](clips=9, validation=8, test=7, steps=3, seed=seed) for seed in (0, 0, 1))
    assert [len(part) for part in once] == [9, 8, 7]
    assert all(torch.equal(one.frames, two.frames) for one, two in zip(once, again, strict=True))
    assert not torch.equal(once.train.frames, other.train.frames)
    starts = torch.cat([part.truth()[:, 0] for part in (*once, *other)])
    assert len(starts.unique(dim=0)) == 48, "no clip is in two splits, or comes from two seeds"


@each_world
def test_fewer_and_shorter_clips_are_the_beginning_of_more_and_longer_ones(world: str):
    small = WORLDS[world](clips=20, validation=2, test=3, steps=5)
    large = WORLDS[world](clips=70, validation=40, test=50, steps=9)
    for few, many in zip(small, large, strict=True):
        assert torch.equal(few.truth(), many.truth()[: len(few), :5])


def test_worlds_with_the_same_seed_do_not_share_their_starts():
    assert not torch.equal(states_of("box", 5, steps=1)[..., 2] / 2, states_of("gravity", 5, steps=1)[..., 2])
    headings = [torch.atan2(first[:, 0, 3], first[:, 0, 2]) for first in (states_of(world, 5, steps=1) for world in WORLDS)]
    assert len(torch.cat(headings).unique()) == 15


@pytest.mark.parametrize("bad", [{"clips": 0}, {"validation": 0}, {"test": 0}, {"steps": 0}])
def test_numbers_below_one_are_refused(bad: dict[str, int]):
    with pytest.raises(UserError, match="at least 1 clip of 1 frame in each split, got "):
        balls.box(**{"clips": 1, "validation": 1, "test": 1, "steps": 1, **bad})
