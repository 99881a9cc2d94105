from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_files import numbers, ramp, read

from stillmotion.core.errors import FileRefused
from stillmotion.data.fitting import FrameSpec


def refused(path: Path) -> str:
    with pytest.raises(FileRefused) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 8, 8), np.int64), "an array of int64"),
        (np.zeros((4, 8, 8, 5), np.uint8), "an array of shape (4, 8, 8, 5)"),
        (np.zeros((0, 8, 8), np.uint8), "an array of shape (0, 8, 8)"),
        (np.zeros(8, np.uint8), "an array of shape (8,)"),
        (np.full((3, 8, 8), 1.5), "pixels outside [0, 1] in frame 0"),
        (np.full((3, 8, 8), np.nan, np.float32), "pixels outside [0, 1] in frame 0"),
        (np.array([{"not": "frames"}], dtype=object), "pickled Python objects"),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_arrays_that_are_no_clip(tmp_path: Path, array: Any, reason: str, ending: str) -> None:
    path = tmp_path / f"clip.{ending}"
    if ending == "npy":
        np.save(path, array)
    else:
        np.savez(path, frames=array)
    assert reason in refused(path)


def test_damaged_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", ramp())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "clip.npy").read_bytes()[:500])
    assert "damaged or truncated array file" in refused(tmp_path / "cut.npy")
    np.savez(tmp_path / "clip.npz", ramp())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "clip.npz").read_bytes()[:500])
    assert "damaged or truncated array file" in refused(tmp_path / "cut.npz")


def test_archives_name_their_frames(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=ramp(3), b=ramp(4))
    assert "holds 2 arrays and none is called frames" in refused(tmp_path / "two.npz")
    np.savez(tmp_path / "one.npz", anything=ramp(3))
    assert numbers(read(tmp_path / "one.npz")) == [0, 1, 2]


def test_an_archive_that_unpacks_too_large(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", np.zeros((100, 64, 64), np.uint8))
    with pytest.raises(FileRefused, match="unpacks to 409,728 bytes, over the limit of 5,000"):
        read(tmp_path / "bomb.npz", FrameSpec(size=16, max_bytes=5000))


def test_transparent_channel_is_dropped(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.concatenate([ramp(3), np.zeros((3, 16, 16, 1), np.uint8)], -1))
    assert numbers(read(tmp_path / "clip.npy")) == [0, 1, 2]
