from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from video_files import CODECS, numbers, ramp, read, write_av, write_gif, write_one_of_each, write_pictures, write_sound

from stillmotion.core.errors import FileRefused
from stillmotion.data import decode
from stillmotion.data.decode import kind_of, natural, read_frames
from stillmotion.data.fitting import FrameSpec


def test_every_kind_gives_the_same_frames(tmp_path: Path) -> None:
    for name in write_one_of_each(tmp_path):
        frames = read(tmp_path / name)
        assert frames.shape == (12, 3, 16, 16), name
        assert frames.dtype == np.uint8
        assert numbers(frames) == list(range(12)), name


@pytest.mark.parametrize("ending", ["gif", "npy", "png"])
def test_lossless_kinds_are_exact(tmp_path: Path, ending: str) -> None:
    write_one_of_each(tmp_path)
    path = tmp_path / ("png" if ending == "png" else f"clip.{ending}")
    assert (read(path) == ramp().transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("kind", list(CODECS))
def test_stride_and_rate_pick_the_right_frames(tmp_path: Path, kind: str) -> None:
    path = write_av(tmp_path / f"clip.{kind}", ramp(), fps=10)
    assert numbers(read(path, FrameSpec(size=16, stride=3))) == [0, 3, 6, 9]
    assert numbers(read(path, FrameSpec(size=16, fps=5))) == [0, 2, 4, 6, 8, 10]
    assert numbers(read(path, FrameSpec(size=16, fps=10))) == list(range(12))
    assert numbers(read(path, FrameSpec(size=16, fps=5, stride=2))) == [0, 4, 8]


def test_rate_of_a_gif_goes_by_its_own_clock(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "clip.gif", ramp(), duration=50)
    assert numbers(read(path, FrameSpec(size=16, fps=10))) == [0, 2, 4, 6, 8, 10]


def test_rate_without_a_clock_keeps_all_frames_and_says_so(tmp_path: Path) -> None:
    notes: list[str] = []
    assert len(read(write_pictures(tmp_path / "clip", ramp(5)), FrameSpec(size=16, fps=3), notes)) == 5
    assert notes == ["has no clock: the target rate has no effect, all frames are kept"]


@pytest.mark.parametrize("layout", ["FHW", "FHWC", "FCHW", "float"])
def test_array_layouts(tmp_path: Path, layout: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    stored: Any = {"FHW": frames[..., 0], "FHWC": frames, "FCHW": frames.transpose(0, 3, 1, 2), "float": frames / 255}[layout]
    np.save(tmp_path / "clip.npy", stored)
    expected = frames[..., :1].repeat(3, 3) if layout == "FHW" else frames
    assert (read(tmp_path / "clip.npy") == expected.transpose(0, 3, 1, 2)).all()


def test_a_telling_name_is_not_needed(tmp_path: Path) -> None:
    assert numbers(read(write_gif(tmp_path / "really_a_gif.mp4", ramp(4)))) == [0, 1, 2, 3]
    assert numbers(read(write_av(tmp_path / "really_an_mp4.avi", ramp(4), container="mp4"))) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["png", "bmp"])
def test_folders_of_pictures_of_every_kind(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, frame in enumerate(ramp(4)):
        Image.fromarray(frame).save(folder / f"frame_det_00_{number:06d}.{kind}")
    assert numbers(read(folder)) == [0, 1, 2, 3]


def test_turned_pictures_are_set_upright(tmp_path: Path) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in (1, 2):
        Image.fromarray(upright[::-1, ::-1]).save(folder / f"{number}.jpg", exif=exif, quality=95)
    frame = read(folder)[0, 0]
    assert frame[:6].min() > 200
    assert frame[10:].max() < 50


def refusal(path: Path, spec: FrameSpec | None = None) -> str:
    with pytest.raises(FileRefused) as caught:
        read(path, spec)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.npy"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "the file is empty" in refusal(tmp_path / name)


@pytest.mark.parametrize("content", [b"this is a text\n" * 50, bytes(3000), b"#EXTM3U\nhttp://127.0.0.1/x.ts\n"])
def test_other_content_under_the_name_of_a_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    assert "no video that is understood" in refusal(tmp_path / "clip.mp4")


@pytest.mark.parametrize("kind", list(CODECS))
def test_junk_behind_a_true_beginning(tmp_path: Path, kind: str) -> None:
    head = write_av(tmp_path / f"clip.{kind}", ramp()).read_bytes()[:60]
    (tmp_path / f"junk.{kind}").write_bytes(head + np.random.default_rng(0).bytes(4000))
    assert f"junk.{kind}" in refusal(tmp_path / f"junk.{kind}")


def test_truncated_before_the_index(tmp_path: Path) -> None:
    whole = write_av(tmp_path / "clip.mp4", ramp()).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert "damaged or truncated" in refusal(tmp_path / "cut.mp4")


@pytest.mark.parametrize(("kind", "options"), [("mp4", {"movflags": "+faststart"}), ("avi", {}), ("mkv", {})])
def test_truncated_later_keeps_what_is_there_and_says_so(tmp_path: Path, kind: str, options: dict[str, str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    whole = write_av(tmp_path / f"clip.{kind}", noise, options=options).read_bytes()
    (tmp_path / f"cut.{kind}").write_bytes(whole[: len(whole) * 6 // 10])
    notes: list[str] = []
    frames = read(tmp_path / f"cut.{kind}", notes=notes)
    assert 10 < len(frames) < 36
    assert len(notes) == 1
    assert f"after {len(frames)} frames" in notes[0]


def test_truncated_gif_keeps_what_is_there_and_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    whole = write_gif(tmp_path / "clip.gif", noise).read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) * 6 // 10])
    notes: list[str] = []
    assert 2 <= len(read(tmp_path / "cut.gif", notes=notes)) < 10
    assert notes


def test_sound_alone(tmp_path: Path) -> None:
    assert "no pictures in it" in refusal(write_sound(tmp_path / "song.mp4"))
    (tmp_path / "song.mp3").write_bytes(b"ID3" + bytes(100))
    assert "sound without pictures" in refusal(tmp_path / "song.mp3")


def test_clips_of_one_frame(tmp_path: Path) -> None:
    assert "only one frame;" in refusal(write_av(tmp_path / "one.mp4", ramp(1)))
    assert "only one frame;" in refusal(write_gif(tmp_path / "one.gif", ramp(1)))
    np.save(tmp_path / "one.npy", ramp(1))
    assert "only one frame;" in refusal(tmp_path / "one.npy")
    assert "after thinning" in refusal(write_av(tmp_path / "few.mp4", ramp(5)), FrameSpec(size=16, stride=5))
    Image.fromarray(ramp(1)[0]).save(tmp_path / "photo.png")
    assert "a single still picture" in refusal(tmp_path / "photo.png")


def test_limits(tmp_path: Path) -> None:
    path = write_av(tmp_path / "clip.mp4", ramp(12))
    assert "over the limit of 255" in refusal(path, FrameSpec(max_pixels=255))
    assert "more than 5 frames" in refusal(path, FrameSpec(max_frames=5))
    assert "longer than 0.5 seconds" in refusal(path, FrameSpec(max_seconds=0.5))
    assert "bytes, over the limit of 10" in refusal(path, FrameSpec(max_bytes=10))
    assert "over the limit of 255" in refusal(write_gif(tmp_path / "clip.gif", ramp(3)), FrameSpec(max_pixels=255))
    assert "over the limit of 255" in refusal(write_pictures(tmp_path / "clip", ramp(3)), FrameSpec(max_pixels=255))


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be opened (No such file" in refusal(tmp_path / "gone.mp4")
    path = write_av(tmp_path / "clip.mp4", ramp(3))

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert "cannot be opened (Permission denied)" in refusal(path)


def test_without_pyav_only_videos_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_av(tmp_path / "clip.mp4", ramp(3))
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install 'stillmotion[video]'" in refusal(path)
    assert numbers(read(write_gif(tmp_path / "clip.gif", ramp(3)))) == [0, 1, 2]


def test_a_decoder_that_breaks_in_its_own_way_refuses_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gif(tmp_path / "clip.gif", ramp(3))
    monkeypatch.setattr(decode, "_opaque", lambda image: 1 / 0)
    assert "cannot be decoded (ZeroDivisionError" in refusal(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    write_one_of_each(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_and_nothing_else(whole: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(whole)))
    content = bytearray(whole[name])
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=20)):
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            count, *shape = read(path, FrameSpec(size=16, max_frames=1000)).shape
        except FileRefused:
            return
    assert count >= 2
    assert shape == [3, 16, 16]


def test_a_picture_code_that_nobody_knows(tmp_path: Path) -> None:
    path = write_av(tmp_path / "clip.mp4", ramp())
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert "coded in a way that is not understood" in refusal(path)


def test_a_broken_picture_is_left_out(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "clip", ramp(5))
    (folder / "frame3.png").write_bytes(b"\x89PNG junk")
    notes: list[str] = []
    assert numbers(read(folder, notes=notes)) == [0, 1, 3, 4]
    assert notes == ["frame3.png cannot be read and is left out"]


def test_pieces_are_bounded_however_long_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of 40 large frames passes through in pieces of four small ones, and only a few large ones live at a time."""
    alive, most = 0, 0
    real = decode._video_frame

    def counted(frame: Any, spec: FrameSpec, aspect: float) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return real(frame, spec, aspect)

    monkeypatch.setattr(decode, "_video_frame", counted)
    monkeypatch.setattr(decode, "CHUNK_BYTES", 4 * 3 * 16 * 16)
    total = 0
    for piece in read_frames(write_av(tmp_path / "clip.mp4", ramp(26, 64, 64)), FrameSpec(size=16)):
        assert len(piece) <= 4
        total += len(piece)
        alive = 0
    assert total == 26
    assert most <= 4


def test_kinds_by_content(tmp_path: Path) -> None:
    write_one_of_each(tmp_path)
    found = {name: kind_of(tmp_path / f"clip.{name}") for name in (*CODECS, "gif", "npy", "npz")}
    assert found == {
        "mp4": "mov", "mov": "mov", "webm": "matroska", "mkv": "matroska", "avi": "avi", "gif": "gif", "npy": "npy", "npz": "npz",
    }  # fmt: skip


def test_natural_order() -> None:
    assert sorted(["a10", "a9", "b1", "a"], key=natural) == ["a", "a9", "a10", "b1"]
