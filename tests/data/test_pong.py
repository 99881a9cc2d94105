"""Pong: the paddles' rules, exact contacts against small steps, and the drawing."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.data import pong


def game(place: tuple[float, float], velocity: tuple[float, float], steps: int) -> Tensor:
    """(steps, 6) states of one game."""
    return pong.play(torch.tensor([place], dtype=torch.float64), torch.tensor([velocity], dtype=torch.float64), steps)[0]


def test_a_ball_between_the_paddles_loses_a_tenth_of_its_speed_at_each():
    states = game((16, 16), (-2, 0), 20)
    assert pytest.approx(0.891) == pong.BOUNCE
    assert states[6, :4].tolist() == pytest.approx([4, 16, 2 * 0.891, 0])  # the face is at 0 + 1, the ball's radius is 3
    slow = 2 * 0.891
    there = 22 / slow  # frames from face to face, 4 to 26
    assert states[19, 0].item() == pytest.approx(26 - slow * 0.891 * (13 - there))
    assert states[19, 2].item() == pytest.approx(-2 * 0.891**2)
    assert (states[:, 4:] == 16).all(), "nothing to follow"


def test_floor_and_roof_turn_the_ball_at_their_heights():
    down, up = game((16, 26), (0, 2), 3), game((16, 5), (0, -2), 3)
    assert down[1:, 1].tolist() == pytest.approx([28, 28 - 2 * 0.891])
    assert up[1:, 1].tolist() == pytest.approx([3, 3 + 2 * 0.891])


@pytest.mark.parametrize(("paddle", "ball", "after"), [
    (16, 16.9, 16), (16, 17.1, 18), (16, 25, 18), (16, 14.9, 14), (16, 15.1, 16), (28, 31, 29), (4, 1, 3), (29, 31, 29),
])  # fmt: skip
def test_paddles_follow_in_steps_of_two_and_stay_in_the_picture(paddle: float, ball: float, after: float):
    moved = pong.follow(torch.tensor([[paddle, paddle]], dtype=torch.float64), torch.tensor([[ball]], dtype=torch.float64))
    assert moved.tolist() == [[after, after]]


def test_paddles_move_by_where_the_ball_was_a_frame_ago():
    states = game((16, 20), (0.5, 1), 10)
    for before, after in pairwise(states):
        expected = pong.follow(before[None, 4:], before[None, 1:2])[0]
        assert torch.equal(after[4:], expected)
    assert states[:, 4].diff().max() == 2


def test_a_ball_that_is_missed_leaves_and_nobody_scores():
    states = game((7, 27.5), (-4, 0), 8)  # too far down for the left paddle, which must come from the middle
    assert states[:, 0].tolist() == [7, 3, -1, -5, -9, -13, -17, -21]
    frames = pong.render(states[None, -1:])
    assert frames[..., :24].sum() == frames[..., :1].sum(), "the left paddle alone is left there"
    assert states[-1, 4] > 16, "the paddle still follows"


def test_the_rounded_end_of_a_paddle_sends_the_ball_aside():
    table = pong.Table(torch.tensor([[16.0, 16.0]], dtype=torch.float64))
    place, velocity = torch.tensor([[8.0, 21.0]], dtype=torch.float64), torch.tensor([[-2.0, 0.0]], dtype=torch.float64)
    wait, normal = table.contact(place, velocity)
    across = math.sqrt(4**2 - 2**2)  # the end is at (0, 19), the ball passes 2 below it
    assert wait.item() == pytest.approx((8 - across) / 2)
    assert normal[0].tolist() == pytest.approx([across / 4, 0.5])
    right = table.contact(torch.tensor([[22.0, 21.0]], dtype=torch.float64), -velocity)
    assert right[0].item() == pytest.approx((8 - across) / 2)
    assert right[1][0].tolist() == pytest.approx([-across / 4, 0.5])


def test_a_ball_behind_a_paddle_is_left_alone():
    table = pong.Table(torch.tensor([[16.0, 16.0]], dtype=torch.float64))
    for x, speed in ((-5.0, -2.0), (35.0, 2.0), (35.0, 0.0)):
        contact = table.contact(torch.tensor([[x, 16.0]], dtype=torch.float64), torch.tensor([[speed, 0.0]], dtype=torch.float64))
        assert contact[0].item() == math.inf


def stepped(state: np.ndarray, frames: int, parts: int) -> np.ndarray:
    """Many games at once in small steps: balls (N, 6) are turned wherever they overlap what they move into."""
    place, velocity, paddles = (state[:, k : k + 2].copy() for k in (0, 2, 4))
    for _ in range(frames):
        away = place[:, 1:] - paddles
        paddles = np.clip(np.where(np.abs(away) > 1, paddles + 2 * np.sign(away), paddles), 3, 29)
        for _ in range(parts):
            place = place + velocity / parts
            x, y = place.T
            sides = [np.stack([0 * x + at, np.clip(y, middle - 3, middle + 3)], 1) for at, middle in zip((0, 30), paddles.T, strict=True)]
            lines = [np.stack([x, 0 * y + at], 1) for at in (0, 31)]
            for point, reach in zip([*sides, *lines], (4, 4, 3, 3), strict=True):
                apart = place - point
                distance = np.linalg.norm(apart, axis=1, keepdims=True)
                normal = apart / distance
                along = (velocity * normal).sum(1, keepdims=True)
                velocity = velocity - 1.891 * np.minimum(along, 0) * (distance < reach) * normal
    return np.concatenate([place, velocity, paddles], 1)


def test_a_simulation_in_small_steps_comes_to_the_same():
    truth = pong.load(clips=400, validation=1, test=1, steps=13, seed=2).train.truth()
    brute = stepped(truth[:, 0].numpy(), 12, 400)
    apart = np.abs(brute - truth[:, -1].numpy())
    assert np.median(apart[:, :4]) < 0.005
    assert (apart < 0.05).all(1).mean() > 0.98, "a paddle may step one frame later where the ball is just a pixel away"
    assert (truth[:, -1, 2:4].norm(dim=1) < 1.9).double().mean() > 0.5, "most balls did meet something"


def test_energy_is_only_lost_in_contacts_and_never_won():
    truth = pong.load(clips=300, validation=1, test=1, steps=40).train.truth()
    speed = truth[..., 2:4].norm(dim=-1)
    assert speed[:, 0].tolist() == pytest.approx([2] * 300)
    assert speed.diff(dim=1).max() < 1e-12
    free = (truth[:, 1:, 2:4] == truth[:, :-1, 2:4]).all(-1)
    assert 0.5 < free.double().mean() < 1
    torch.testing.assert_close(truth[:, 1:, :2][free], (truth[:, :-1, :2] + truth[:, :-1, 2:4])[free], atol=1e-9, rtol=0)
    assert truth[..., 1].min() > 3 - 1e-9
    assert truth[..., 1].max() < 28 + 1e-9


def test_paddles_are_drawn_as_lines_with_round_ends():
    states = torch.tensor([[[16.0, 16, 0, 0, 10.2, 20.7]]], dtype=torch.float64)
    frame = pong.render(states)[0, 0, 0] > 0

    def lit(x: float, y: float) -> bool:
        left = math.dist((x, y), (0, min(max(y, 7.2), 13.2))) <= 1
        right = math.dist((x, y), (30, min(max(y, 17.7), 23.7))) <= 1
        return left or right or math.dist((x, y), (16, 16)) <= 3.25

    assert torch.equal(frame, torch.tensor([[lit(column + 0.5, row + 0.5) for column in range(32)] for row in range(32)]))


def test_load_is_deterministic_and_continues():
    small, large = pong.load(clips=20, validation=2, test=3, steps=5, seed=4), pong.load(clips=50, validation=30, test=40, steps=9, seed=4)
    for few, many in zip(small, large, strict=True):
        assert torch.equal(few.truth(), many.truth()[: len(few), :5])
        assert few.state_names == ("x", "y", "vx", "vy", "left paddle", "right paddle")
    assert not torch.equal(small.train.truth(), pong.load(clips=20, validation=2, test=3, steps=5, seed=5).train.truth())
    assert small.train.frame_shape == (1, 32, 32)
