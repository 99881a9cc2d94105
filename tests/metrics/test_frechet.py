from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.frechet import frechet, frechet_distance, frechet_figures, frechet_floor, frechet_infinity


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(clips: int, features: int, g: torch.Generator, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(clips, features, generator=g, dtype=torch.double) + shift


def exactly(clips: int, mean: Tensor, spread: Tensor, g: torch.Generator) -> Tensor:
    """Features whose sample mean and (diagonal) sample covariance are as given."""
    x = normal(clips, len(mean), g)
    q, _ = torch.linalg.qr(x - x.mean(0))
    return q * math.sqrt(clips - 1) * spread + mean


def in_many_digits(a: Tensor, b: Tensor) -> float:
    """The definition, with the eigenvalues of S1 S2 in 60 digits."""
    with mpmath.workdps(60):
        means, spreads = [], []
        for x in (a, b):
            rows = [[mpmath.mpf(value) for value in row] for row in x.tolist()]
            mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
            centred = mpmath.matrix([[value - m for value, m in zip(row, mean, strict=True)] for row in rows])
            means.append(mpmath.matrix(mean))
            spreads.append(centred.T * centred / (len(rows) - 1))
        values = mpmath.eig(spreads[0] * spreads[1], left=False, right=False)
        shared = sum(mpmath.sqrt(abs(value)) for value in values)
        between = sum(value**2 for value in means[0] - means[1])
        return float(between + sum(s[i, i] for s in spreads for i in range(s.rows)) - 2 * shared)


def repeated(trial: Callable[[torch.Generator], float], times: int, seed: int) -> list[float]:
    g = seeded(seed)
    return [trial(g) for _ in range(times)]


def test_diagonal_gaussians_have_their_closed_form() -> None:
    g = seeded()
    m1, m2, s1, s2 = (torch.rand(6, generator=g, dtype=torch.double) + 0.1 for _ in range(4))
    a, b = exactly(40, m1, s1, g), exactly(25, m2, s2, g)
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(60, 80), (300, 31)])
def test_it_is_what_the_matrix_square_root_gives_where_that_is_sound(n: int, m: int) -> None:
    g = seeded()
    mix = normal(12, 12, g)
    a, b = normal(n, 12, g) @ mix, normal(m, 12, g, 1.3, 0.4)
    s1, s2 = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    expected = (a.mean(0) - b.mean(0)).square().sum().item() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n", "m", "features"), [(4, 5, 9), (3, 12, 7), (12, 4, 7), (6, 6, 5), (7, 6, 6), (9, 8, 3)])
def test_few_clips_and_many_give_what_60_digits_give(n: int, m: int, features: int) -> None:
    g = seeded(n)
    a, b = normal(n, features, g), normal(m, features, g, 0.7, 0.2)
    assert frechet_distance(a, b) == pytest.approx(in_many_digits(a, b), rel=1e-12)


def test_two_clips_a_side_have_a_closed_form() -> None:
    g = seeded()
    a, b = normal(2, 100, g), normal(2, 100, g)
    d, e = a[0] - a[1], b[0] - b[1]
    expected = (a.mean(0) - b.mean(0)).square().sum() + (d @ d + e @ e) / 2 - (d @ e).abs()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("clips", "features"), [(5, 50), (50, 5), (20, 20)])
def test_the_same_clips_are_at_zero_and_never_below(clips: int, features: int) -> None:
    a = normal(clips, features, seeded()) * 100
    a[:, 0] = 3.0
    assert 0 <= frechet_distance(a, a) < 1e-9
    assert 0 <= frechet_distance(a, a.flip(0)) < 1e-9


def test_it_is_symmetric_and_knows_shifts_and_turns() -> None:
    g = seeded()
    a, b = normal(30, 8, g), normal(12, 8, g, 2.0)
    turn, _ = torch.linalg.qr(normal(8, 8, g))
    shift = torch.arange(8.0, dtype=torch.double)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a @ turn + shift, b @ turn + shift) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a, a + shift) == pytest.approx(float(shift.square().sum()))


def test_single_precision_features_are_measured_in_double() -> None:
    a = normal(50, 4, seeded()).float() + 1000
    assert frechet_distance(a, a + 0.25) == pytest.approx(4 * 0.25**2, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "features", "scale"), [(300, 300, 6, 1.5), (60, 60, 100, 1.3), (80, 200, 20, 1.2)])
def test_the_interval_is_as_wide_as_other_draws_scatter(n: int, m: int, features: int, scale: float) -> None:
    g = seeded(1)
    found = [frechet(normal(n, features, g), normal(m, features, g, scale, 0.2)) for _ in range(100)]
    values = torch.tensor([figure.value for figure in found])
    width = torch.tensor([figure.high - figure.low for figure in found]).mean() / 2 / 1.98
    assert 0.85 < float(width / values.std()) < 1.35
    held = sum(figure.low <= values.mean() <= figure.high for figure in found)
    assert held >= 89
    assert found[0].clips == min(n, m)


def test_the_interval_around_the_extrapolation_holds_the_known_distance() -> None:
    features, scale, shift = 10, 1.3, 0.2
    known = features * ((scale - 1) ** 2 + shift**2)
    g = seeded(2)
    found = []
    for _ in range(60):
        made, real = normal(150, features, g), normal(150, features, g, scale, shift)
        found.append((frechet(made, real), frechet_infinity(made, real, g)))
    assert sum(there.low <= known <= there.high for _, there in found) >= 52
    excess, rest = (sum(pair[k].value for pair in found) / len(found) - known for k in (0, 1))
    assert excess > 0.2
    assert abs(rest) < 0.2 * excess


def test_the_extrapolation_of_a_perfect_model_scatters_around_zero() -> None:
    values = repeated(lambda g: frechet_infinity(normal(150, 8, g), normal(100, 8, g), g).value, 40, 3)
    assert min(values) < 0 < max(values)
    assert abs(sum(values) / len(values)) < 0.05 * 8 * (1 / 150 + 1 / 100) * 8


def test_pairs_that_move_together_have_a_narrower_interval_and_strangers_the_same() -> None:
    g = seeded(4)

    def trial(paired: bool) -> tuple[float, float]:
        real = normal(200, 6, g)
        made = 0.8 * real + 0.1 if paired else 0.8 * normal(200, 6, g) + 0.1
        figure = frechet(made, real, paired=True)
        return figure.value, (figure.high - figure.low) / 2 / 1.97

    for paired in (True, False):
        values, widths = torch.tensor([trial(paired) for _ in range(80)]).T
        assert 0.75 < float(widths.mean() / values.std()) < 1.4
    real = normal(200, 6, g)
    apart, together = (frechet(0.8 * real + 0.1, real, paired=paired) for paired in (False, True))
    assert together.high - together.low < 0.6 * (apart.high - apart.low)


def test_copies_of_a_clip_in_one_cluster_count_once() -> None:
    g = seeded(5)
    made, real = normal(100, 5, g, 1.2), normal(100, 5, g)
    clusters = torch.arange(100).repeat(4)
    once = frechet(made, real, torch.arange(100), paired=True)
    copied = frechet(made.repeat(4, 1), real.repeat(4, 1), clusters, paired=True)
    believed = frechet(made.repeat(4, 1), real.repeat(4, 1), paired=True)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.05)
    assert believed.high - believed.low == pytest.approx((once.high - once.low) / 2, rel=0.05)


@pytest.mark.parametrize(("clips", "features"), [(120, 6), (40, 80)])
def test_the_floor_is_what_a_perfect_model_gets_at_that_number(clips: int, features: int) -> None:
    half = clips // 2
    perfect = repeated(lambda g: frechet_distance(normal(half, features, g), normal(half, features, g)), 60, 6)
    floors = repeated(lambda g: frechet_floor(normal(clips, features, g), clips, g).value, 10, 7)
    assert sum(floors) / 10 == pytest.approx(sum(perfect) / 60, rel=0.1)
    floor = frechet_floor(normal(clips, features, seeded()), clips, seeded())
    assert floor.low < floor.value < floor.high
    assert floor.clips == half


def test_a_model_of_few_clips_gets_the_floor_of_as_few() -> None:
    real = normal(400, 6, seeded())
    few, many = frechet_floor(real, 20, seeded()), frechet_floor(real, 1000, seeded())
    assert (few.clips, many.clips) == (20, 200)
    expected = repeated(lambda g: frechet_distance(normal(20, 6, g), normal(380, 6, g)), 60, 8)
    assert few.value == pytest.approx(sum(expected) / 60, rel=0.25)
    assert few.value > 2 * many.value


def test_the_floor_never_parts_a_cluster() -> None:
    real = normal(50, 4, seeded()).repeat(2, 1)
    clusters = torch.arange(50).repeat(2)
    whole, parted = frechet_floor(real, 100, seeded(), clusters), frechet_floor(real, 100, seeded())
    assert whole.value > 1.3 * parted.value


def test_figures_have_their_names_and_the_extrapolation_only_where_it_is_sound() -> None:
    g = seeded()
    plenty = frechet_figures("frechet_judge_generation", normal(60, 8, g), normal(90, 8, g), g)
    name = "frechet_judge_generation"
    assert list(plenty) == [name, f"{name}_infinity"]
    assert [figure.clips for figure in plenty.values()] == [60, 60]
    assert all(figure.low <= figure.value <= figure.high for figure in plenty.values())
    assert list(frechet_figures(name, normal(16, 8, g), normal(90, 8, g), g)) == [name]


def test_the_same_seed_gives_the_same_figures() -> None:
    made, real = normal(40, 5, seeded(1)), normal(40, 5, seeded(2))
    assert frechet_figures("x", made, real, seeded(3), paired=True) == frechet_figures("x", made, real, seeded(3), paired=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: frechet_distance(x, x[:, :3]), r"features \(N, F\) and \(M, F\), got shapes \(9, 4\) and \(9, 3\)"),
        (lambda x: frechet_distance(x[0], x), r"got shapes \(4,\)"),
        (lambda x: frechet_distance(x[:1], x), r"two clips on either side, got 1 and 9"),
        (lambda x: frechet_distance(x[:0], x), r"two clips on either side, got 0 and 9"),
        (lambda x: frechet_distance(x / 0, x), "finite features"),
        (lambda x: frechet(x, x[:5], paired=True), "in pairs, got 9 and 5"),
        (lambda x: frechet(x, x, torch.zeros(3, dtype=torch.long)), r"one cluster for each of 9 real clips, got shape \(3,\)"),
        (lambda x: frechet(x, x, torch.zeros(9, dtype=torch.long)), "two clusters of clips, got one"),
        (lambda x: frechet_floor(x, 9, seeded(), torch.zeros(9, dtype=torch.long)), "to split them, got 9 clips of 1"),
        (lambda x: frechet_floor(x[:3], 9, seeded()), "to split them, got 3 clips of 3"),
        (lambda x: frechet_infinity(x, x, seeded()), "more than 8 clips to extrapolate 4 features, got 8"),
    ],
)
def test_what_cannot_be_measured_says_so(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(normal(9, 4, seeded()))
