from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from PIL import Image

from data.video_files import read, write_gif, write_sound
from oracles.commands import Stillmotion
from stillmotion.cli import impute, use
from stillmotion.cli.common import trained_in
from stillmotion.data.decode import read_frames
from stillmotion.data.fitting import FrameSpec

SIZE = 16
GAP = 2


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.gif"


def shape(path: Path) -> tuple[int, int, int]:
    """Frames, height, width of a gif."""
    with Image.open(path) as image:
        return (getattr(image, "n_frames", 1), image.height, image.width)


def side(count: int, scale: int = 1) -> int:
    """Pixels of `count` frames in a row."""
    return (count * (SIZE + GAP) - GAP) * scale


# clips


def test_reconstruct_shows_clips_above_what_the_model_makes_of_them(
    trained: Path, clips: Path, out: Path, stillmotion: Stillmotion
) -> None:
    result = stillmotion("reconstruct", clips / "ann_walk.mp4", clips / "bob_run", clips / "bob_walk.npy", "-r", trained, "-o", out)
    assert result.code == 0, result
    assert shape(out) == (12, side(2, 2), side(3, 2))  # to the end of the shortest
    assert result.out.startswith(f"{out}  (12 frames, PSNR ")
    decibels = float(result.out.split("PSNR ")[1].split(" ")[0])
    assert 3 < decibels < 15  # noise, and a model that has learned nothing


def test_swap_of_two_clips_shows_both_ways(trained: Path, clips: Path, out: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("swap", clips / "ann_walk.mp4", clips / "cid_run.npz", "-r", trained, "-o", out, "--scale", 1)
    assert result.code == 0, result
    assert shape(out) == (12, side(2), side(2))
    shown = read(out, FrameSpec(size=side(2)))
    original = read(clips / "cid_run.npz", FrameSpec(size=SIZE))[:12]
    above_right = shown[:, :, :SIZE, -SIZE:].astype(int)
    assert np.abs(above_right - original).mean() < 12  # but for the palette of a gif


def test_a_grid_has_a_row_for_each_movement_and_a_column_for_each_identity(
    trained: Path, clips: Path, out: Path, stillmotion: Stillmotion
) -> None:
    names = ("ann_walk.mp4", "ann_run.gif", "bob_run")
    result = stillmotion(
        "swap", *(clips / name for name in names), "-r", trained, "-o", out, "--grid", "--scale", 1, "--frames", 7, "--start", 2
    )
    assert (result.code, result.out) == (0, f"{out}\n"), result
    assert shape(out) == (7, side(4), side(4))
    shown = read(out, FrameSpec(size=side(4)))
    assert shown[:, :, :SIZE, :SIZE].min() > 245  # an empty corner
    for number, name in enumerate(names, 1):
        original = read(clips / name, FrameSpec(size=SIZE))[2:9]
        place = slice(number * (SIZE + GAP), number * (SIZE + GAP) + SIZE)
        for edge in (shown[:, :, :SIZE, place], shown[:, :, place, :SIZE]):
            assert np.abs(edge.astype(int) - original).mean() < 12


def test_poses_can_be_swapped_between_single_pictures(trained: Path, tmp_path: Path, out: Path, stillmotion: Stillmotion) -> None:
    rng = np.random.default_rng(0)
    pictures = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for path in pictures:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    target = tmp_path / "swapped.png"
    result = stillmotion("swap", *pictures, "-r", trained, "-o", target, "--poses", "--scale", 1)
    assert result.code == 0, result
    with Image.open(target) as image:
        assert image.size == (side(2), side(2))
        above_left = np.asarray(image)[:SIZE, :SIZE].transpose(2, 0, 1)
    with Image.open(pictures[0]) as image:
        square = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(2, 0, 22, 20))
        assert np.array_equal(above_left, np.asarray(square).transpose(2, 0, 1))
    stillmotion("swap", *pictures, "-r", trained, "-o", out).refused("a.png", "a single still picture")
    assert stillmotion("reconstruct", pictures[1], "-r", trained, "-o", out, "--poses").code == 0


def test_poses_of_one_frame_of_a_clip_and_of_clips_of_one_frame(
    trained: Path, clips: Path, tmp_path: Path, out: Path, stillmotion: Stillmotion
) -> None:
    frame = np.full((1, 16, 16, 3), 99, np.uint8)
    np.save(tmp_path / "one.npy", frame)
    write_gif(tmp_path / "one.gif", frame)
    (tmp_path / "one").mkdir()
    Image.fromarray(frame[0]).save(tmp_path / "one" / "frame1.png")
    for name in ("one.npy", "one.gif", "one"):
        result = stillmotion("swap", tmp_path / name, clips / "ann_walk.mp4", "-r", trained, "-o", out, "--poses")
        assert result.code == 0, result
        assert shape(out)[0] == 1
    result = stillmotion(
        "swap", clips / "ann_run.gif", clips / "ann_walk.mp4", "-r", trained, "-o", out, "--poses", "--start", 11, "--frames", 1
    )
    assert result.code == 0, result
    for name in ("one.npy", "one.gif"):
        stillmotion("swap", tmp_path / name, clips / "ann_walk.mp4", "-r", trained, "-o", out).refused(name, "only one frame")


def test_generate_draws_clips_of_any_length(trained: Path, out: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("generate", "-r", trained, "-o", out, "--frames", 40, "--count", 6, "--scale", 1)
    assert (result.code, result.out) == (0, f"{out}\n"), result
    assert shape(out) == (40, side(2), side(4))
    first = out.read_bytes()
    assert stillmotion("generate", "-r", trained / "model", "-o", out, "--frames", 40, "--count", 6, "--scale", 1).code == 0
    assert out.read_bytes() == first
    stillmotion("generate", "-r", trained, "-o", out, "--frames", 40, "--count", 6, "--scale", 1, "--seed", 1)
    assert out.read_bytes() != first


@pytest.mark.parametrize("name", ["x.mp4", "x.webm", "x.png", "x/"])
def test_every_kind_of_output(name: str, trained: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    target = f"{tmp_path}/{name}"
    result = stillmotion("generate", "-r", trained, "-o", target, "--frames", 3, "--count", 2)
    assert result.code == 0, result
    if name == "x.png":
        with Image.open(target) as image:
            assert image.size == (3 * side(2, 2), SIZE * 2)
    else:
        assert len(np.concatenate(list(read_frames(Path(target), FrameSpec())))) == 3


def test_commands_on_clips_share_the_options_that_choose_frames_and_the_way_they_are_written() -> None:
    options = [get_type_hints(command, include_extras=True) for command in (use.reconstruct, use.swap, impute.impute, impute.predict)]
    for name in ("run", "output", "start", "fps", "scale"):
        assert all(hints[name] == options[0][name] for hints in options), name
    assert all("frames" in hints for hints in options)


def test_frames_are_read_as_they_were_for_training(trained: Path) -> None:
    model, spec, steps = trained_in(trained)
    assert (spec, steps) == (FrameSpec(size=16), 6)
    assert model.frame_shape == spec.frame_shape


# codes


@pytest.mark.parametrize("name", ["codes.npz", "codes.parquet"])
def test_embed_writes_a_row_for_each_window(name: str, trained: Path, clips: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("embed", clips, "-r", trained, "-o", tmp_path / name, "--cache", trained.parent / "data" / "videos")
    assert result.code == 0, result
    if name.endswith("npz"):
        with np.load(tmp_path / name, allow_pickle=False) as file:
            table = {column: file[column].tolist() for column in file.files}
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / name).to_pydict()
    assert set(table) == {"file", "start", "frames", "static", "dynamic"}
    lengths = {
        "ann_walk.mp4": 12,
        "ann_run.gif": 13,
        "bob_walk.npy": 14,
        "bob_run": 15,
        "cid_walk.webm": 16,
        "cid_run.npz": 17,
        "dan_walk.mp4": 18,
    }
    expected = {file: [*range(0, frames - 6, 6), frames - 6] for file, frames in lengths.items()}
    found: dict[str, list[int]] = {}
    for file, start in zip(table["file"], table["start"], strict=True):
        found.setdefault(file, []).append(start)
    assert found == expected
    assert set(table["frames"]) == {6}
    assert {len(row) for row in table["static"] + table["dynamic"]} == {3}
    assert result.out == f"{tmp_path / name}  ({len(table['file'])} windows of 7 clips)\n"
    assert all(bad in result.err for bad in ("cut.mp4", "empty.gif", "sound.mp4"))


def test_embed_without_pyarrow(
    trained: Path, clips: Path, tmp_path: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    cache = ("--cache", trained.parent / "data" / "videos")
    stillmotion("embed", clips, "-r", trained, "-o", tmp_path / "codes.parquet", *cache).refused("pip install 'stillmotion[parquet]'")
    assert not list(tmp_path.iterdir())


# refusals


def test_clips_that_are_none_are_refused_by_name(trained: Path, clips: Path, tmp_path: Path, out: Path, stillmotion: Stillmotion) -> None:
    (tmp_path / "junk.mp4").write_bytes(b"\x17junk" * 50)
    (tmp_path / "empty.mp4").touch()
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "none").mkdir()
    reasons = {
        "junk.mp4": "its content is no video", "empty.mp4": "the file is empty", "sound.mp4": "no pictures in it",
        "gone.mp4": "cannot be opened",
        "none": "no frame can be decoded",
    }  # fmt: skip
    for poses in ([], ["--poses"]):
        for name, reason in reasons.items():
            stillmotion("swap", clips / "ann_walk.mp4", tmp_path / name, "-r", trained, "-o", out, *poses).refused(name, reason)
    assert not out.exists()


def test_a_picture_that_is_broken_is_refused_for_its_pose_too(trained: Path, clips: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    stillmotion("swap", clips / "ann_walk.mp4", tmp_path / "cut.png", "-r", trained, "--poses").refused("cut.png", "cannot be read")


@pytest.mark.parametrize(("options", "words"), [
    (("--frames", 1), ("2 frames or more", "got 1 frames", "--poses")),
    (("--frames", 0), ("2 frames or more", "got 0 frames")),
    (("--start", -1), ("from frame 0 or a later one", "from frame -1")),
    (("--start", 11), ("two frames or more from frame 11 on", "ann_walk.mp4, which has 12 frames", "Start earlier")),
    (("--poses", "--start", 12), ("a frame or more from frame 12 on",)),
    (("--fps", 0), ("frames per second",)),
    (("--scale", 0), ("a scale of 1 or more",)),
])  # fmt: skip
def test_frames_that_are_not_there_are_refused(
    options: tuple[object, ...], words: tuple[str, ...], trained: Path, clips: Path, out: Path, stillmotion: Stillmotion
) -> None:
    stillmotion("swap", clips / "ann_walk.mp4", clips / "bob_run", "-r", trained, "-o", out, *options).refused(*words)
    assert not out.exists()


def test_a_swap_needs_two_clips(trained: Path, clips: Path, stillmotion: Stillmotion) -> None:
    clip = clips / "ann_walk.mp4"
    stillmotion("swap", clip, "-r", trained).refused("two clips, or --grid with two or more, got 1")
    stillmotion("swap", clip, clip, clip, "-r", trained).refused("got 3")


@pytest.mark.parametrize(("name", "words"), [
    ("x.mov", ("a known ending", "x.mov", ".gif")), ("x", ("a known ending",)), ("file/x.gif", ("a place to write to",)),
])  # fmt: skip
def test_outputs_that_cannot_be_written_are_refused(
    name: str, words: tuple[str, ...], trained: Path, tmp_path: Path, stillmotion: Stillmotion
) -> None:
    (tmp_path / "file").write_text("mine")
    stillmotion("generate", "-r", trained, "-o", tmp_path / name, "--frames", 2).refused(*words)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_older_output_outlives_a_write_that_fails(
    trained: Path, out: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.write_text("older")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        stillmotion("generate", "-r", trained, "-o", out, "--frames", 2).refused("out.gif (No space left on device)", "Free some space")
    assert out.read_text() == "older"
    assert [path.name for path in out.parent.iterdir()] == ["out.gif"]
    folder = out.parent / "frames"
    folder.mkdir()
    (folder / "mine.txt").write_text("older")
    stillmotion("generate", "-r", trained, "-o", f"{folder}/", "--frames", 2).refused("a new or empty folder")
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "model", tmp_path / "model"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_models_that_are_none_are_refused(model: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    def refused(path: Path, *words: str) -> None:
        stillmotion("generate", "-r", path, "-o", tmp_path / "x.gif").refused(*words)

    refused(tmp_path / "gone", "gone", "stillmotion train")
    refused(tmp_path / "weights.ckpt", "a pickle", "can run any code")
    (model / "model.safetensors").write_bytes(b"cut")
    refused(model, "model.safetensors, which is damaged or missing")
    change(model, model="gan")
    refused(model, "damaged or missing")
    (model / "config.json").write_text("{}")
    refused(model, "config.json, which lacks", "another program")
    assert not (tmp_path / "x.gif").exists()


def test_a_model_saved_without_its_facts_generates_but_reads_no_clips(
    trained: Path, clips: Path, out: Path, model: Path, stillmotion: Stillmotion
) -> None:
    for facts in ({}, {"steps": 6, "frames": {"breadth": 16}}):
        change(model, facts=facts)
        stillmotion("reconstruct", clips / "ann_walk.mp4", "-r", model, "-o", out).refused("the facts frames and steps", str(model))
    assert stillmotion("generate", "-r", model, "-o", out, "--frames", 2).code == 0


def test_frames_of_another_size_than_the_model_takes_are_refused(clips: Path, out: Path, model: Path, stillmotion: Stillmotion) -> None:
    change(model, facts={"steps": 6, "frames": {"size": 32}})
    stillmotion("reconstruct", clips / "ann_walk.mp4", "-r", model, "-o", out).refused("(3, 16, 16)", "(3, 32, 32)")
