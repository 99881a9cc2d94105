from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from video_files import ramp, write_gif, write_pictures

from stillmotion.core.errors import UserError
from stillmotion.data.clipfiles import find_clips


def names(folder: Path) -> list[str]:
    return [clip.name for clip in find_clips(folder)]


def test_clips_are_found_at_any_depth_in_counting_order(tmp_path: Path) -> None:
    for name in ("b/clip10.mp4", "b/clip9.mp4", "a.AVI", "b/c/d.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.AVI", "b/c/d.npy", "b/clip9.mp4", "b/clip10.mp4"]


def test_hidden_and_unrelated_files_are_passed_over(tmp_path: Path) -> None:
    for name in (".hidden.mp4", ".folder/clip.mp4", "x.stillmotion/clip.mp4", "README.md", "labels.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    assert names(tmp_path) == []


def test_a_clip_without_an_ending_is_found_by_its_content(tmp_path: Path) -> None:
    write_gif(tmp_path / "clip.backup", ramp(2))
    assert names(tmp_path) == ["clip.backup"]


def test_numbered_pictures_are_one_clip_and_others_are_their_own(tmp_path: Path) -> None:
    write_pictures(tmp_path / "clip", ramp(3))
    Image.fromarray(ramp(1)[0]).save(tmp_path / "clip" / "cover.png")
    Image.fromarray(ramp(1)[0]).save(tmp_path / "photo1.jpg")
    assert names(tmp_path) == ["clip", "clip/cover.png", "photo1.jpg"]


def test_the_folder_itself_may_be_a_clip(tmp_path: Path) -> None:
    write_pictures(tmp_path / "clip", ramp(3))
    assert names(tmp_path / "clip") == ["."]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "clip.mp4").touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == ["a/clip.mp4", "broken.mp4"]


def test_a_name_that_is_no_text_can_still_be_printed(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/clip\xff.mp4"))).touch()
    (name,) = names(tmp_path)
    assert name.encode() == "clip\ufffd.mp4".encode()


def test_something_else_than_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone, which is not there"):
        find_clips(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="which is a file"):
        find_clips(tmp_path / "file")
