from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.recipes.bias_world import (
    POSTERIORS,
    Swept,
    draw,
    elbo,
    gain,
    gap,
    kalman_gap,
    log_likelihood,
    moments,
    peak,
    population,
    precision,
    scales,
)

SETTINGS = [(2.0, 0.5, 0.5), (0.7, 1.3, 0.2), (1.0, 0.1, 1.7)]
GRID = torch.arange(1, 401, dtype=torch.float64) / 200


def joint(f: float, z: float, x: float) -> np.ndarray:
    """Covariance of (f, z_1, z_2, z_3, x_1, x_2, x_3) in one coordinate, from how each is made of seven independent noises."""
    made = np.zeros((7, 7))
    made[0, 0] = f
    for t in range(3):
        made[1 + t, 1 : 2 + t] = z
        made[4 + t] = made[0] + made[1 + t]
        made[4 + t, 4 + t] += x
    return made @ made.T


def gaussian_bound(world: tuple[float, float, float], m: np.ndarray, V: np.ndarray, S: np.ndarray) -> float:
    """E log p(h, x) + entropy of q(h | x) = N(m x, V) in one coordinate, where x has second moments S: straight from the definition."""
    C = joint(*world)
    J = np.linalg.inv(C)
    both = np.concatenate([m, np.eye(3)])
    second = both @ S @ both.T
    second[:4, :4] += V
    expected = -0.5 * (np.trace(J @ second) + 7 * math.log(2 * math.pi) + np.linalg.slogdet(C)[1])
    return float(expected + 0.5 * (4 * (1 + math.log(2 * math.pi)) + np.linalg.slogdet(V)[1]))


def best(bound, start: np.ndarray) -> tuple[float, np.ndarray]:  # type: ignore[no-untyped-def]
    found = minimize(lambda p: -bound(p), start, method="BFGS", options={"gtol": 1e-7, "maxiter": 2000})
    return -float(found.fun), found.x


def dsa(world: tuple[float, float, float], S: np.ndarray):  # type: ignore[no-untyped-def]
    """Three weights of f, one of z_t, two logarithms of variances."""

    def bound(p: np.ndarray) -> float:
        m = np.concatenate([p[None, :3], p[3] * np.eye(3)])
        return gaussian_bound(world, m, np.diag(np.exp([p[4], p[5], p[5], p[5]])), S)

    return bound


@pytest.mark.parametrize("world", SETTINGS)
def test_the_posterior_is_that_of_the_joint_gaussian(world: tuple[float, float, float]) -> None:
    C = joint(*world)
    K = C[:4, 4:] @ np.linalg.inv(C[4:, 4:])
    V = C[:4, :4] - K @ C[4:, :4]
    np.testing.assert_allclose(gain(scales(*world)).numpy(), K, atol=1e-10)
    np.testing.assert_allclose(torch.linalg.inv(precision(scales(*world))).numpy(), V, atol=1e-10)


def test_the_likelihood_is_that_of_the_sequences_under_every_scale() -> None:
    x = draw(scales(2, 0.5, 0.5), 30, torch.Generator().manual_seed(0))
    for name in ("f", "z", "x"):
        grid = torch.tensor([0.1, 0.6, 1.9], dtype=torch.float64)
        got = log_likelihood(moments(x), scales(2, 0.5, 0.5).sweep(name, grid))
        for value, one in zip(grid.tolist(), got.tolist(), strict=True):
            C = joint(**{"f": 2.0, "z": 0.5, "x": 0.5, name: value})[4:, 4:]
            expected = multivariate_normal(np.zeros(3), C).logpdf(x.numpy().transpose(0, 2, 1)).sum(1).mean()
            assert one == pytest.approx(expected, rel=1e-10)


def test_sequences_are_drawn_from_the_world() -> None:
    x = draw(scales(1.5, 0.7, 0.4), 40_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(moments(x), population(scales(1.5, 0.7, 0.4)), atol=0.1, rtol=0)
    expected = torch.from_numpy(joint(1.5, 0.7, 0.4)[4:, 4:])
    torch.testing.assert_close(population(scales(1.5, 0.7, 0.4))[1:4, 1:4], expected)


@pytest.mark.parametrize("world", SETTINGS)
def test_the_best_dsa_posterior_is_what_an_optimiser_finds(world: tuple[float, float, float]) -> None:
    S = joint(2, 0.5, 0.5)[4:, 4:]
    value, _ = best(dsa(world, S), np.array([0.1, 0.1, 0.1, 0.1, -1.0, -1.0]))
    at = scales(*world).sweep("x", torch.tensor([world[2]]))
    assert float(elbo("dsa", population(scales(2, 0.5, 0.5)), at)) == pytest.approx(2 * value, abs=1e-6)


def test_the_optimiser_finds_the_known_encoder() -> None:
    _, p = best(dsa((2, 0.5, 0.5), joint(2, 0.5, 0.5)[4:, 4:]), np.array([0.1, 0.1, 0.1, 0.1, -1.0, -1.0]))
    np.testing.assert_allclose(p[:4], [0.276, 0.276, 0.276, 0.156], atol=6e-4)
    np.testing.assert_allclose(np.exp(p[4:]), [0.0816, 0.0938], atol=1e-4)


@pytest.mark.parametrize("world", SETTINGS)
def test_the_best_factorised_and_full_posteriors_are_what_an_optimiser_finds(world: tuple[float, float, float]) -> None:
    C = joint(*world)
    S, K = C[4:, 4:], C[:4, 4:] @ np.linalg.inv(C[4:, 4:])

    def factorised(p: np.ndarray) -> float:
        return gaussian_bound(world, K, np.diag(np.exp(p)), S)

    def full(p: np.ndarray) -> float:
        # z_t = c_t f + its own noise
        root = np.diag(np.exp(0.5 * p[:4]))
        root[1:, 0] = p[4:] * root[0, 0]
        return gaussian_bound(world, K, root @ root.T, S)

    seen, at = population(scales(*world)), scales(*world).sweep("x", torch.tensor([world[2]]))
    assert float(elbo("factorised", seen, at)) == pytest.approx(2 * best(factorised, -np.ones(4))[0], abs=1e-6)
    assert float(elbo("full", seen, at)) == pytest.approx(2 * best(full, np.array([-1.0] * 4 + [-0.5] * 3))[0], abs=1e-6)


def test_on_a_sample_the_best_dsa_posterior_has_offsets_and_crosses_coordinates() -> None:
    """Against gradient steps on every weight there is, over single sequences."""
    truth, x = scales(2, 0.5, 0.5), draw(scales(2, 0.5, 0.5), 12, torch.Generator().manual_seed(3))
    W_f, b_f = torch.zeros(6, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    W_z, b_z = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    logs = torch.full((2,), -2.0, dtype=torch.float64)
    weights = [value.requires_grad_() for value in (W_f, b_f, W_z, b_z, logs)]

    def bound() -> Tensor:
        f, z = x.flatten(1) @ W_f + b_f, x @ W_z + b_z
        v_f, v_z = logs.exp()
        steps = torch.cat([z[:, :1], z[:, 1:] - z[:, :-1]], 1)
        squares = 0.25 * (f.square().sum(1) + 2 * v_f) + 4 * (steps.square().sum((1, 2)) + 2 * 5 * v_z)
        squares = squares + 4 * ((x - z - f[:, None]).square().sum((1, 2)) + 6 * (v_f + v_z))
        scale = 2 * math.log(2) + 12 * math.log(0.5)
        return (-0.5 * squares - scale - 7 * math.log(2 * math.pi) + logs[0] + 3 * logs[1] + 4 * (1 + math.log(2 * math.pi))).mean()

    optimiser = torch.optim.LBFGS(weights, max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -bound()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)
    at = truth.sweep("x", torch.tensor([0.5]))
    assert float(elbo("dsa", moments(x), at)) == pytest.approx(bound().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("swept", "true", "factorised", "dsa_peak"),
    [("x", 0.3, 0.47, 0.605), ("x", 0.5, 0.605, 0.715), ("x", 1.0, 1.045, 1.095), ("z", 0.5, 0.28, 0.0), ("z", 1.0, 0.76, 1.04)],
)
def test_peaks_are_where_they_are_known_to_be(swept: Swept, true: float, factorised: float, dsa_peak: float) -> None:
    world = scales(**{"f": 2.0, "z": 0.5, "x": 0.5, swept: true})
    at, seen = world.sweep(swept, GRID), population(world)
    found = {name: float(peak(GRID, elbo(name, seen, at))) for name in POSTERIORS}
    assert found["factorised"] == pytest.approx(factorised, abs=0.02)
    assert found["dsa"] == pytest.approx(dsa_peak, abs=0.02)
    assert found["exact"] == pytest.approx(true, abs=1e-3)
    assert float(peak(GRID, log_likelihood(seen, at))) == found["exact"]


def test_bounds_have_their_known_values() -> None:
    world = scales(2, 0.5, 0.5)
    at, seen = world.sweep("x", torch.tensor([0.1, 0.3, 0.5, 0.7, 1.0, 2.0])), population(world)
    np.testing.assert_allclose(log_likelihood(seen, at), [-10.89, -9.66, -9.30, -9.50, -10.11, -12.19], atol=0.006)
    np.testing.assert_allclose(elbo("dsa", seen, at), [-27.33, -14.91, -11.93, -11.43, -11.76, -13.70], atol=0.006)
    flat = scales(2, 1, 0.5)
    at = flat.sweep("z", torch.tensor([0.1, 0.5, 1.0, 2.0]))
    np.testing.assert_allclose(elbo("dsa", population(flat), at), [-15.47, -15.08, -14.69, -15.53], atol=0.006)


def test_without_a_peak_the_bound_falls_all_the_way() -> None:
    world = scales(2, 0.5, 0.5)
    values = elbo("dsa", population(world), world.sweep("z", GRID))
    assert bool((values.diff() < 0).all())


@settings(max_examples=40, deadline=None)
@given(st.floats(0.2, 4), st.floats(0.1, 2), st.floats(0.1, 2), st.integers(0, 1000))
def test_the_richer_the_family_the_smaller_the_gap(f: float, z: float, x: float, seed: int) -> None:
    seen = moments(draw(scales(1, 1, 1), 8, torch.Generator().manual_seed(seed)))
    at = scales(f, z, x).sweep("x", torch.tensor([x]))
    gaps = {name: float(gap(name, seen, at)) for name in POSTERIORS}
    assert gaps["exact"] == 0
    assert 0 <= gaps["full"] <= gaps["factorised"] + 1e-9
    assert gaps["factorised"] <= gaps["dsa"] + 1e-9


def test_a_kalman_vae_is_tight_where_its_codes_carry_the_noise() -> None:
    world = scales(2, 0.5, 0.5)
    at, seen = world.sweep("x", GRID), population(world)
    likelihood = log_likelihood(seen, at)
    gaps = [float(kalman_gap(share, seen, at)[99]) for share in (1e-4, 0.01, 0.1, 0.5)]
    assert 0 < gaps[0] < 2e-4
    assert gaps == sorted(gaps)
    assert float(peak(GRID, likelihood - kalman_gap(0.01, seen, at))) == pytest.approx(0.5, abs=0.005)
    assert float(peak(GRID, likelihood - kalman_gap(0.5, seen, at))) > 0.55


def test_moments_and_scales_broadcast() -> None:
    world, data = scales(2, 0.5, 0.5), torch.stack([draw(scales(2, 0.5, 0.5), 20, torch.Generator().manual_seed(k)) for k in range(3)])
    at = world.sweep("z", GRID[:7])
    for name in POSTERIORS:
        many = elbo(name, moments(data), at)
        assert many.shape == (3, 7)
        torch.testing.assert_close(many[1], elbo(name, moments(data[1]), at))


def test_peaks_lie_between_the_values_of_a_grid() -> None:
    grid = torch.arange(1, 21, dtype=torch.float64) / 10
    curves = torch.stack([-(grid.log() - math.log(top)).square() for top in (0.37, 1.44)] + [-grid])
    np.testing.assert_allclose(peak(grid, curves), [0.37, 1.44, 0.1], rtol=1e-3)
    assert float(peak(grid, curves[0])) == pytest.approx(0.37, rel=1e-3)


def test_what_is_no_world_is_refused() -> None:
    with pytest.raises(UserError, match="a positive scale of z"):
        scales(1, 0, 1)
    with pytest.raises(UserError, match="between 0 and 1"):
        kalman_gap(1.0, population(scales(1, 1, 1)), scales(1, 1, 1).sweep("x", GRID))
    with pytest.raises(UserError, match="factorised"):
        gap("mean field", population(scales(1, 1, 1)), scales(1, 1, 1))  # type: ignore[arg-type]


