"""What cannot be evaluated, and what is said of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from oracles.finished_runs import quickly
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.base import Splits
from stillmotion.metrics.judge import Judge
from stillmotion.metrics.judge_files import load_judge
from stillmotion.models import files
from stillmotion.recipes import evaluate as module
from stillmotion.recipes import execute
from stillmotion.recipes.evaluate import evaluate


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quickly():
        yield


def test_a_judge_of_other_classes_is_refused(run: Path, judge: Path, tmp_path: Path) -> None:
    changed = load_judge(judge).judge
    names = {"colour": tuple("abcdefg"), "speed": ("slow", "fast")}
    files.save(Judge(changed.config.model_copy(update={"classes": names})), tmp_path / "other")
    with pytest.raises(UserError, match=r"a judge of the classes red.* of colour, got one of a, b, c, d, e, f, g\. Train one on this data"):
        evaluate(run, judge=tmp_path / "other")
    files.save(Judge(changed.config.model_copy(update={"classes": {"mood": ("sad", "glad")}})), tmp_path / "stranger")
    with pytest.raises(UserError, match=r"factors of this data, got a judge of mood and clips labelled colour, speed"):
        evaluate(run, judge=tmp_path / "stranger")


def test_a_judge_of_other_frames_is_refused_before_anything_is_measured(run: Path, judge: Path, tmp_path: Path) -> None:
    said: list[object] = []
    for changes, shape in (({"size": 32}, r"\(3, 32, 32\)"), ({"colours": 1}, r"\(1, 16, 16\)")):
        files.save(Judge(load_judge(judge).judge.config.model_copy(update=changes)), tmp_path / "other")
        with pytest.raises(UserError, match=rf"frames of shape \(3, 16, 16\), those of this run, got .*{shape}\. Train one on this data"):
            evaluate(run, judge=tmp_path / "other", say=said.append)
    assert not said


def test_a_model_is_no_judge(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="a judge, got .*which holds a model"):
        evaluate(run, judge=run)
    with pytest.raises(FileRefused, match="nowhere"):
        evaluate(run, judge=tmp_path / "nowhere")


def test_a_protocol_that_does_not_exist_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match=r"protocols among reconstruction, swap, .*frechet_kinetics, got 'swaps'\. Check the spelling"):
        evaluate(run, judge=None, only=("swaps",))
    with pytest.raises(UserError, match=r"got 'readers'\. Those figures are measured elsewhere"):
        evaluate(run, judge=None, only=("readers",))


def test_what_is_measured_on_demand_alone_is_asked_for_by_more_than_its_protocol(run: Path) -> None:
    with pytest.raises(UserError, match=r"--pooled-judge beside the protocol vdsm_released"):
        evaluate(run, judge=None, only=("vdsm_released",))
    with pytest.raises(UserError, match=r"--kinetics FILE beside the protocol frechet_kinetics"):
        evaluate(run, judge=None, only=("frechet_kinetics",))


def test_factors_that_the_data_lack_cannot_move(run: Path) -> None:
    with pytest.raises(UserError, match=r"those that move, got 'action'\. The labels of this data: colour, speed\."):
        evaluate(run, judge=None, moving=("action",))


def test_a_run_without_held_out_clips_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.load_data

    def all_trained_on(of: Any) -> Splits:
        train = plain(of).train
        none = train.subset(torch.zeros(0, dtype=torch.long))
        return Splits(train, none, none)

    monkeypatch.setattr(module, "load_data", all_trained_on)
    with pytest.raises(UserError, match=r"clips that were not trained on, got none in the data of .*Train with --hold-out"):
        evaluate(run, judge=None)


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "model")
    with pytest.raises(FileRefused, match=r"a finished run, got .*no model yet.*stillmotion resume"):
        evaluate(run, judge=None)
    with pytest.raises(FileRefused, match=r"a run folder with run\.json"):
        evaluate(tmp_path, judge=None)


def test_a_damaged_results_file_is_named(run: Path) -> None:
    (run / "results.json").write_text('{"figures": ')
    with pytest.raises(FileRefused, match=r"a JSON file, got .*results\.json"):
        evaluate(run, judge=None, only=("reconstruction",))
    with pytest.raises(FileRefused, match=r"a JSON file, got .*results\.json"):
        execute.resume(run, show=False)


def test_nothing_is_written_where_nothing_was_measured(run: Path) -> None:
    before = (run / "results.json").read_bytes()
    with pytest.raises(UserError, match="it needs a judge"):
        evaluate(run, judge=None, only=("swap",))
    assert (run / "results.json").read_bytes() == before
