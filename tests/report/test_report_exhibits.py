from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles import pages
from stillmotion.core.errors import FileRefused
from stillmotion.metrics.exhibits import Curves, Line, Mark, Page, Pictures, Table, write_page
from stillmotion.report.exhibits import render, write_exhibits

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 1, 8, 8), dtype=np.uint8)
ROWS = (("KVAE & co", 810.0812345, 810.08), ("DMM", None, 784.7))
TABLE = Table("table_1", "Table 1: <bounds>", ("model", "nats", "published"), ROWS, "Said <b>low</b>.")
CURVES = Curves(
    "gap", "Figure 3b", "hidden frames", "errors",
    (Line("ours", (1.0, 3.0), (0.1, 0.2), (0.05, 0.1), (0.2, 0.3)), Line("ours", (1.0,), (0.3,), published=True)),
    (Mark("true", 2.0),), "Three seeds.",
)  # fmt: skip
GRID = Pictures("worlds", "Figure 5", FRAMES, ("real", "drawn"), ("box", "pong"))
STRIP = Pictures("strip", "Filled in", FRAMES, strip=True)
PAGE = Page("The paper", "What it did & what we did.", (TABLE, CURVES, GRID, STRIP))
RESULTS: dict[str, Any] = {
    "recipe": "tiny", "command": "stillmotion reproduce tiny", "commit": "0123456789abcdef", "minutes": 73.25, "seeds": [0, 1],
    "machine": {"cores": 2, "gpu": None}, "size": "laptop", "quick": False,
    "judge": {"sha256": "f" * 64, "accuracy": {"hair": {"value": 0.998, "low": 0.997, "high": 0.999, "clips": 2664}}},
    "figures": {
        "imputation_smooth_p50": {"value": 0.0061, "low": 0.006, "high": 0.0062, "clips": 1000, "paper": 0.0075, "protocol": "imputation"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduced")
    write_page(PAGE, folder)
    (folder / "results.json").write_text(json.dumps(RESULTS))
    assert write_exhibits(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> pages.Page:
    return pages.Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_holds_every_exhibit_and_its_note(page: pages.Page) -> None:
    for text in (
        "The paper", "What it did & what we did.", "Table 1: <bounds>", "Said <b>low</b>.", "KVAE & co", "810.08", "–", "Figure 3b",
        "Three seeds.", "ours, published", "true", "hidden frames", "Figure 5", "box", "drawn", "Filled in", "0.10 (0.05 – 0.20)",
    ):  # fmt: skip
        assert text in [word.strip() for word in page.words], text
    assert {"table_1", "gap", "worlds", "strip", "figures"} <= set(page.ids)


def test_the_page_tells_how_it_came_about(page: pages.Page) -> None:
    told = {"laptop", "0, 1", "73.2", "2 CPU cores", "0123456789ab", "stillmotion reproduce tiny", "imputation_smooth_p50", "0.75"}
    assert told <= set(page.words)
    assert "The judge" in page.words
    assert "hair" in page.words
    assert "quick run" not in page.text


def test_the_page_is_whole_in_itself(page: pages.Page) -> None:
    assert not [link for link in page.links if not link.startswith(("#", "data:"))]
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not {"script", "iframe", "object"} & set(page.tags)


def test_who_cannot_see_is_told_what_is_to_be_seen(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert 'alt="Figure 5: 2 rows (real, drawn) and 2 columns (box, pong), 3 frames each."' in text
    assert 'aria-label="Figure 3b: errors over hidden frames. ours goes from 0.1 at 1 to 0.2 at 3;' in text
    assert "prefers-reduced-motion: reduce" in text


def test_a_quick_run_says_that_it_was_one() -> None:
    assert "This was a quick run" in pages.Page(render(PAGE, {**RESULTS, "quick": True})).text


def test_without_results_the_exhibits_stand_alone(tmp_path: Path) -> None:
    write_page(PAGE, tmp_path)
    page = pages.Page(write_exhibits(tmp_path).read_text(encoding="utf-8"))
    assert "Figure 3b" in page.words
    assert "figures" not in page.ids
    assert "Command" not in page.words


def test_every_exhibit_is_a_file_too(folder: Path) -> None:
    names = {"table_1.csv", "gap.csv", "gap.svg", "worlds.gif", "strip.png"}
    assert {path.name for path in (folder / "figures").iterdir()} == names


def test_tables_and_values_are_written_unrounded(folder: Path) -> None:
    def rows(name: str) -> list[list[str]]:
        with (folder / "figures" / name).open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    assert rows("table_1.csv") == [["model", "nats", "published"], ["KVAE & co", "810.0812345", "810.08"], ["DMM", "", "784.7"]]
    assert rows("gap.csv") == [
        ["line", "published", "hidden frames", "errors", "low", "high"],
        ["ours", "no", "1.0", "0.1", "0.05", "0.2"], ["ours", "no", "3.0", "0.2", "0.1", "0.3"], ["ours", "yes", "1.0", "0.3", "", ""],
    ]  # fmt: skip


def test_a_folder_without_a_page_and_spoiled_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"page\.json"):
        write_exhibits(tmp_path)
    write_page(PAGE, tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(FileRefused, match=r"results\.json"):
        write_exhibits(tmp_path)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "figures").exists()
