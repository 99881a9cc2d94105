from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stillmotion.report import curves
from stillmotion.report.curves import Axis, number, panels, read_curves


@pytest.fixture
def rows(finished_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (finished_folder / "metrics.jsonl").read_text().splitlines()]


def test_curves_are_the_rows_of_metrics_jsonl(rows: list[dict[str, Any]]) -> None:
    found = {curve.name: curve for curve in read_curves(rows)}
    assert list(found) == ["total", "reconstruction", "static_kl", "dynamic_kl", "temperature"]
    for name, curve in found.items():
        for split, series in (("train", curve.train), ("validation", curve.validation)):
            truth = [(row["step"], row["terms"][name]) for row in rows if row["split"] == split and name in row["terms"]]
            assert list(zip(*series, strict=True)) == truth
    assert found["total"].weight.values == [0.01 / step for step in (10, 20, 30, 40, 50)]
    assert found["static_kl"].weight.values == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert found["dynamic_kl"].weight == ([40, 50], [0.5, 0.5])
    assert found["temperature"].weight == ([10, 20, 30], [2.0, 2.0, 2.0])


def numbers(path: str) -> list[list[tuple[float, float]]]:
    """The stretches of a path of straight lines."""
    stretches = [part for part in path.removesuffix("Z").split("M") if part]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", part)] for part in stretches]


def test_lines_are_drawn_where_the_values_are_and_broken_between_stages(rows: list[dict[str, Any]]) -> None:
    panel = next(panel for panel in panels(rows) if panel.name == "static kl")
    first, second = numbers(panel.train)
    width = curves.RIGHT - curves.LEFT
    assert [x for x, _ in first + second] == pytest.approx([curves.LEFT + width * share for share in (0.2, 0.4, 0.6, 0.8, 1)], abs=0.06)
    heights = [y for _, y in first + second]  # 2, 3, 4, 5, 6 in steps of one: evenly apart, upwards
    assert [a - b for a, b in pairwise(heights)] == pytest.approx([heights[0] - heights[1]] * 4, abs=0.11)
    assert heights[0] > heights[-1]
    assert [name for _, name in panel.stages] == ["poses", "sequence"]
    assert panel.stages[1][0] == pytest.approx(first[-1][0])


def test_the_strip_has_the_height_of_the_weight(rows: list[dict[str, Any]]) -> None:
    panel = next(panel for panel in panels(rows) if panel.name == "static kl")
    top = [y for part in numbers(panel.area) for _, y in part[1:-1]]
    full = curves.STRIP_BOTTOM - curves.STRIP_TOP
    assert [(curves.STRIP_BOTTOM - y) / full for y in top] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], abs=0.002)
    assert panel.weight_top == "1"


def test_no_rows_give_no_panels() -> None:
    assert panels([]) == []


def row(step: int, value: float) -> dict[str, Any]:
    return {"step": step, "stage": "one", "split": "train", "terms": {"total": value}}


def test_widely_spread_values_get_a_logarithmic_axis() -> None:
    panel = panels([row(k + 1, 10.0 ** (4 - k)) for k in range(4)])[0]
    heights = [y for _, y in numbers(panel.train)[0]]
    assert panel.logarithmic
    assert [b - a for a, b in pairwise(heights)] == pytest.approx([heights[1] - heights[0]] * 3, abs=0.11)


def test_a_few_values_far_above_the_rest_are_cut_off_but_never_the_rest() -> None:
    values = [5000.0, *(-float(k) for k in range(60))]
    panel = panels([row(k + 1, value) for k, value in enumerate(values)])[0]
    heights = [y for _, y in numbers(panel.train)[0]]
    assert panel.clipped
    assert heights[0] == curves.TOP
    assert heights[-1] - heights[1] > 0.8 * (curves.BOTTOM - curves.TOP)


def test_values_that_are_not_finite_are_passed_over() -> None:
    assert read_curves([row(1, 2.0), row(2, math.nan), row(3, 1.0)])[0].train == ([1, 3], [2.0, 1.0])


def test_one_value_can_be_drawn() -> None:
    assert numbers(panels([row(10, 0.0)])[0].train) == [[(curves.RIGHT, (curves.TOP + curves.BOTTOM) / 2)]]


def test_long_runs_are_thinned_and_keep_both_ends() -> None:
    panel = panels([row(k, 1.0 + k % 7) for k in range(1, 5001)])[0]
    places = numbers(panel.train)[0]
    assert len(places) <= curves.MOST_POINTS + 1
    assert places[-1][0] == curves.RIGHT


@pytest.mark.parametrize(("low", "high", "texts"), [
    (0, 1, ["0", "0.5", "1"]), (0, 120, ["0", "50", "100"]), (-30, 12, ["−20", "0"]), (0, 3500, ["0", "1k", "2k", "3k"]),
])  # fmt: skip
def test_ticks_are_round_numbers(low: float, high: float, texts: list[str]) -> None:
    ticks = Axis(low, high, 0, 100).ticks(3)
    assert [text for _, text in ticks] == texts
    assert all(0 <= place <= 100 for place, _ in ticks)


def test_ticks_of_a_logarithmic_axis_are_powers_of_ten_at_equal_distance() -> None:
    ticks = Axis(1, 1e4, 0, 100, logarithmic=True).ticks()
    assert ticks == [(0, "1"), (25, "10"), (50, "100"), (75, "1k"), (100, "10k")]


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (1, "1"), (0.0012, "0.0012"), (0.0001, "1e−4"), (-3.456, "−3.46"), (999, "999"), (12_000, "12k"), (3.4e6, "3.4M"),
])  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
