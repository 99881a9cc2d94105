"""The page of the bias study: its numbers are those of the study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stillmotion.metrics.exhibits import Curves, Table
from stillmotion.recipes import bias_page
from stillmotion.recipes.bias import QUICK, conduct
from stillmotion.recipes.reproduce import Plan

TINY = replace(QUICK, data_sets=2, steps=3, passes=2, kalman_passes=1)


def test_the_page_tells_what_the_study_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(conduct(TINY, 0, (("x", 0.5), ("z", 0.5))))
    found = replace(found, patient=next(row for row in found.rows if (row.swept, row.posterior) == ("z", "dsa")))
    monkeypatch.setattr(bias_page, "study", lambda quick: found)
    made = bias_page.reproduce(tmp_path, Plan(quick=True))
    tables = {each.name: each for each in made.page.exhibits if isinstance(each, Table)}
    curves = {each.name: each for each in made.page.exhibits if isinstance(each, Curves)}
    assert list(tables) == ["biases", "collapse", "kalman"]
    assert list(curves) == ["population_x05", "sample_x05", "population_z05", "sample_z05"]
    told = {(row[0], row[2]): row[3] for row in tables["biases"].rows}
    assert told["sigma_z", "DSA"] == "none: it collapses"
    assert float(str(told["sigma_x", "DSA"])) == pytest.approx(0.715, abs=0.02)
    assert made.figures["bias_peak_x05_dsa_population"].value == pytest.approx(0.715, abs=0.02)
    assert made.figures["bias_peak_z05_dsa_population"].value == 0
    assert made.figures["bias_peak_x05_exact_population"].value == pytest.approx(0.5, abs=0.01)
    assert "bias_peak_x05_full_descent" not in made.figures
    lines = {line.label: line for line in curves["population_x05"].lines}
    whole = found.cells[0].curves
    assert lines["log-likelihood"].y == tuple(whole["exact"].population.tolist())
    assert [mark.x for mark in curves["sample_x05"].marks][2] == 0.5
