"""The step is exact to fourth order."""

from __future__ import annotations

import math

import pytest
import torch

from stillmotion.data.integrate import runge_kutta


def after(steps: int) -> float:
    """exp(1), by so many steps of y' = y."""
    state = torch.ones(1, dtype=torch.float64)
    for _ in range(steps):
        state = runge_kutta(lambda at: at, state, 1 / steps)
    return float(state)


def test_one_step_is_the_series_up_to_the_fourth_power():
    assert after(1) == pytest.approx(1 + 1 + 1 / 2 + 1 / 6 + 1 / 24, abs=1e-15)


def test_half_the_step_leaves_a_sixteenth_of_the_error():
    coarse, fine = (math.e - after(steps) for steps in (40, 80))
    assert coarse / fine == pytest.approx(16, rel=0.05)


def test_a_turn_of_the_circle_comes_back():
    start = state = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    for _ in range(200):
        state = runge_kutta(lambda at: torch.stack([at[:, 1], -at[:, 0]], 1), state, 2 * math.pi / 200)
    assert (state - start).abs().max() < 1e-6
