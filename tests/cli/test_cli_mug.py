"""MUG from the command line, on drawn crops in its layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from oracles.commands import TINY, TINY_JUDGE, Stillmotion, write_yaml
from oracles.drawn_faces import write_faces
from stillmotion.metrics.published import Data, published


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people, six expressions, two takes of 24 frames each."""
    return write_faces(tmp_path_factory.mktemp("faces"), takes=2, side=(24, 24))


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory, stillmotion: Stillmotion) -> Path:
    place = tmp_path_factory.mktemp("trained")
    tiny = TINY | {"data": {"size": 16, "steps": 6}, "model": {**TINY["model"], "size": 16}}  # type: ignore[dict-item]
    config = write_yaml(place / "tiny.yaml", tiny)
    result = stillmotion("train", "mug", "--data-root", faces, "-o", place / "run", "--size", "quick", "--config", config)
    assert result.code == 0, result
    return place / "run"


def test_a_model_trains_on_it_end_to_end(trained: Path, faces: Path) -> None:
    written = json.loads((trained / "run.json").read_text())["run"]
    assert (written["recipe"], written["data"]) == ("vdsm/mug", {"name": "mug", "options": {"root": str(faces), "size": 16, "steps": 6}})
    figures = json.loads((trained / "results.json").read_text())["figures"]
    assert figures["psnr_poses_test"]["clips"] > 0
    assert "MUG faces" in (trained / "report.html").read_text(encoding="utf-8")


def test_what_was_published_stands_beside_what_is_measured(trained: Path, faces: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    clips = ("--data", "size=16", "--data", "steps=6", "--data-root", faces)
    assert stillmotion("judge", "train", "mug", "-o", tmp_path / "judge", *TINY_JUDGE, *clips).code == 0
    measured = stillmotion("evaluate", trained, "--judge", tmp_path / "judge", "--only", "two_factor", "--no-report")
    assert measured.code == 0, measured
    assert stillmotion("compare", trained, "-o", tmp_path / "table.md").code == 0
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert all(row.method in text for row in published("two_factor", Data(name="mug")))
    assert "63.1" in next(line for line in text.splitlines() if "two_factor_accuracy_action" in line)


def test_the_commands_of_data_know_it(faces: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    listed = stillmotion("data", "list", "--data-root", faces).out
    assert "mug       MUG facial expressions: 52 people who make six faces each" in listed
    assert f"there, in {faces}" in listed.split("\nmug ")[1]
    assert f"not there: looked in {tmp_path}. It needs a licence" in stillmotion("data", "list", "--data-root", tmp_path).out
    assert "test: " in stillmotion("data", "prepare", "mug", "--data-root", faces).out
    sheet = tmp_path / "sheet.png"
    assert stillmotion("data", "show", "mug", "--data-root", faces, "-o", sheet).code == 0
    assert Image.open(sheet).size[1] > 72
    stillmotion("data", "prepare", "mug", "--data-root", tmp_path).refused("<person>/<expression>/<take>", str(tmp_path), "docs/data.md")
