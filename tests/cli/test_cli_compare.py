from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from oracles.measured_runs import measured_results, older_results, write_run
from oracles.pages import Page
from stillmotion.cli.compare import compare
from stillmotion.core.errors import UserError

NAME = "two_factor_accuracy_action_direction"


def run(*arguments: object, width: int = 160) -> Result:
    app = Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": str(width)})


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    values = {"a": 0.9, "b": 0.5}
    return [write_run(tmp_path / name, measured_results({NAME: value}), steps=k) for k, (name, value) in enumerate(values.items(), 1)]


def test_runs_are_shown_side_by_side_with_what_was_published(runs: list[Path]) -> None:
    result = run(*runs)
    assert result.exit_code == 0
    shown = result.stdout.splitlines()
    assert shown[1:4] == [
        "Two factors, one kept and one drawn", "test clips of sprites (standard)",
        "judge 01234567, right on held-out real clips: hair 99.8 %",
    ]  # fmt: skip
    row = next(line.split() for line in shown if line.startswith(NAME))
    assert row == [NAME, "%", "90.0", "(89.0–91.0)*", "50.0", "(49.0–51.0)", "92.89", "90.73", "99.49", "2,664"]
    assert any(line.startswith("* best") for line in shown)
    assert any(line.startswith("† MoCoGAN, DSVAE, S3VAE: ") for line in shown)
    assert result.stderr == ""


def test_in_a_narrow_window_intervals_go_below_their_values(runs: list[Path]) -> None:
    shown = run(*runs, width=110).stdout.splitlines()
    at = next(k for k, line in enumerate(shown) if line.startswith(NAME))
    assert shown[at].split() == [NAME, "%", "90.0", "50.0", "92.89", "90.73", "99.49", "2,664"]
    assert shown[at + 1].split() == ["(89.0–91.0)*", "(49.0–51.0)"]


def test_where_columns_do_not_fit_they_go_below_one_another_and_keep_their_names(runs: list[Path]) -> None:
    shown = run(*runs, width=64).stdout.splitlines()
    assert max(map(len, shown)) <= 64
    rows = [line.split() for line in shown if line.startswith(NAME)]
    assert [row[:2] for row in rows] == [[NAME, "%"]] * len(rows)
    assert [value for row in rows for value in row[2:]] == ["90.0", "50.0", "92.89", "90.73", "99.49", "2,664"]
    assert len(rows) > 1


def test_in_the_narrowest_window_the_name_is_folded_and_no_value(runs: list[Path]) -> None:
    shown = run(*runs, width=40).stdout
    assert max(map(len, shown.splitlines())) <= 40
    for value in ("90.0", "(89.0–91.0)*", "50.0", "(49.0–51.0)", "92.89", "90.73", "99.49", "2,664"):
        assert value in shown


def test_the_tables_are_written_too(runs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "tables.json"
    result = run(*runs, "-o", path)
    assert result.stdout.splitlines()[-1] == str(path)
    assert [table["protocol"] for table in json.loads(path.read_text(encoding="utf-8"))] == ["two_factor"]


def test_a_page_of_the_tables_is_written(runs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "tables.HTML"
    assert run(*runs, "-o", path).exit_code == 0
    text = path.read_text(encoding="utf-8")
    words = [word.strip() for word in Page(text).words]
    for told in ("Two factors, one kept and one drawn", "test clips of sprites (standard)", "a\n(seed 0)", "S3VAE†", NAME, "99.49"):
        assert told in words
    assert '<td class="run best">90.0\n(89.0 – 91.0)*</td><td class="run">50.0\n(49.0 – 51.0)</td>' in text
    assert any(word.startswith("One code is kept") for word in words)
    assert any(word.startswith("† MoCoGAN, DSVAE, S3VAE: ") for word in words)


def test_a_bad_ending_is_refused_before_anything_is_shown(runs: list[Path], tmp_path: Path) -> None:
    result = run(*runs, "-o", tmp_path / "tables.pdf")
    assert isinstance(result.exception, UserError)
    assert ".md, .csv, .json, .html" in str(result.exception)
    assert result.stdout == ""


def test_a_run_that_was_never_evaluated_is_shown_with_the_command_for_more(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "old", older_results({"psnr_poses_test": 25.0}))
    result = run(folder)
    assert "25.00 (24.99–25.01)" in result.stdout
    assert f"`stillmotion evaluate {folder}` measures more" in result.stderr
