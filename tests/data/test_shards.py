from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from video_files import levels, numbers, ramp, write_av, write_gif, write_one_of_each, write_pictures

from stillmotion.core.errors import UserError
from stillmotion.data import shards
from stillmotion.data.fitting import FrameSpec
from stillmotion.data.shards import Prepared, Source, prepare, scan

SPEC = FrameSpec(size=16)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips of 3, 4 and 5 frames."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, count in (("a", 3), ("b", 4), ("c", 5)):
        write_gif(folder / f"{name}.gif", ramp(count))
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded, as it happens."""
    names: list[str] = []
    real = shards.read_frames

    def counted(path: Path, *rest: Any) -> Iterator[Any]:
        names.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(shards, "read_frames", counted)
    return names


def frames_of(prepared: Prepared, name: str) -> list[int]:
    source = next(source for source in prepared.sources if source.name == name)
    return numbers(prepared.frames[source.start : source.start + source.frames].numpy())


def test_a_mixed_folder_gives_all_good_clips_and_names_the_bad(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = write_one_of_each(folder)
    whole = (folder / "clip.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.webm").touch()
    (folder / "text.avi").write_text("not a video " * 40)
    (folder / "notes.txt").write_text("nothing to do with clips")
    prepared = prepare(folder, SPEC, tmp_path / "cache")
    assert sorted(source.name for source in prepared.sources) == sorted(good)
    assert [bad.name for bad in prepared.refused] == ["cut.mp4", "empty.webm", "text.avi"]
    assert all(bad.reason and bad.remedy and str(folder) not in bad.reason for bad in prepared.refused)
    assert prepared.frames.shape == (12 * len(good), 3, 16, 16)
    assert prepared.frames.dtype == torch.uint8
    for name in good:
        assert frames_of(prepared, name) == list(range(12)), name


def test_a_clip_refused_half_way_leaves_nothing_behind(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillmotion.data.decode.CHUNK_BYTES", 2 * 16 * 16 * 3)
    prepared = prepare(clips, FrameSpec(size=16, max_frames=4), tmp_path / "cache")
    assert [bad.name for bad in prepared.refused] == ["c.gif"]
    array = np.full((5, 16, 16), 0.5)
    array[4] = 2.0
    np.save(clips / "a.npy", array)
    prepared = prepare(clips, SPEC, tmp_path / "cache")
    assert [(s.name, s.start, s.frames) for s in prepared.sources] == [("a.gif", 0, 3), ("b.gif", 3, 4), ("c.gif", 7, 5)]
    assert numbers(prepared.frames.numpy()) == [0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4]


def test_a_second_run_decodes_nothing(clips: Path, tmp_path: Path, decoded: list[str]) -> None:
    (clips / "bad.mp4").touch()
    first = prepare(clips, SPEC, tmp_path / "cache")
    assert (first.decoded, decoded) == (4, ["a.gif", "b.gif", "bad.mp4", "c.gif"])
    second = prepare(clips, SPEC, tmp_path / "cache")
    assert (second.decoded, len(decoded)) == (0, 4)
    assert second.check == "verified in full (SHA-256)"
    assert torch.equal(first.frames, second.frames)
    assert (first.sources, first.refused) == (second.sources, second.refused)


def test_only_what_changed_is_decoded_again(clips: Path, tmp_path: Path, decoded: list[str]) -> None:
    prepare(clips, SPEC, tmp_path / "cache")
    decoded.clear()
    write_gif(clips / "b.gif", ramp(6))
    write_gif(clips / "d.gif", ramp(2))
    (clips / "a.gif").unlink()
    prepared = prepare(clips, SPEC, tmp_path / "cache")
    assert decoded == ["b.gif", "d.gif"]
    assert prepared.decoded == 2
    assert {s.name: frames_of(prepared, s.name) for s in prepared.sources} == {
        "b.gif": [0, 1, 2, 3, 4, 5], "c.gif": [0, 1, 2, 3, 4], "d.gif": [0, 1],
    }  # fmt: skip
    assert len(list(prepared.place.iterdir())) == 2


def test_a_picture_replaced_within_a_folder_is_noticed(tmp_path: Path, decoded: list[str]) -> None:
    folder = tmp_path / "clips"
    pictures = write_pictures(folder / "one", ramp(3))
    prepare(folder, SPEC, tmp_path / "cache")
    os.utime(pictures / "frame2.png", ns=(1, 1))
    prepare(folder, SPEC, tmp_path / "cache")
    assert decoded == ["one", "one"]


@pytest.mark.parametrize("damage", ["byte", "cut", "gone", "index", "foreign"])
def test_a_damaged_store_is_noticed_and_made_again(clips: Path, tmp_path: Path, decoded: list[str], damage: str) -> None:
    place = prepare(clips, SPEC, tmp_path / "cache").place
    store, index = next(place.glob("*.u8")), place / "index.json"
    if damage == "byte":
        data = bytearray(store.read_bytes())
        data[1000] ^= 1
        store.write_bytes(data)
    elif damage == "cut":
        store.write_bytes(store.read_bytes()[:-1])
    elif damage == "gone":
        store.unlink()
    elif damage == "index":
        index.write_text(index.read_text()[:100])
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "layout": 99}))
    decoded.clear()
    prepared = prepare(clips, SPEC, tmp_path / "cache")
    assert decoded == ["a.gif", "b.gif", "c.gif"]
    assert frames_of(prepared, "b.gif") == [0, 1, 2, 3]


def test_large_stores_are_checked_by_samples_and_this_is_said(
    clips: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "FULL_CHECK_BYTES", 0)
    prepare(clips, SPEC, tmp_path / "cache")
    again = prepare(clips, SPEC, tmp_path / "cache")
    assert again.check == "verified by size and 64 sampled blocks"
    store = next(again.place.glob("*.u8"))
    store.write_bytes(bytes(store.stat().st_size))
    assert prepare(clips, SPEC, tmp_path / "cache").decoded == 3


def test_another_decoder_reads_again(clips: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_decoder", lambda: None)
    prepare(clips, SPEC, tmp_path / "cache")
    monkeypatch.setattr(shards, "_decoder", lambda: "99")
    assert prepare(clips, SPEC, tmp_path / "cache").decoded == 3


def test_specs_and_folders_do_not_share_a_store(clips: Path, tmp_path: Path) -> None:
    places = {prepare(clips, spec, tmp_path / "cache").place for spec in (SPEC, FrameSpec(size=8), FrameSpec(size=16, grey=True))}
    assert len(places) == 3
    assert prepare(clips, FrameSpec(size=16, grey=True), tmp_path / "cache").frames.shape == (12, 1, 16, 16)


def test_the_cache_may_lie_among_the_videos(clips: Path, decoded: list[str]) -> None:
    first = prepare(clips, SPEC, clips)
    assert prepare(clips, SPEC, clips).sources == first.sources
    assert len(decoded) == 3


def test_writing_into_the_frames_never_reaches_the_file(clips: Path, tmp_path: Path) -> None:
    prepare(clips, SPEC, tmp_path / "cache").frames[:] = 0
    assert numbers(prepare(clips, SPEC, tmp_path / "cache").frames.numpy())[:3] == [0, 1, 2]


def test_a_full_disk_is_said_and_leaves_nothing(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(store: object, piece: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "_keep", full)
    with pytest.raises(UserError, match=r"a full disk at .*Free some space"):
        prepare(clips, SPEC, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_cache_that_cannot_be_written(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(UserError, match="a cache folder that can be written"):
        prepare(clips, SPEC, tmp_path / "cache")


def test_an_interrupted_run_leaves_nothing_and_old_drafts_are_swept(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards, "read_frames", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(clips, SPEC, tmp_path / "cache")
    place = next((tmp_path / "cache").iterdir())
    assert not list(place.iterdir())
    old, live = place / "old.tmp", place / "live.tmp"
    old.touch()
    live.touch()
    os.utime(old, (0, 0))
    prepare(clips, SPEC, tmp_path / "cache")
    assert not old.exists()
    assert live.exists()


def test_nothing_readable_lists_ten_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    with pytest.raises(UserError, match=r"which holds none\. Understood are mp4, mov, webm"):
        prepare(folder, SPEC, tmp_path / "cache")
    for number in range(12):
        (folder / f"{number}.mp4").touch()
    with pytest.raises(UserError) as caught:
        prepare(folder, SPEC, tmp_path / "cache")
    text = str(caught.value)
    assert "none of 12 files can be read" in text
    assert "\n  9.mp4: the file is empty. Copy or export it again." in text
    assert "\n  10.mp4" not in text
    assert "and 2 more" in text


def test_scan_finds_the_same_and_writes_nothing(clips: Path, tmp_path: Path) -> None:
    (clips / "bad.mp4").touch()
    sources, refused = scan(clips, SPEC)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips"]
    prepared = prepare(clips, SPEC, tmp_path / "cache")
    assert (tuple(sources), tuple(refused)) == (prepared.sources, prepared.refused)


def test_odd_things_are_noted_and_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    (write_pictures(folder / "one", ramp(3)) / "frame2.png").write_bytes(b"junk")
    for _ in range(2):
        prepared = prepare(folder, SPEC, tmp_path / "cache")
        stamp = prepared.sources[0].stamp
        assert prepared.sources == (Source("one", stamp, 0, 2, ("frame2.png cannot be read and is left out",)),)


def test_progress_is_reported(clips: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    prepare(clips, SPEC, tmp_path / "cache", lambda *call: calls.append(call))
    assert calls == [(0, 3, "a.gif"), (1, 3, "b.gif"), (2, 3, "c.gif"), (3, 3, "")]


def test_the_ramp_survives_compression(tmp_path: Path) -> None:
    """The oracle of these tests: grey levels differ by more than compression changes them."""
    prepared = prepare(write_av(tmp_path / "clip.mp4", ramp(20)).parent, SPEC, tmp_path / "cache")
    assert np.abs(prepared.frames.numpy().mean((1, 2, 3)) - levels(20)).max() < 3
