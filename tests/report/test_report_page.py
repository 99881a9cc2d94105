from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from oracles.pages import Page
from stillmotion.core.abilities import Model
from stillmotion.core.clips import Clips
from stillmotion.core.errors import FileRefused
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet, Splits
from stillmotion.report.folder import Finished, open_run
from stillmotion.report.page import render, show_figures, write_animations, write_report
from stillmotion.training.settings import Feed

SECTIONS = ["numbers", "swaps", "reconstructions", "generated", "codes", "training", "figures", "again"]


@pytest.fixture(scope="module")
def finished(finished_folder: Path) -> Finished:
    return open_run(finished_folder)


@pytest.fixture(scope="module")
def text(finished: Finished) -> str:
    return render(finished)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def labelled(finished: Finished, labels: dict[str, Any], classes: dict[str, tuple[str, ...]]) -> Finished:
    """The run with other labels on its clips."""
    assert finished.data is not None
    test = replace(finished.data.test, labels=labels, classes=classes)
    return replace(finished, data=finished.data._replace(test=test))


def test_every_section_is_there_once(page: Page) -> None:
    assert page.ids == SECTIONS
    assert "Left out" not in page.text


def test_every_link_leads_into_the_page(text: str, page: Page) -> None:
    outside = [link for link in page.links if not link.startswith(("data:", "#"))]
    assert not outside
    assert {link for link in page.links if link.startswith("#")} == {f"#{name}" for name in SECTIONS}
    assert not re.search(r"https?://|url\(|@import|<script", text)


def test_pictures_are_inside_and_the_page_stays_small(text: str, page: Page) -> None:
    assert page.tags.count("img") == 5
    assert sum(link.startswith("data:image/webp;base64,") for link in page.links) == 5 + 4  # four of them move, with a still each
    assert len(text) < 1_000_000


def test_the_summary_says_what_was_trained_on_what(page: Page) -> None:
    assert "VDSM on coloured pendula" in page.text
    assert "A VDSM with 18 thousand parameters" in page.text
    assert "28 clips of coloured pendula" in page.text
    assert "30 steps of stage “poses” and 20 steps of stage “sequence”, in 6 minutes." in page.text
    for fact in ("28 / 14 / 14 train / validation / test", "6 of 16 × 16, colour", "18,328", "2 CPU cores", "float32"):
        assert fact in page.text


def test_labels_that_training_was_helped_by_are_owned_to(finished: Finished, page: Page) -> None:
    assert "learned, without labels, to tell" in page.text
    stages = [stage.model_copy(update={"feed": Feed(group_by="person", clips_per_group=2)}) for stage in finished.run.stages]
    found = Page(render(replace(finished, run=finished.run.model_copy(update={"stages": tuple(stages)}))))
    assert "learned, with no label but the grouping by person, to tell" in found.text
    assert "clips were grouped by person; no other label was used there" in found.text


def test_the_commands_are_those_of_this_run(page: Page, finished_folder: Path) -> None:
    assert "stillmotion train pendula --frame-size 16" in page.text
    assert f"stillmotion swap A.mp4 B.mp4 --run {finished_folder} -o swapped.gif" in page.text


def test_every_figure_is_in_the_table(page: Page, finished: Finished) -> None:
    assert finished.results is not None
    for name in finished.results["figures"]:
        assert name in page.words
    assert "26.10 – 26.90" in page.words


def test_labels_and_commands_are_escaped(finished: Finished) -> None:
    evil = "<script>alert('x')</script>"
    labels = {evil: torch.arange(14) % 2}
    text = render(replace(labelled(finished, labels, {evil: (evil + "0", '"><img src=x>')}), command=f"stillmotion train '{evil}'"))
    found = Page(text)
    assert "script" not in found.tags
    assert found.tags.count("img") == 5
    assert f"by {evil}" in found.words
    assert '"><img src=x>' in found.words
    assert f"stillmotion train '{evil}'" in found.words


def test_without_labels_the_maps_are_coloured_by_source(finished: Finished) -> None:
    assert finished.data is not None
    test = replace(finished.data.test, labels={}, classes={}, source=torch.arange(14) // 7, sources=("one.mp4", "two.mp4"))
    found = Page(render(replace(finished, data=finished.data._replace(test=test))))
    assert "by source clip" in found.words
    assert {"one.mp4", "two.mp4"} <= set(found.words)


def test_without_a_test_split_validation_is_shown_and_without_both_the_page_says_so(finished: Finished) -> None:
    data = finished.data
    assert data is not None
    none = data.test.subset(torch.zeros(0, dtype=torch.long))
    assert "Clips of the validation split" in Page(render(replace(finished, data=data._replace(test=none)))).text
    alone = Page(render(replace(finished, data=Splits(data.train, none, none))))
    assert "those shown here were trained on" in alone.text
    assert "not trained on" not in alone.text


def test_without_results_and_rows_the_page_is_written_all_the_same(run_folder: Path) -> None:
    (run_folder / "results.json").unlink()
    (run_folder / "metrics.jsonl").unlink()
    found = Page(write_report(run_folder).read_text(encoding="utf-8"))
    assert found.ids == SECTIONS
    assert "no results.json" in found.text
    assert "no rows in metrics.jsonl" in found.text


def test_a_torn_row_is_passed_over(run_folder: Path) -> None:
    path = run_folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 60, "stage": "seq')
    assert [row["step"] for row in open_run(run_folder).rows] == [10, 20, 30, 30, 40, 50, 50]


def test_clips_that_are_gone_leave_the_numbers_and_curves(run_folder: Path) -> None:
    described = json.loads((run_folder / "run.json").read_text())
    described["run"]["data"] = {"name": "videos", "options": {"folder": str(run_folder / "gone")}}
    (run_folder / "run.json").write_text(json.dumps(described))
    found = Page(write_report(run_folder).read_text(encoding="utf-8"))
    assert "The clips of this run could not be read" in found.text
    assert "gone" in found.text
    assert found.tags.count("img") == 2  # new clips need no data
    assert "swap_static_accuracy" in found.words


class Mute(Model):
    """A model that can do nothing but be trained."""

    name = "mute"
    frame_shape = (3, 16, 16)

    def loss(self, clips: Clips, weights: Any, generator: torch.Generator | None) -> Terms:
        return Terms({"nothing": torch.zeros(())})


def test_what_a_model_cannot_do_is_left_out_with_a_word(finished: Finished) -> None:
    found = Page(render(replace(finished, model=Mute())))
    assert found.ids == SECTIONS
    assert "img" not in found.tags
    for ability in ("Swaps", "Encodes", "Generates"):
        assert f"Left out: this model lacks the ability {ability}." in found.text


def test_the_page_replaces_an_older_one_and_leaves_no_draft(run_folder: Path) -> None:
    (run_folder / "report.html").write_text("old")
    path = write_report(run_folder)
    assert path == run_folder / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert not list(run_folder.glob(".draft*"))


@pytest.mark.parametrize("work", [write_report, write_animations])
def test_an_unfinished_run_is_refused_with_the_way_on(run_folder: Path, work: Any) -> None:
    (run_folder / "model" / "config.json").unlink()
    with pytest.raises(FileRefused, match=r"no model yet.*stillmotion resume"):
        work(run_folder)
    assert not (run_folder / "report.html").exists()


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FileRefused, match=r"run\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize("content", ["[1, 2]", "{", '{"figures": {"psnr": 3}}', '{"figures": {"psnr": {"value": "high"}}}'])
def test_results_that_are_none_are_refused(run_folder: Path, content: str) -> None:
    (run_folder / "results.json").write_text(content)
    with pytest.raises(FileRefused, match=r"results\.json.*Remove it"):
        write_report(run_folder)


def test_figures_are_printed_with_their_intervals(finished_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_figures(finished_folder)
    printed = capsys.readouterr().out.splitlines()
    assert next(line.split() for line in printed if line.startswith("swap_static_accuracy")) == [
        "swap_static_accuracy", "0.980", "0.960", "–", "0.990", "500",
    ]  # fmt: skip
    assert len(printed) == 10


def test_figures_of_a_run_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"results\.json.*stillmotion resume"):
        show_figures(tmp_path)


def test_three_animations_are_written(run_folder: Path) -> None:
    paths = write_animations(run_folder)
    assert [path.name for path in paths] == ["reconstruction.gif", "swap.gif", "generated.gif"]
    for path in paths:
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == 6
            assert 400 < image.width <= 800


def test_animations_that_cannot_be_made_are_left_out(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open_run(run_folder)
    monkeypatch.setattr("stillmotion.report.page.open_run", lambda folder: replace(real, data=None))
    assert [path.name for path in write_animations(run_folder)] == ["generated.gif"]


def test_clip_names_of_a_folder_are_in_the_swap_command(finished: Finished) -> None:
    assert finished.data is not None
    clips: ClipSet = replace(finished.data.test, source=torch.arange(14) % 2, sources=("a b.mp4", "c.avi"))
    part = finished.run.data.model_copy(update={"name": "videos", "options": {"folder": "my clips"}})
    run = finished.run.model_copy(update={"data": part})
    found = Page(render(replace(finished, run=run, data=finished.data._replace(test=clips))))
    assert "stillmotion swap 'my clips/a b.mp4' 'my clips/c.avi' --run" in found.text
    assert "the videos in my clips" in found.text


def test_a_run_of_unknown_data_says_so_and_still_has_its_curves(run_folder: Path) -> None:
    described = json.loads((run_folder / "run.json").read_text())
    described["run"]["data"] = {"name": "elsewhere", "options": {}}
    (run_folder / "run.json").write_text(json.dumps(described))
    found = Page(write_report(run_folder).read_text(encoding="utf-8"))
    assert "got 'elsewhere'" in found.text
    assert "reconstruction" in found.words
