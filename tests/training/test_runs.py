from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.fitting import FrameSpec
from stillmotion.training.runs import RUN_FILE, frame_spec, load_data, read_run
from stillmotion.training.settings import Part, Run, Stage


def run_on(name: str, **options: Any) -> Run:
    return Run(recipe="test", data=Part(name=name, options=options), model=Part(name="vdsm"), stages=(Stage(name="one", steps=1),))


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    run = run_on("pendula", size=16)
    (tmp_path / RUN_FILE).write_text(json.dumps({"command": "stillmotion train", "run": run.model_dump(mode="json")}))
    assert read_run(tmp_path) == run


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"run\.json.*stillmotion train"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": {"recipe": "x"}}', '{"run": 3}'])
def test_a_description_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(FileRefused, match="cannot be read"):
        read_run(tmp_path)


def test_the_data_of_a_run_are_read_with_its_options() -> None:
    splits = load_data(run_on("pendula", clips=3, validation=2, test=1, steps=4, size=16))
    assert [len(part) for part in splits] == [3, 2, 1]
    assert splits.train.frame_shape == (3, 16, 16)
    assert splits.train.steps == 4


def test_an_option_that_the_data_do_not_have_is_named() -> None:
    with pytest.raises(UserError, match=r"options of the data set pendula.*swings"):
        load_data(run_on("pendula", swings=3))


def test_frames_are_read_as_the_run_says() -> None:
    assert frame_spec(run_on("videos", folder="clips", size=32, grey=True, stride=2)) == FrameSpec(size=32, grey=True, stride=2)
    assert frame_spec(run_on("pendula")) == FrameSpec()


def test_frames_are_read_as_the_data_set_is_where_the_run_says_nothing() -> None:
    assert frame_spec(run_on("mug")) == FrameSpec(stride=2)
    assert frame_spec(run_on("mug", stride=3)) == FrameSpec(stride=3)
