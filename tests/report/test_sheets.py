from __future__ import annotations

from typing import Any

import pytest

from stillmotion.metrics.exhibits import Curves, Line, Table
from stillmotion.report.sheets import figures_sheet, sheet_of, texts, values_of


@pytest.mark.parametrize(("column", "shown"), [
    ((0.605, 0.715, 1.095), ["0.605", "0.715", "1.095"]),
    ((810.08, 798.56, 784.7), ["810.08", "798.56", "784.70"]),
    ((0.0075, 0.0148), ["0.0075", "0.0148"]),
    ((0.0123456789,), ["0.012346"]),
    ((5000, 12.0, -3), ["5,000", "12", "−3"]),
    ((43.0, None, 24.8), ["43.0", "–", "24.8"]),
    ((1234567.891, 1.0), ["1,234,568", "1"]),
    ((100.0, 0.0001), ["100", "1.0e−04"]),
    ((0.0, -0.5), ["0.0", "−0.5"]),
    ((0, 0.0), ["0", "0"]),
    (("a", None, 1.5), ["a", "–", "1.5"]),
    ((), []),
])  # fmt: skip
def test_the_numbers_of_a_column_have_as_many_decimals_as_are_needed(column: tuple[Any, ...], shown: list[str]) -> None:
    assert texts(column) == shown


def test_columns_are_of_texts_or_of_numbers_or_published() -> None:
    table = Table("t", "", ("model", "ours", "published", "notes"), (("A", 1.0, 2.0, "x"), ("B", None, None, None)))
    sheet = sheet_of(table)
    assert sheet.kinds == ("text", "number", "published", "text")
    assert sheet.rows == (("A", "1", "2", "x"), ("B", "–", "–", "–"))


def test_a_table_without_rows_is_shown_empty() -> None:
    assert sheet_of(Table("t", "", ("a", "b"), ())).rows == ()


def test_the_values_of_curves_have_a_row_for_each_place() -> None:
    ours = Line("ours", (1.0, 3.0), (0.25, 0.5), (0.2, 0.4), (0.3, 0.65))
    sheet = values_of(Curves("c", "", "frames", "errors", (ours, Line("theirs", (2.0, 3.0), (0.1, 0.2), published=True))))
    assert sheet is not None
    assert (sheet.head, sheet.kinds) == (("frames", "ours", "theirs, published"), ("number", "number", "published"))
    assert sheet.rows == (("1", "0.25 (0.20 – 0.30)", "–"), ("2", "–", "0.1"), ("3", "0.50 (0.40 – 0.65)", "0.2"))


def test_curves_of_many_places_and_paths_in_the_plane_are_not_told_as_a_table() -> None:
    many = tuple(map(float, range(61)))
    assert values_of(Curves("c", "", "", "", (Line("a", many[:60], many[:60]),))) is not None
    assert values_of(Curves("c", "", "", "", (Line("a", many, many),))) is None
    assert values_of(Curves("c", "", "", "", (Line("a", (0.0, 1.0, 0.0), (0.0, 1.0, 2.0)),))) is None


def test_figures_are_shown_in_their_units_beside_the_published_ones() -> None:
    share = {"value": 0.01236, "low": 0.01, "high": 0.02, "clips": 1000, "paper": 0.0075, "protocol": "imputation"}
    plain = {"value": -0.71523, "low": None, "high": None, "clips": None, "paper": None, "protocol": "reproduction"}
    sheet = figures_sheet({"imputation_smooth_p50": share, "bias": plain})
    assert sheet is not None
    assert sheet.rows == (("imputation_smooth_p50", "1.24\u202f%", "1.00 – 2.00", "1,000", "0.75"), ("bias", "−0.7152", "", "", "–"))
    alone = figures_sheet({"bias": plain})
    assert alone is not None
    assert len(alone.head) == len(alone.kinds) == len(alone.rows[0]) == 4
    assert figures_sheet({}) is None
