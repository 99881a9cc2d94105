from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from stillmotion.recipes.bias_kalman import best_encoder, innovations, own_bound
from stillmotion.recipes.bias_world import Swept, draw, kalman_gap, log_likelihood, moments, peak, population, scales

GRID = torch.arange(1, 21, dtype=torch.float64) / 10
WORLD = scales(2, 0.5, 0.5)


def sequences(seed: int = 0) -> torch.Tensor:
    return draw(WORLD, 50, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("swept", ["f", "z", "x"])
def test_the_filter_finds_the_exact_likelihood_and_so_its_peak(swept: Swept) -> None:
    x, worlds = sequences(), WORLD.sweep(swept, GRID)
    exact = log_likelihood(moments(x), worlds)
    torch.testing.assert_close(innovations(x, worlds), exact, atol=1e-9, rtol=0)
    assert float(peak(GRID, innovations(x, worlds))) == float(peak(GRID, exact))


def test_the_model_s_own_bound_is_the_closed_form_and_tight_where_its_codes_carry_the_noise() -> None:
    x, worlds = sequences(1), WORLD.sweep("x", GRID[2:9])
    own, likelihood = own_bound(x, worlds, 0.01, passes=20, seed=0), innovations(x, worlds)
    # the closed form may have offsets and cross coordinates; the model's encoder is one slope
    torch.testing.assert_close(own, likelihood - kalman_gap(0.01, moments(x), worlds), atol=0.02, rtol=0)
    assert float(peak(GRID[2:9], own)) == pytest.approx(float(peak(GRID[2:9], likelihood)), abs=0.01)


def test_noise_that_only_frames_have_loosens_the_model_s_own_bound() -> None:
    x, worlds = sequences(2), WORLD.sweep("x", GRID[4:5])
    gaps = [float(innovations(x, worlds) - own_bound(x, worlds, share, passes=20, seed=0)) for share in (0.01, 0.1, 0.5)]
    assert gaps == sorted(gaps)
    for share, found in zip((0.01, 0.1, 0.5), gaps, strict=True):
        assert found == pytest.approx(float(kalman_gap(share, moments(x), worlds)), abs=0.05)


def test_the_encoder_is_the_best_of_its_kind() -> None:
    S = population(WORLD)[1:4, 1:4].numpy()
    codes = S - 0.3 * 0.25 * np.eye(3)

    def minus_bound(p: np.ndarray) -> float:
        """E log p(a) + E log p(x | a) + entropy of q(a | x) = N(p_0 x_t, exp p_1), up to constants."""
        second = p[0] ** 2 * S + np.exp(p[1]) * np.eye(3)
        apart = (1 - p[0]) ** 2 * S + np.exp(p[1]) * np.eye(3)
        return float(0.5 * np.trace(np.linalg.solve(codes, second)) + 0.5 * np.trace(apart) / (0.3 * 0.25) - 1.5 * p[1])

    best = minimize(minus_bound, np.array([0.5, -2.0]), method="BFGS").x
    slope, variance = best_encoder(WORLD, 0.3, torch.from_numpy(S))
    np.testing.assert_allclose([slope, variance], [best[0], np.exp(best[1])], rtol=1e-4)
