from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from stillmotion.recipes.bias import CELLS, QUICK, Interval, Study, conduct, data_sets, grid_of, study
from stillmotion.recipes.bias_world import POSTERIORS

TINY = replace(QUICK, data_sets=2, steps=3, passes=2, kalman_passes=1)


@pytest.fixture(scope="module")
def tiny() -> Study:
    return conduct(TINY, 0, (("x", 0.5), ("z", 0.5)))


def test_an_interval_is_student_s() -> None:
    values = torch.tensor([0.1, 0.4, 0.2, 0.35], dtype=torch.float64)
    expected = ttest_1samp(values.numpy(), 0).confidence_interval(0.95)
    found = Interval.of(values)
    np.testing.assert_allclose([found.mean - found.half, found.mean + found.half], expected)
    assert found.holds(found.mean + 0.99 * found.half)
    assert not found.holds(found.mean + 1.01 * found.half)
    assert found.holds(found.mean + 1.01 * found.half, one_run=True)
    # of the variance of one more run and of the mean
    assert found.one_run / found.half == pytest.approx(5**0.5)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    draws = torch.randn(400, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    held = sum(Interval.of(values).holds(0) for values in draws)
    assert 0.92 < held / 400 < 0.98


def test_there_is_a_row_for_each_posterior_of_each_cell(tiny: Study) -> None:
    assert [(row.swept, row.true, row.posterior) for row in tiny.rows] == [("x", 0.5, name) for name in POSTERIORS] + [
        ("z", 0.5, name) for name in POSTERIORS
    ]
    fitted = {row.posterior for row in tiny.rows if row.descent is not None}
    assert fitted == {"dsa"}


def test_rows_say_where_the_curves_are_highest(tiny: Study) -> None:
    x, z = tiny.cells
    rows = {(row.swept, row.posterior): row for row in tiny.rows}
    assert rows["x", "dsa"].population == pytest.approx(0.713, abs=0.002)
    assert rows["x", "dsa"].bias == pytest.approx(0.213, abs=0.002)
    assert rows["x", "exact"].population == pytest.approx(0.5, abs=1e-3)
    assert rows["z", "dsa"].population == 0.0
    for cell in (x, z):
        for name, curves in cell.curves.items():
            assert rows[cell.swept, name].sample.mean == pytest.approx(float(curves.sample_peaks.mean()))
            nearest = cell.grid[curves.sample.argmax(1)]
            assert bool(((nearest - curves.sample_peaks).abs() < 0.1).all())


def test_curves_have_a_place_for_each_value_and_data_set(tiny: Study) -> None:
    for cell in tiny.cells:
        dsa, exact = cell.curves["dsa"], cell.curves["exact"]
        assert dsa.population.shape == (20,)
        assert dsa.sample.shape == (2, 20)
        assert dsa.descent is not None
        assert dsa.descent.shape == (2, 20)
        assert exact.descent is None
        assert bool((dsa.sample < exact.sample).all())


def test_the_kalman_vae_peaks_where_the_likelihood_does(tiny: Study) -> None:
    for cell in tiny.cells:
        (kalman,) = cell.kalman
        torch.testing.assert_close(kalman.likelihood, cell.curves["exact"].sample[0], atol=1e-9, rtol=0)
        assert kalman.closed_peak == pytest.approx(kalman.likelihood_peak, abs=0.02)
        assert kalman.bound_peak == pytest.approx(kalman.closed_peak, abs=0.05)
        assert kalman.population_peak == pytest.approx(cell.true, abs=0.01)


def test_data_sets_follow_from_seed_and_cell_alone() -> None:
    assert torch.equal(data_sets(("x", 0.3), 3, 0)[:2], data_sets(("x", 0.3), 2, 0))
    assert not torch.equal(data_sets(("x", 0.3), 1, 0), data_sets(("x", 0.3), 1, 1))
    assert not torch.equal(data_sets(("x", 0.3), 1, 0), data_sets(("x", 0.5), 1, 0))


def test_a_study_is_the_same_again(tiny: Study) -> None:
    again = conduct(TINY, 0, (("x", 0.5), ("z", 0.5)))
    assert again.rows == tiny.rows


def test_grids_reach_beyond_the_truth() -> None:
    for swept, true in CELLS:
        assert float(grid_of(swept)[0]) < true < float(grid_of(swept)[-1])


@pytest.mark.slow
def test_the_whole_study_agrees_with_itself() -> None:
    found = study()
    for row in found.rows:
        if row.descent is None or (row.swept, row.true, row.posterior) == ("z", 0.5, "dsa"):
            continue
        assert row.descent.holds(row.population, one_run=True), row
        assert row.difference is not None
        assert row.difference.holds(0, one_run=True), row
    assert found.patient is not None
    assert found.patient.population == 0
    assert found.patient.descent is not None
    assert found.patient.descent.holds(0.1, one_run=True)
