"""Flights against closed forms, laws of mechanics, and a simulation in very small steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data.collisions import circle_contact, earliest, fly, path, reflect, room

SQUARE = ((0.0, 0.0), (10.0, 0.0), (10.0, 8.0), (0.0, 8.0))
UNEVEN = ((1.0, 0.0), (9.0, 1.0), (11.0, 6.0), (4.0, 9.0), (-1.0, 5.0))
DOWN = (0.0, 0.3)


def balls(count: int, seed: int = 0, fastest: float = 3.0) -> tuple[Tensor, Tensor]:
    """Places in the middle of the rooms, and velocities in all directions."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.tensor([5.0, 4.0]) + 2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1
    angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    speed = fastest * (0.2 + 0.8 * torch.rand(count, generator=generator, dtype=torch.float64))
    return place, speed[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def folded(position: Tensor, low: float, high: float) -> Tensor:
    """The path of a ball in a corridor, unrolled and laid back over it."""
    phase = (position - low).remainder(2 * (high - low))
    return low + torch.where(phase > high - low, 2 * (high - low) - phase, phase)


def test_a_square_box_folds_straight_lines():
    place, velocity = balls(200)
    ours = path(place, velocity, room(SQUARE, 1), 60)
    straight = place[:, None] + velocity[:, None] * torch.arange(60, dtype=torch.float64)[:, None]
    exact = torch.stack([folded(straight[..., 0], 1, 9), folded(straight[..., 1], 1, 7)], -1)
    torch.testing.assert_close(ours[..., :2], exact, atol=1e-9, rtol=0)
    torch.testing.assert_close(ours[..., 2:].abs(), velocity.abs()[:, None].expand(-1, 60, -1), atol=1e-12, rtol=0)


def test_bounces_on_the_floor_are_the_parabolas_between_them():
    place = torch.tensor([[5.0, 4.0]], dtype=torch.float64).repeat(3, 1)
    velocity = torch.tensor([[0.0, 0.0], [0.0, 0.7], [0.0, -0.5]], dtype=torch.float64)
    g = DOWN[1]
    states = path(place, velocity, room(SQUARE, 1, DOWN), 40)
    time = torch.arange(40, dtype=torch.float64)
    for state, speed in zip(states, velocity[:, 1], strict=True):
        landing = math.sqrt(speed**2 + 2 * g * 3)
        first, period = (landing - speed) / g, 2 * landing / g
        since = (time - first).remainder(period)
        height = torch.where(time < first, 3 - speed * time - g / 2 * time**2, landing * since - g / 2 * since**2)
        torch.testing.assert_close(7 - state[:, 1], height, atol=1e-9, rtol=0)


def test_a_ball_that_meets_the_ceiling_is_turned_by_it():
    place, velocity = torch.tensor([[5.0, 2.0]], dtype=torch.float64), torch.tensor([[0.0, -2.0]], dtype=torch.float64)
    after = fly(place, velocity, room(SQUARE, 1, DOWN).contact, pull=torch.tensor(DOWN, dtype=torch.float64))
    at_ceiling = math.sqrt(4 - 2 * 0.3 * 1)
    left = 1 - (2 - at_ceiling) / 0.3
    assert after[0][0].tolist() == pytest.approx([5, 1 + at_ceiling * left + 0.15 * left**2], abs=1e-12)
    assert after[1][0].tolist() == pytest.approx([0, at_ceiling + 0.3 * left], abs=1e-12)


@pytest.mark.parametrize("pull", [(0.0, 0.0), DOWN, (0.1, -0.2)])
@pytest.mark.parametrize("corners", [SQUARE, UNEVEN])
def test_energy_is_kept_and_nothing_leaves(corners: tuple[tuple[float, float], ...], pull: tuple[float, float]):
    walls = room(corners, 1, pull)
    states = path(*balls(200, seed=1), walls, 100)
    energy = states[..., 2:].square().sum(-1) / 2 - states[..., :2] @ walls.pull
    torch.testing.assert_close(energy, energy[:, :1].expand_as(energy), atol=1e-9, rtol=0)
    assert walls.depth(states[..., :2]).min() > -1e-9


@pytest.mark.parametrize("pull", [(0.0, 0.0), DOWN])
def test_played_backwards_every_ball_returns_to_its_start(pull: tuple[float, float]):
    walls = room(UNEVEN, 1, pull)
    states = path(*balls(200, seed=2), walls, 25)
    last = states[:, -1]
    back = path(last[:, :2], -last[:, 2:], walls, 25).flip(1)
    torch.testing.assert_close(back[..., :2], states[..., :2], atol=1e-8, rtol=0)
    torch.testing.assert_close(back[..., 2:], -states[..., 2:], atol=1e-8, rtol=0)


@pytest.mark.parametrize("pull", [(0.0, 0.0), DOWN])
def test_a_simulation_in_small_steps_comes_to_the_same(pull: tuple[float, float]):
    corners, parts = np.array(UNEVEN), 4000
    edges = np.roll(corners, -1, 0) - corners
    normals = np.stack([-edges[:, 1], edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True)
    start, turning = balls(20, seed=3)
    place, velocity, bounces = start.numpy().copy(), turning.numpy().copy(), np.zeros(20)
    for _ in range(6 * parts):
        place += velocity / parts
        velocity += np.array(pull) / parts
        depth = ((place[:, None] - corners) * normals).sum(-1) - 1
        normal = normals[depth.argmin(1)]
        along = (velocity * normal).sum(-1) * (depth.min(1) < 0)
        velocity -= 2 * np.minimum(along, 0)[:, None] * normal
        bounces += along < 0
    ours = path(start, turning, room(UNEVEN, 1, pull), 7)[:, -1].numpy()
    np.testing.assert_allclose(ours, np.concatenate([place, velocity], 1), atol=2e-2)
    assert bounces.sum() > 20


@settings(deadline=None, max_examples=100)
@given(st.floats(0, 6.28), st.floats(0, 6.28))
def test_angle_in_is_angle_out(heading: float, facing: float):
    velocity = torch.tensor([[math.cos(heading), math.sin(heading)]], dtype=torch.float64)
    normal = torch.tensor([[math.cos(facing), math.sin(facing)]], dtype=torch.float64)
    tangent = torch.stack([-normal[:, 1], normal[:, 0]], 1)
    after = reflect(velocity, normal)
    assert float((after * normal).sum()) == pytest.approx(-float((velocity * normal).sum()), abs=1e-12)
    assert float((after * tangent).sum()) == pytest.approx(float((velocity * tangent).sum()), abs=1e-12)
    damped = reflect(velocity, normal, 0.5)
    assert float((damped * normal).sum()) == pytest.approx(-0.5 * float((velocity * normal).sum()), abs=1e-12)


def test_a_bounce_off_a_slanted_wall_keeps_the_angle():
    walls = room(((0.0, 0.0), (20.0, 0.0), (0.0, 20.0)), 1)  # the long side has slope -1
    place, velocity = torch.tensor([[6.0, 8.0]], dtype=torch.float64), torch.tensor([[4.0, 0.0]], dtype=torch.float64)
    there, after = fly(place, velocity, walls.contact, frames=2)
    reach = 20 - math.sqrt(2) - 8  # where the centre of the ball turns up
    assert there[0].tolist() == pytest.approx([reach, 8 - (14 - reach)], abs=1e-12)
    assert after[0].tolist() == pytest.approx([0, -4], abs=1e-12)


def test_a_ball_sent_into_a_corner_comes_straight_back():
    place, velocity = torch.tensor([[7.0, 5.0]], dtype=torch.float64), torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    states = path(place, velocity, room(SQUARE, 1), 5)[0]
    assert states[-1].tolist() == pytest.approx([7, 5, -1, -1], abs=1e-12)


@pytest.mark.parametrize("miss", [0.0, 0.7, 2.9, 3.1])
def test_a_circle_is_met_where_geometry_says(miss: float):
    place, velocity = torch.tensor([[0.0, miss]], dtype=torch.float64), torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    wait, normal = circle_contact(place, velocity, torch.tensor([[10.0, 0.0]], dtype=torch.float64), 3)
    if miss > 3:
        assert wait.tolist() == [math.inf]
        return
    reach = 10 - math.sqrt(9 - miss**2)
    assert wait.item() == pytest.approx(reach / 2, abs=1e-12)
    assert normal[0].tolist() == pytest.approx([(reach - 10) / 3, miss / 3], abs=1e-12)


def test_a_circle_behind_a_ball_or_just_left_is_not_met():
    centre = torch.zeros(3, 2, dtype=torch.float64)
    place = torch.tensor([[5.0, 0.0], [3.0, 0.0], [2.9, 0.0]], dtype=torch.float64)
    away = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, 2)
    assert circle_contact(place, away, centre, 3)[0].tolist() == [math.inf] * 3
    assert circle_contact(place, -away, centre, 3)[0].tolist() == [2, 0, 0], "who is inside turns round at once"


def test_the_earliest_contact_counts():
    one = torch.tensor([1.0, 5.0]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    two = torch.tensor([2.0, 3.0]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    wait, normal = earliest(one, two)
    assert wait.tolist() == [1, 3]
    assert normal.tolist() == [[1, 0], [0, 1]]


def test_rooms_are_convex_whichever_way_round_they_are_told():
    there = torch.tensor([5.0, 4.0], dtype=torch.float64)
    assert room(UNEVEN, 1).depth(there).sort().values.tolist() == pytest.approx(room(UNEVEN[::-1], 1).depth(there).sort().values.tolist())
    assert room(SQUARE, 1).depth(there).tolist() == [3, 4, 3, 4]
    for bad in (((0.0, 0.0), (4.0, 0.0), (1.0, 1.0), (0.0, 4.0)), ((0.0, 0.0), (1.0, 1.0)), ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0))):
        with pytest.raises(UserError, match="convex polygon"):
            room(bad, 1)


def test_a_ball_at_rest_on_the_floor_is_refused():
    place, velocity = torch.tensor([[5.0, 7.0]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(UserError, match="fewer than 1000 contacts"):
        fly(place, velocity, room(SQUARE, 1, DOWN).contact, pull=torch.tensor(DOWN, dtype=torch.float64))
