"""Schedules against published values and closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stillmotion.training.schedules import Schedule, constant, half_cosine

POSES = Schedule(kind="quadratic", points=((0, 30), (0.5, 0.2), (0.8, 0.4), (1, 1)), low=0.005, high=80)
SEQUENCE = Schedule(kind="quadratic", points=((0, 0.1), (0.5, 0.4), (0.8, 0.4), (1, 1)), low=0.005, high=80)


@pytest.mark.parametrize(
    ("progress", "value", "digits"),
    [
        (0, 30, 2), (0.1, 20.7, 0.05), (0.2, 13.0, 0.05), (0.3, 7.1, 0.05), (0.4, 2.8, 0.05), (0.5, 0.2, 1e-9), (0.55, 0.005, 1e-12),
        (0.7, 0.005, 1e-12), (0.8, 0.4, 1e-9), (0.9, 0.80, 0.01), (1, 1, 1e-9),
    ],
)
def test_the_released_lambda_z_of_stage_one(progress: float, value: float, digits: float) -> None:
    assert POSES(progress) == pytest.approx(value, abs=digits)


def test_the_released_lambda_z_lies_on_its_floor_from_52_to_73_percent() -> None:
    floor = [k for k in range(1001) if POSES(k / 1000) == 0.005]
    assert floor == list(range(floor[0], floor[-1] + 1))
    assert floor[0] == pytest.approx(520, abs=10)
    assert floor[-1] == pytest.approx(730, abs=10)


@pytest.mark.parametrize(
    ("progress", "value"), [(0, 0.1), (0.1, 0.23), (0.2, 0.32), (0.45, 0.41), (0.5, 0.4), (0.7, 0.32), (0.8, 0.4), (0.9, 0.64), (1, 1)]
)
def test_the_released_lambda_z_of_stage_two(progress: float, value: float) -> None:
    # the released code lays the curve over whole epochs, which moves it by up to a hundredth
    assert SEQUENCE(progress) == pytest.approx(value, abs=0.015)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 1))
def test_the_quadratic_spline_through_a_parabola_is_that_parabola(a: float, b: float, c: float, x: float) -> None:
    points = tuple((place, a * place**2 + b * place + c) for place in (0.0, 0.3, 0.6, 1.0))
    assert Schedule(kind="quadratic", points=points)(x) == pytest.approx(a * x**2 + b * x + c, abs=1e-9)


@given(st.floats(0, 1))
def test_a_half_cosine_follows_its_closed_form_and_then_stays(x: float) -> None:
    expected = 2 + 3 * (1 - math.cos(math.pi * min(x / 0.4, 1))) / 2
    assert half_cosine(2, 5, 0.4)(x) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("progress", "value"), [(0, 4), (0.2, 4), (0.3, 3), (0.4, 2), (0.7, 5), (1, 8)])
def test_linear_pieces_and_constant_ends(progress: float, value: float) -> None:
    assert Schedule(points=((0.2, 4), (0.4, 2), (1, 8)))(progress) == pytest.approx(value)


@pytest.mark.parametrize(("progress", "value"), [(0, 0), (0.125, 0.5), (0.25, 1), (0.4, 1), (0.5, 0), (0.625, 0.5), (0.75, 1), (1, 1)])
def test_a_cyclic_schedule_begins_anew_and_ends_at_its_last_point(progress: float, value: float) -> None:
    assert Schedule(kind="cyclic", points=((0, 0), (0.5, 1)), cycles=2)(progress) == pytest.approx(value)


@given(st.floats(0, 1))
def test_a_constant_is_the_same_throughout(x: float) -> None:
    assert constant(0.7)(x) == 0.7


@pytest.mark.parametrize("value", [-5.0, 0.3, 9.0])
def test_values_stay_between_the_bounds(value: float) -> None:
    assert Schedule(points=((0, value),), low=-1, high=1)(0.5) == max(-1, min(1, value))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"points": ()}, "rising progress"), ({"points": ((0.5, 1), (0.2, 2))}, "rising progress"),
        ({"points": ((0, 1), (0, 2))}, "rising progress"), ({"kind": "quadratic", "points": ((0, 1), (1, 2))}, "at least 3 points"),
        ({"kind": "cubic", "points": ((0, 1),)}, "kind"), ({"points": ((0, 1),), "slope": 2}, "slope"), ({"points": ((0, "x"),)}, "points"),
    ],
)
def test_a_bad_schedule_is_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Schedule.model_validate(settings)


def test_a_part_of_a_linear_curve_is_the_same_curve() -> None:
    whole = Schedule(points=((0.1, 2.0), (0.5, 4.0), (0.9, 1.0)))
    for start, end in ((0.0, 1.0), (0.0, 0.3), (0.3, 0.7), (0.95, 1.0)):
        part = whole.between(start, end)
        for share in (0.0, 0.2, 0.5, 0.77, 1.0):
            assert part(share) == pytest.approx(whole(start + share * (end - start)))


@pytest.mark.parametrize("curve", [Schedule(points=((0.1, 2.0), (0.9, 1.0))), half_cosine(1, 3, 0.5), POSES])
def test_a_curve_so_many_times_as_high_is_so_everywhere(curve: Schedule) -> None:
    higher = curve.times(4.0)
    assert [higher(k / 20) for k in range(21)] == pytest.approx([4 * curve(k / 20) for k in range(21)])


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_curve_cannot_be_turned_over(factor: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        half_cosine(0, 1).times(factor)


def test_a_bent_curve_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="half_cosine"):
        half_cosine(0, 1).between(0, 0.5)
