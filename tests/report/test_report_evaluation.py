"""The page of a run that was evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oracles.pages import Page
from stillmotion.core.registry import JUDGES
from stillmotion.metrics.protocols import protocol_of
from stillmotion.models import files
from stillmotion.report.page import write_report

DATA = {"name": "pendula", "options": {"clips": 28, "validation": 14, "test": 14, "size": 16, "steps": 6}}


def evaluate(run: Path, judge: Path, **changes: Any) -> None:
    """Writes what an evaluation by an untaught judge would have written."""
    from stillmotion.data.pendula import CLASSES

    options = {"classes": CLASSES, "size": 16, "channels": (4, 4, 4, 4), "code": 4, "rnn": 3, "hidden": 3}
    files.save(files.build("judge", options, 0, JUDGES), judge)
    sha256 = json.loads((judge / "config.json").read_text())["sha256"]
    results = json.loads((run / "results.json").read_text())
    half = {"value": 0.5, "low": 0.4, "high": 0.6, "clips": 14}
    results["figures"] |= {"swap_both_accuracy": {**half}, "two_factor_entropy": {**half}}
    for name, figure in results["figures"].items():
        figure["protocol"] = protocol_of(name)
    heads = {factor: {"value": 0.9, "low": 0.8, "high": 0.95, "clips": 14} for factor in CLASSES}
    results["judge"] = {
        "folder": str(judge), "sha256": sha256, "accuracy": heads, "calibration": {"colour": {"ece": 0.1, "nll": 0.2}}, "data": DATA,
    }  # fmt: skip
    results["evaluation"] = {
        "command": "stillmotion evaluate tiny", "commit": None, "minutes": 0.1, "seed": 0, "split": "test", "clips": 14, "data": DATA,
        "moving": ["speed"], "skipped": {"frechet_kinetics": "<it> needs weights"}, **changes,
    }  # fmt: skip
    (run / "results.json").write_text(json.dumps(results))


@pytest.fixture
def evaluated(run_folder: Path, tmp_path: Path) -> Path:
    evaluate(run_folder, tmp_path / "judge")
    return run_folder


def read(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_an_evaluated_run_has_its_tables_in_place_of_the_list_of_figures(evaluated: Path) -> None:
    page = read(evaluated)
    assert "evaluation" in page.ids
    assert "figures" not in page.ids
    assert {link for link in page.links if link.startswith("#")} == {f"#{name}" for name in page.ids}
    for words in ("Swaps", "by the judge", "Two factors, one kept and one drawn", "Leakage", "Reconstruction", "stillmotion evaluate tiny"):
        assert words in page.words
    for name in json.loads((evaluated / "results.json").read_text())["figures"]:
        assert name in page.words


def test_the_judge_stands_beside_the_scores_and_what_was_skipped_is_told(evaluated: Path) -> None:
    page = read(evaluated)
    assert "The judge" in page.words
    assert "80.00 – 95.00" in page.words
    assert "calibration error" in page.words
    assert "0.1000" in page.words
    assert "<it> needs weights" in page.words


def test_under_each_clip_is_what_the_judge_saw(evaluated: Path) -> None:
    page = read(evaluated)
    signed = [word for word in page.words if word[:2] in ("✓ ", "✗ ") and word[2:] not in ("right", "wrong")]
    assert len(signed) == 2 * (5 + 5 + 25)
    assert "of 50 verdicts on swapped clips" in page.text
    assert page.tags.count("img") == 5


def test_a_judge_that_is_gone_leaves_the_grid_and_a_word(evaluated: Path, tmp_path: Path) -> None:
    (tmp_path / "judge").rename(tmp_path / "moved")
    page = read(evaluated)
    assert "The grid is shown without what the judge saw, as the judge could not be read" in page.text
    assert not [word for word in page.words if word.startswith(("✓ ", "✗ "))]
    assert page.tags.count("img") == 5


def test_factors_that_move_are_those_of_the_evaluation(run_folder: Path, tmp_path: Path) -> None:
    def signs() -> list[str]:
        return [word for word in read(run_folder).words if word[:2] in ("✓ ", "✗ ") and word[2:] not in ("right", "wrong")]

    evaluate(run_folder, tmp_path / "judge", moving=["speed"])
    usual = signs()
    evaluate(run_folder, tmp_path / "judge", moving=["colour"])
    other = signs()
    assert usual[:20] == other[:20]  # real clips are what they are
    assert [word[2:] for word in usual] == [word[2:] for word in other]
    assert usual != other
