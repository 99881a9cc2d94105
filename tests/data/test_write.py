from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from video_files import read

from stillmotion.core.errors import UserError
from stillmotion.data import write
from stillmotion.data.fitting import FrameSpec
from stillmotion.data.write import tile, write_video


def picture(steps: int = 8, size: int = 16) -> Tensor:
    """A bright square that walks over two-coloured ground; float (T, 3, size, size)."""
    frames = torch.zeros(steps, 3, size, size)
    frames[:, 0], frames[:, 2, size // 2 :] = 0.6, 0.8
    for step in range(steps):
        frames[step, :, 4:8, step : step + 4] = 1.0
    return frames


@pytest.mark.parametrize(("name", "most"), [("clip.gif", 1), ("clip.mp4", 12), ("clip.webm", 12), ("clip/", 1)])
def test_what_is_written_reads_back(tmp_path: Path, name: str, most: int) -> None:
    frames = picture()
    path = write_video(frames, f"{tmp_path}/{name}", fps=10, scale=4)
    back = read(path, FrameSpec(size=64))
    expected = (frames * 255).round().repeat_interleave(4, 2).repeat_interleave(4, 3).numpy()
    assert back.shape == expected.shape
    assert np.abs(back - expected).mean() < most
    assert [entry.name for entry in tmp_path.iterdir()] == [Path(name).name]


def test_frames_per_second_are_kept(tmp_path: Path) -> None:
    for name in ("clip.gif", "clip.mp4", "clip.webm"):
        path = write_video(picture(10), tmp_path / name, fps=20)
        assert len(read(path, FrameSpec(size=16, fps=10))) == 5, name


def test_a_film_strip_is_exact(tmp_path: Path) -> None:
    frames = (picture(3) * 255).round().byte()
    strip = np.asarray(Image.open(write_video(frames, tmp_path / "strip.png")))
    assert (strip == np.concatenate(list(frames.permute(0, 2, 3, 1).numpy()), 1)).all()


def test_still_ground_does_not_flicker_in_a_gif(tmp_path: Path) -> None:
    """Ground with more colours than a palette holds stays the same from frame to frame."""
    ground = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    frames = ground.repeat(6, 1, 1, 1)
    for step in range(6):
        frames[step, :, :4, :4] = step / 6
    back = read(write_video(frames, tmp_path / "clip.gif"), FrameSpec(size=32))
    assert (back[:, :, 8:] == back[:1, :, 8:]).all()
    assert np.abs(back[0, :, 8:] / 255 - frames[0, :, 8:].numpy()).mean() < 0.06


def test_a_gif_loops(tmp_path: Path) -> None:
    assert Image.open(write_video(picture(), tmp_path / "clip.gif")).info["loop"] == 0


def test_odd_sizes_and_grey(tmp_path: Path) -> None:
    path = write_video(torch.full((4, 1, 15, 17), 0.5), tmp_path / "clip.mp4")
    assert np.abs(read(path, FrameSpec(size=16)).astype(int) - 128).max() < 4


def test_values_outside_are_clipped(tmp_path: Path) -> None:
    frames = torch.tensor([-0.5, 1.5]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    assert read(write_video(frames, f"{tmp_path}/clip/"), FrameSpec(size=8)).mean((1, 2, 3)).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("frames", "name", "options", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "clip.xyz", {}, "a known ending, got 'clip.xyz'. Known are .gif, .mp4, .webm, .png"),
        (torch.zeros(2, 3, 8, 8), "clip", {}, "a known ending, got 'clip'"),
        (torch.zeros(2, 8, 8), "clip.gif", {}, r"frames of shape (T, C, H, W) with 1 or 3 channels, got shape (2, 8, 8)"),
        (torch.zeros(2, 8, 8, 3), "clip.gif", {}, "got shape (2, 8, 8, 3)"),
        (torch.zeros(0, 3, 8, 8), "clip.gif", {}, "got shape (0, 3, 8, 8)"),
        (torch.full((2, 3, 8, 8), torch.nan), "clip.gif", {}, "finite pixels, got NaN"),
        (torch.zeros(2, 3, 8, 8), "clip.gif", {"scale": 0}, "a scale of 1 or more, got 0"),
        (torch.zeros(2, 3, 8, 8), "clip.gif", {"fps": 0}, "frames per second above 0"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, frames: Tensor, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        write_video(frames, tmp_path / name, **options)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="a new or empty folder"):
        write_video(picture(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.gif"
    path.write_text("old")

    def full(pixels: object, place: Path, fps: float) -> None:
        place.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write, "_gif", full)
    with pytest.raises(UserError, match=r"clip.gif \(No space left on device\). Free some space"):
        write_video(picture(), path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file/clip.gif", "file/clip/"):
        with pytest.raises(UserError, match="a place to write to"):
            write_video(picture(), f"{tmp_path}/{name}")


def test_without_pyav_or_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.codecs_available", set())
    with pytest.raises(UserError, match="an encoder for mp4"):
        write_video(picture(), tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'stillmotion\[video\]'"):
        write_video(picture(), tmp_path / "clip.webm")


@pytest.mark.parametrize("missing", ["libx264", "libvpx-vp9"])
def test_another_encoder_steps_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    import av

    monkeypatch.setattr("av.codecs_available", av.codecs_available - {missing})
    path = write_video(picture(), tmp_path / ("clip.mp4" if missing == "libx264" else "clip.webm"), scale=4)
    assert np.abs(read(path, FrameSpec(size=16)) / 255 - picture().numpy()).mean() < 0.08


def test_tiles_lie_where_they_belong() -> None:
    clips = torch.arange(6.0).view(2, 3, 1, 1, 1, 1).expand(2, 3, 4, 1, 2, 5) / 10
    plain = tile(clips, gap=1)
    assert plain.shape == (4, 1, 5, 17)
    assert plain[0, 0, :, 0].tolist() == pytest.approx([0.0, 0.0, 1.0, 0.3, 0.3])
    assert plain[3, 0, 4].tolist() == pytest.approx([0.3] * 5 + [1] + [0.4] * 5 + [1] + [0.5] * 5)
    framed = tile(clips, gap=1, header=clips[1], side=clips[:, 2])
    assert framed.shape == (4, 1, 5 + 2 + 4, 17 + 5 + 4)
    assert torch.equal(framed[..., 6:, 9:], plain)
    assert (framed[..., :2, :9] == 1).all()
    assert framed[0, 0, 0, 9:14].tolist() == pytest.approx([0.3] * 5)
    assert framed[0, 0, 9, :5].tolist() == pytest.approx([0.5] * 5)


def test_tiles_from_lists_and_of_bytes() -> None:
    clip = torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    tiled = tile([[clip, clip]])
    assert tiled.dtype == torch.uint8
    assert sorted(tiled.unique().tolist()) == [7, 255]


def test_tiles_of_the_wrong_shape() -> None:
    clips = torch.zeros(2, 3, 4, 1, 2, 2)
    with pytest.raises(UserError, match=r"\(rows, columns, T, C, H, W\), got shape \(3, 4, 1, 2, 2\)"):
        tile(clips[0])
    with pytest.raises(UserError, match=r"a header of shape \(3, 4, 1, 2, 2\), got shape \(2, 4, 1, 2, 2\)"):
        tile(clips, header=clips[:, 0])
