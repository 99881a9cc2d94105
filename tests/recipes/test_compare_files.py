from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from stillmotion.core.errors import UserError
from stillmotion.recipes.compare import Cell, Column, Table
from stillmotion.recipes.compare_files import cell_text, clips_text, header, lines, write_tables

COLUMNS = (Column("a|b", "run", "seed 0"), Column("c", "seeds", "mean ± sd of 2 seeds"), Column("S3VAE", "published", "a paper, table 2"))
CELLS = (Cell(0.95, 0.94, 0.96, 2664, best=True), Cell(0.5, spread=0.012), Cell(0.9949))
TABLE = Table("two_factor", "Two factors", "sprites (standard), test clips", "judge 01234567", COLUMNS, {
    "two_factor_accuracy_hair": CELLS, "two_factor_entropy": (None, Cell(2.1, 2.0, 2.2, 10), None),
}, ("S3VAE: a paper, table 2.",))  # fmt: skip


def test_a_cell_tells_value_and_interval_or_deviation_in_the_unit_of_its_figure() -> None:
    assert [cell_text("two_factor_accuracy_hair", cell) for cell in CELLS] == ["95.0 (94.0 – 96.0)*", "50.0 ± 1.2", "99.49"]
    assert cell_text("two_factor_entropy", Cell(2.1, 2.0, 2.2)) == "2.100 (2.000 – 2.200)"
    assert cell_text("two_factor_entropy", None) == ""


def test_clips_are_told_once_where_they_are_as_many_everywhere() -> None:
    assert clips_text([Cell(1, clips=2664), None, Cell(2, clips=2664), Cell(3)]) == "2,664"
    assert clips_text([Cell(1, clips=2664), Cell(2, clips=300)]) == "2,664 / 300"


def test_rows_are_as_long_as_the_header() -> None:
    assert header(TABLE) == ["figure", "unit", "a|b (seed 0)", "c (mean ± sd of 2 seeds)", "S3VAE†", "clips"]
    assert header(TABLE, "\n")[2] == "a|b\n(seed 0)"
    assert lines(TABLE)[1] == ["two_factor_entropy", "nats", "", "2.100 (2.000 – 2.200)", "", "10"]


def test_markdown_has_a_heading_a_table_and_what_is_to_be_said_below(tmp_path: Path) -> None:
    text = write_tables([TABLE, TABLE], tmp_path / "t.md").read_text(encoding="utf-8")
    assert text.count("## Two factors\n\nsprites (standard), test clips\n\njudge 01234567\n\n| figure | unit | a\\|b (seed 0) |") == 2
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}
    assert "| 95.0 (94.0 – 96.0)\\* |" in rows[2]
    assert "\n\\* best: " in text
    assert "\n† S3VAE: a paper, table 2.\n" in text


def test_nothing_is_said_of_a_sign_that_is_not_there(tmp_path: Path) -> None:
    plain = Table("swap", "Swaps", "x", "", COLUMNS[:1], {"swap_both_accuracy": (Cell(0.5),)})
    text = write_tables([plain], tmp_path / "t.MD").read_text(encoding="utf-8")
    assert "best" not in text
    assert "†" not in text


def test_csv_has_one_line_per_value_as_plain_fractions(tmp_path: Path) -> None:
    with write_tables([TABLE], tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["figure"], row["column"], row["unit"]) for row in rows] == [
        ("two_factor_accuracy_hair", "a|b", "share"), ("two_factor_accuracy_hair", "c", "share"),
        ("two_factor_accuracy_hair", "S3VAE", "share"), ("two_factor_entropy", "c", "nats"),
    ]  # fmt: skip
    assert (rows[0]["value"], rows[0]["low"], rows[0]["clips"], rows[0]["best"]) == ("0.95", "0.94", "2664", "True")
    assert (rows[1]["spread"], rows[1]["low"]) == ("0.012", "")


def test_json_holds_the_tables_whole(tmp_path: Path) -> None:
    (table,) = json.loads(write_tables([TABLE], tmp_path / "t.json").read_text(encoding="utf-8"))
    assert table["protocol"] == "two_factor"
    assert table["columns"][2] == {"name": "S3VAE", "kind": "published", "detail": "a paper, table 2"}
    assert table["rows"]["two_factor_entropy"][0] is None
    assert table["rows"]["two_factor_accuracy_hair"][0]["value"] == 0.95


@pytest.mark.parametrize(("name", "words"), [("t.xlsx", r"ending in \.md, \.csv, \.json.*t\.xlsx"), ("no/t.md", "Make the folder")])
def test_another_ending_or_a_missing_folder_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        write_tables([TABLE], tmp_path / name)
