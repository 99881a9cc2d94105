"""Frames read once: the rows, when it is worth it, and a run that does it beside one that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.tiny_runs import disturb, kept, rows, same, three_stage_run, tiny_clips, trainer
from stillmotion.core.clips import Clips
from stillmotion.data.base import ClipSet
from stillmotion.models.vdsm import VDSM
from stillmotion.training import readings
from stillmotion.training.feed import Batches
from stillmotion.training.loop import Interrupted
from stillmotion.training.readings import read_once, worth_reading
from stillmotion.training.settings import Feed, Run, Stage

CPU = torch.device("cpu")
MANY = 5
"""Clips in a batch with which the middle stage of three steps looks at 75 frames, of 11 clips of at most 5."""


def mean_and_corner(clips: Clips) -> Tensor:
    return torch.stack([clips.frames.mean((2, 3, 4)), clips.frames[:, :, 0, 0, 0]], 2)


def overlapping() -> ClipSet:
    """Windows of 5 frames over a store of 12, of which the frames 0, 8 and 9 are in none."""
    frames = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return ClipSet(frames, torch.tensor([1, 3, 10]), torch.tensor([5, 5, 2]), 5, {"kind": torch.tensor([0, 0, 1])})


@pytest.mark.parametrize("at_a_time", [1, 4, 128])
def test_windows_over_the_rows_hold_what_is_read_of_their_frames(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "AT_A_TIME", at_a_time)
    data = overlapping()
    told, clips = read_once(data, mean_and_corner, CPU).clips(), data.clips()
    assert torch.equal(told.mask, clips.mask)
    torch.testing.assert_close(told.frames, mean_and_corner(clips) * clips.mask[:, :, None])


def test_each_frame_that_a_window_shows_is_read_once_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "AT_A_TIME", 4)
    data, seen = overlapping(), []

    def spy(clips: Clips) -> Tensor:
        assert not torch.is_grad_enabled()
        assert bool(clips.mask.all())
        seen.append(clips.frames[0])
        return mean_and_corner(clips)

    table = read_once(data, spy, CPU).frames
    assert [len(part) for part in seen] == [4, 4, 1]
    torch.testing.assert_close(torch.cat(seen), data.frames[[1, 2, 3, 4, 5, 6, 7, 10, 11]].float() / 255)
    assert table.shape == (12, 2)
    assert not table[[0, 8, 9]].any()


@pytest.mark.parametrize("feed", [
    Feed(batch=2), Feed(batch=3, hidden=0.4), Feed(batch=2, group_by="kind", clips_per_group=2, frames=4),
])  # fmt: skip
def test_a_feed_hands_out_the_rows_of_the_frames_that_it_would(feed: Feed) -> None:
    data = tiny_clips()
    frames, told = Batches(data, feed, 0), Batches(read_once(data, mean_and_corner, CPU), feed, 0)
    for step in range(4):
        one, other = frames(step), told(step)
        assert torch.equal(one.mask, other.mask)
        assert one.joined == other.joined
        torch.testing.assert_close(other.frames, mean_and_corner(one) * one.mask[:, :, None])


@pytest.mark.parametrize(("steps", "feed", "worth"), [
    (1, Feed(batch=1), False), (3, Feed(batch=1), True), (9, Feed(batch=1, frames=1), False), (10, Feed(batch=1, frames=1), True),
    (1, Feed(batch=1, group_by="kind", clips_per_group=2), True),
])  # fmt: skip
def test_it_is_worth_it_where_more_frames_would_be_read_than_the_nine_there_are(steps: int, feed: Feed, worth: bool) -> None:
    assert worth_reading(overlapping(), Stage(name="paths", steps=steps, feed=feed)) == worth


# runs


def run_of(precision: str = "float32", hidden: float = 0.0) -> Run:
    run = three_stage_run(batch=MANY).model_copy(update={"precision": precision})
    first, middle, last = run.stages
    middle = middle.model_copy(update={"feed": middle.feed.model_copy(update={"hidden": hidden})})
    return run.model_copy(update={"stages": (first, middle, last)})


def train(folder: Path, run: Run) -> tuple[dict[str, Tensor], set[tuple[bool, int]]]:
    """Weights and moments at the end, and the axes of the frames that the middle stage was handed, in training (True) and validation."""
    one, axes = trainer(folder, run, validation=tiny_clips(4, seed=1)), set()

    def spy(model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[3] == "paths":
            axes.add((model.training, inputs[0].frames.ndim))

    one.model.register_forward_pre_hook(spy)
    one.fit()
    return kept(folder), axes


@pytest.mark.parametrize(("precision", "hidden", "close"), [("float32", 0.0, 1e-5), ("float32", 0.4, 1e-5), ("bfloat16", 0.0, 2e-3)])
def test_a_run_comes_out_the_same_and_encodes_no_training_frame_in_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, hidden: float, close: float
) -> None:
    run = run_of(precision, hidden)
    once, axes = train(tmp_path / "once", run)
    assert axes == {(True, 3), (False, 5)}
    monkeypatch.setattr(VDSM, "readings", lambda self: {})
    again, axes = train(tmp_path / "again", run)
    assert axes == {(True, 5), (False, 5)}
    assert once.keys() == again.keys()
    for name, value in again.items():
        if name.startswith("model/"):
            torch.testing.assert_close(once[name], value, rtol=close, atol=close)
    for one, other in zip(rows(tmp_path / "once"), rows(tmp_path / "again"), strict=True):
        assert one["terms"] == pytest.approx(other["terms"], rel=100 * close)


@pytest.mark.parametrize("step", [4, 5])
def test_a_stage_that_read_once_goes_on_to_the_last_bit(tmp_path: Path, step: int) -> None:
    whole, _ = train(tmp_path / "whole", run_of())
    one = trainer(tmp_path / "stopped", run_of(), validation=tiny_clips(4, seed=1))

    def stop(module: object, terms: object) -> None:
        one._stop = True

    disturb(one.model, step, stop)
    with pytest.raises(Interrupted):
        one.fit()
    rest, axes = train(tmp_path / "stopped", run_of())
    assert (True, 3) in axes
    assert same(rest, whole)
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")


def test_frames_of_the_training_set_itself_are_left_alone() -> None:
    data = tiny_clips()
    before = data.frames.clone()
    told = read_once(data, mean_and_corner, CPU)
    assert torch.equal(data.frames, before)
    assert replace(told, frames=data.frames).clips().frames.equal(data.clips().frames)
