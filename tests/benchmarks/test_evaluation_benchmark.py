from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks.evaluation import FULL, Made, Size, Timed, build, float_frames, main, random_clips, rates, real_clips

from stillmotion.data import sprites
from stillmotion.recipes.measures import MEASURES

SMALL = {"static": 4, "pose": 3, "dynamic": 4, "encoder_channels": (2, 2, 2, 2, 4), "decoder_channels": (4, 4, 2, 2),
         "rnn_layers": 1, "rnn_size": 4, "transition_hidden": 4}  # fmt: skip
TINY = Size((12, 3, 4), SMALL, (4, 4, 4, 4))


@pytest.fixture(scope="module")
def bench() -> Timed:
    return build(TINY, random_clips(TINY.characters))


def test_the_full_size_is_that_of_the_test_clips_of_sprites() -> None:
    assert [9 * people for people in FULL.characters] == [8100, 900, 2664]
    assert sum(FULL.characters) == 6**4
    assert FULL.model["decoder_channels"] == (128, 64, 32, 32)
    assert FULL.channels == (64, 128, 256, 512)


def test_random_clips_have_the_labels_of_sprites() -> None:
    splits = random_clips((5, 2, 3))
    assert [len(part) for part in splits] == [45, 18, 27]
    assert splits.test.clips(slice(2)).frames.shape == (2, 8, 3, 64, 64)
    labels = splits.train.labels
    assert set(labels) == {"action_direction", "action", "direction", "character", *sprites.PARTS}
    assert torch.equal(labels["action_direction"], 3 * labels["action"] + labels["direction"])
    people = [set(part.labels["character"].tolist()) for part in splits]
    assert [len(part) for part in people] == [5, 2, 3]
    assert not people[0] & people[1] | people[1] & people[2] | people[0] & people[2]
    assert all(int(labels[part].max()) < 6 for part in sprites.PARTS)


@pytest.mark.data
def test_random_clips_have_the_shape_of_the_real_ones(real_data: Path) -> None:
    real = sprites.compose(real_data / "lpc-sprites", (1, 1, 1, 2))
    made = random_clips((2, 0, 0)).train
    assert made.frame_shape == real.frame_shape
    assert (made.steps, made.moving, set(made.labels)) == (real.steps, real.moving, set(real.labels))


def test_without_sheets_there_are_no_real_clips(tmp_path: Path) -> None:
    assert real_clips(tmp_path) is None


def test_every_measure_can_be_taken(bench: Timed) -> None:
    assert not [name for name, one in MEASURES.items() if one.lacking(bench)]


def test_what_is_decoded_is_counted(bench: Timed) -> None:
    bench.made.clear()
    codes = bench.codes()
    bench.shown(codes[torch.arange(10)])
    bench.swapped(torch.tensor([[0, 1], [2, 3], [4, 5]]))
    bench.rebuild(codes, judged=False)
    assert [(made.clips, made.judged) for made in bench.made] == [(10, True), (3, True), (36, False)]
    assert all(made.seconds > 0 for made in bench.made)
    assert float_frames(bench) == (36 + 10 + 3 + 36) * 8 * 3 * 64 * 64 * 4


def test_the_rate_is_of_what_was_judged_alone(bench: Timed) -> None:
    bench.made[:] = [Made(30, 2.0, True), Made(10, 6.0, True), Made(100, 1.0, False)]
    assert rates(bench) == {"decoded_clips": 140, "decoded_and_judged_per_second": 5.0}


@pytest.mark.slow
def test_quick_prints_one_json_object_last(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick"], TINY)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) > len(MEASURES)
    figures = json.loads(lines[-1])
    assert list(figures["measures"]) == list(MEASURES)
    assert figures["seconds"] == pytest.approx(60 * sum(figures["measures"].values()), abs=2)
    assert (figures["clips"], figures["data"]) == (36, "random")
    assert figures["decoded_clips"] > 10 * 36
    assert figures["store_mb"] == pytest.approx(19 * 9 * 8 * 3 * 64 * 64 / 1e6, abs=0.1)
    assert figures["peak_mb"] >= figures["ready_mb"] > figures["store_mb"]
    assert list(figures["raised_mb"]) == list(MEASURES)
    assert sum(figures["raised_mb"].values()) == pytest.approx(figures["peak_mb"] - figures["ready_mb"], abs=3)
