from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.video_files import read
from oracles.commands import Stillmotion
from stillmotion.cli.impute import BLANK
from stillmotion.core.clips import Clips
from stillmotion.data.balls import box
from stillmotion.data.fitting import FrameSpec
from stillmotion.data.write import write_video
from stillmotion.metrics.quality import psnr
from stillmotion.models import files
from stillmotion.tasks.impute import cross_fade, impute, last_held

SIZE, GAP, STEPS = 32, 2, 20


@pytest.fixture(scope="module")
def kvae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a grey model that has learned nothing."""
    model = files.build("kvae", {"width": 4}, 0)
    return files.save(model, tmp_path_factory.mktemp("kvae") / "model", frames={"size": SIZE, "grey": True}, steps=STEPS)


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 20 frames, without loss."""
    path = tmp_path_factory.mktemp("ball") / "ball.npy"
    np.save(path, box(clips=1, validation=1, test=1).train.frames.numpy()[:, 0])
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.gif"


def cell(path: Path, rows: int, columns: int, row: int, column: int = 0) -> np.ndarray:
    """One of the clips in the grid of a gif, (T, H, W, 3) in [0, 1]."""
    with Image.open(path) as image:
        assert image.size == (columns * (SIZE + GAP) - GAP, rows * (SIZE + GAP) - GAP)
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
    y, x = row * (SIZE + GAP), column * (SIZE + GAP)
    return np.stack(frames)[:, y : y + SIZE, x : x + SIZE] / 255


def grey(path: Path) -> np.ndarray:
    return read(path, FrameSpec(size=SIZE, grey=True))[:, 0] / 255


def told(result_out: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(result_out)
    return found


def test_a_gap_is_shown_filled_in_beside_the_truth_and_measured(kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("impute", ball, "-r", kvae, "--missing", "5-12", "-o", out, "--scale", 1)
    assert result.code == 0, result
    real, gap = grey(ball), slice(5, 13)
    shown, filled, truth = (cell(out, 3, 1, row).mean(-1) for row in range(3))
    assert np.abs(shown[gap] - BLANK).max() < 0.03
    assert np.abs(np.delete(shown, gap, 0) - np.delete(real, gap, 0)).mean() < 0.02
    assert np.abs(truth - real).mean() < 0.02
    frames = torch.from_numpy(real).float()[None, :, None]
    mask = torch.ones(1, 20, dtype=torch.bool)
    mask[:, gap] = False
    clip = Clips(frames, mask)
    expected = impute(files.load(kvae).model, clip, STEPS).frames
    assert np.abs(filled - expected[0, :, 0].numpy()).mean() < 0.02
    figures = [round(float(psnr(made, frames, ~mask)), 1) for made in (expected, cross_fade(clip))]
    assert result.out == f"{out}  (frames 20, missing 8, PSNR {figures[0]} dB, cross-fade {figures[1]} dB)\n"


def test_figures_can_be_read_by_programs(kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion) -> None:
    figures = told(stillmotion("impute", ball, "-r", kvae, "--drop", 0.5, "-o", out, "--json").out)
    assert figures.keys() == {"output", "frames", "missing", "psnr", "psnr_cross_fade"}
    assert figures["missing"] == 10
    assert figures == told(stillmotion("impute", ball, "-r", kvae, "--drop", 0.5, "-o", out, "--json").out)
    other = told(stillmotion("impute", ball, "-r", kvae, "--drop", 0.5, "--seed", 1, "-o", out, "--json").out)
    assert other["psnr_cross_fade"] != figures["psnr_cross_fade"]


def test_a_mask_file_says_what_ranges_say(kvae: Path, ball: Path, out: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    (tmp_path / "mask.txt").write_text("11100" + "1" * 15)
    results = [
        stillmotion("impute", ball, "-r", kvae, *chosen, "-o", out, "--json")
        for chosen in (("--missing", "3-4"), ("--mask", tmp_path / "mask.txt"), ("--missing", "3,4", "--frames", 20))
    ]
    assert len({result.out for result in results}) == 1
    moved = stillmotion("impute", ball, "-r", kvae, "--missing", "0-1", "--start", 3, "--frames", 9, "-o", out, "--json")
    assert told(moved.out)["frames"] == 9


def test_samples_stand_beside_the_mean_above_their_spread(kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("impute", ball, "-r", kvae, "--missing", "10-", "-o", out, "--scale", 1, "--samples", 3, "--detail", "none")
    assert result.code == 0, result
    assert "largest deviation 0." in result.out
    one, other = (cell(out, 4, 4, 1, column) for column in (1, 2))
    assert np.abs(one[:10] - other[:10]).max() < 0.02
    assert np.abs(one[10:] - other[10:]).max() > 0
    heat = cell(out, 4, 4, 3)
    assert heat[:10].max() < 0.02
    assert heat[10:].max() > 0.9
    assert (heat[..., 0] >= heat[..., 2] - 0.02).all()  # from black over red and yellow to white
    assert cell(out, 4, 4, 0, 1).min() > 0.98


def test_what_is_filled_in_from_the_past_is_held_against_the_last_frame(
    kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion
) -> None:
    figures = told(stillmotion("impute", ball, "-r", kvae, "--missing", "5-6,12", "--filter", "-o", out, "--json").out)
    frames, mask = torch.from_numpy(grey(ball)).float()[None, :, None], torch.ones(1, 20, dtype=torch.bool)
    mask[:, [5, 6, 12]] = False
    assert figures["psnr_held"] == pytest.approx(float(psnr(last_held(Clips(frames, mask)), frames, ~mask)), abs=1e-3)
    assert "psnr_cross_fade" not in figures


def test_frames_that_are_bad_in_the_file_are_not_shown(kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("impute", ball, "-r", kvae, "--missing", "0", "-o", out, "--no-truth", "--scale", 1)
    assert result.out == f"{out}  (frames 20, missing 1)\n"
    assert cell(out, 2, 1, 1).shape[0] == 20


@pytest.mark.parametrize("pattern", [("--missing", "0"), ("--missing", "0-3,9"), ("--missing", "2-"), ("--missing", "-10"), ("--filter",)])
def test_any_pattern_on_a_clip_of_any_length(
    pattern: tuple[str, ...], trained: Path, clips: Path, out: Path, stillmotion: Stillmotion
) -> None:
    """A VDSM of windows of 6 frames, on 12 frames, the first of them among those that are missing."""
    pattern = ("--missing", "0-1,5", *pattern) if pattern == ("--filter",) else pattern
    result = stillmotion("impute", clips / "ann_walk.mp4", "-r", trained, *pattern, "-o", out, "--samples", 2)
    assert result.code == 0, result
    assert result.out.startswith(f"{out}  (frames 12, missing ")
    assert "nan" not in result.out
    assert not result.err


# predict


def test_a_clip_is_rolled_on_behind_its_end(kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("predict", ball, "-r", kvae, "--steps", 7, "-o", out, "--scale", 1)
    assert result.out == f"{out}  (frames 27, predicted 7)\n"
    assert np.abs(cell(out, 2, 1, 0)[20:] - BLANK).max() < 0.03
    assert np.abs(cell(out, 2, 1, 1).mean(-1)[:20] - grey(ball)).mean() < 0.02


def test_what_really_came_is_shown_where_the_clip_goes_on(kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion) -> None:
    options = ("--steps", 7, "--frames", 15, "--samples", 2, "-o", out, "--scale", 1)
    figures = told(stillmotion("predict", ball, "-r", kvae, *options, "--json").out)
    assert (figures["frames"], figures["predicted"]) == (22, 7)
    truth = cell(out, 4, 3, 2).mean(-1)
    assert np.abs(truth[:20] - grey(ball)).mean() < 0.02
    assert np.abs(truth[20:] - BLANK).max() < 0.03
    real = torch.from_numpy(grey(ball)).float()[None, :, None]
    held, ahead = real[:, 14:15].expand(-1, 5, -1, -1, -1), torch.ones(1, 5, dtype=torch.bool)
    assert figures["psnr_held"] == pytest.approx(float(psnr(held, real[:, 15:], ahead)), abs=1e-3)


def test_a_vdsm_predicts_too(trained: Path, clips: Path, out: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("predict", clips / "ann_walk.mp4", "-r", trained, "--steps", 3, "-o", out, "--samples", 2)
    assert result.code == 0, result
    assert "largest deviation" in result.out


# refusals


@pytest.mark.parametrize(("options", "words"), [
    ((), ("one of --missing, --drop and --mask, got none of them",)),
    (("--missing", "3", "--drop", 0.5), ("got --missing and --drop",)),
    (("--missing", "3", "--mask", "m.txt", "--drop", 0.5), ("got --missing and --drop and --mask",)),
    (("--missing", ""), ("ranges of frames, got ''",)),
    (("--missing", "5-20"), ("frames from 0 to 19", "'5-20'")),
    (("--missing", "30-"), ("frames from 0 to 19",)),
    (("--missing", "0-99"), ("frames from 0 to 19",)),
    (("--missing", "0-19"), ("at least one frame that is there", "--missing that takes all 20")),
    (("--missing", "0-"), ("takes all 20",)),
    (("--drop", 1.0), ("a share of frames between 0 and 1, got 1",)),
    (("--missing", "3", "--frames", 1), ("2 frames or more",)),
])  # fmt: skip
def test_patterns_that_leave_nothing_to_do_or_to_go_by_are_refused(
    options: tuple[object, ...], words: tuple[str, ...], kvae: Path, ball: Path, out: Path, stillmotion: Stillmotion
) -> None:
    stillmotion("impute", ball, "-r", kvae, *options, "-o", out).refused(*words)
    assert not out.exists()


def test_masks_of_no_use_are_refused(kvae: Path, ball: Path, out: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    for text, words in (("1" * 19, "which has 19"), ("1" * 20, "that takes none of the 20"), ("0" * 20, "that takes all 20")):
        (tmp_path / "m.txt").write_text(text)
        stillmotion("impute", ball, "-r", kvae, "--mask", tmp_path / "m.txt", "-o", out).refused(words)
    stillmotion("impute", ball, "-r", kvae, "--mask", tmp_path / "gone.npy", "-o", out).refused("gone.npy", "No such file")
    assert not out.exists()


def test_clips_and_models_that_do_not_fit_are_refused(
    kvae: Path, ball: Path, out: Path, tmp_path: Path, stillmotion: Stillmotion
) -> None:
    model = files.build("kvae", {"width": 4, "controls": 1}, 0)
    driven = files.save(model, tmp_path / "driven", frames={"size": SIZE, "grey": True}, steps=STEPS)
    stillmotion("impute", ball, "-r", driven, "--missing", "3", "-o", out).refused("controls of shape (1, 20, 1)", "none")
    stillmotion("predict", tmp_path / "gone.gif", "-r", kvae, "-o", out).refused("gone.gif")
    still = write_video(torch.zeros(1, 1, 8, 8), tmp_path / "still.gif")
    stillmotion("impute", still, "-r", kvae, "--missing", "0", "-o", out).refused("still.gif", "only one frame")
    assert stillmotion("predict", ball, "-r", kvae, "--steps", 0, "-o", out).code == 2
    assert not out.exists()
