from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from video_files import numbers, ramp, write_av, write_gif, write_pictures

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.base import ClipSet
from stillmotion.data.fitting import FrameSpec
from stillmotion.data.videos import cache_folder, load, open_folder, read_clip
from stillmotion.data.windows import HoldOut

PATTERN = r"person-(?P<person>\d+)_(?P<action>.+)"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for person in range(3):
        for action, count in (("bend", 3), ("jump", 9)):
            write_gif(folder / f"person-{person}_{action}.gif", ramp(count))
    return folder


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def contents(part: ClipSet) -> list[tuple[str, list[int]]]:
    assert part.source is not None
    whole = part.clips()
    shown = (whole.frames * 255).byte().numpy()
    return [
        (part.sources[int(part.source[index])], numbers(shown[index][whole.mask[index].numpy()])) for index in range(len(part))
    ]  # fmt: skip


def test_windows_show_the_frames_of_their_files(clips: Path, tmp_path: Path) -> None:
    splits = load(clips, size=16, steps=4, hop=2, pattern=PATTERN, hold_out=[{"person": "2"}], validation=0.0, cache=tmp_path / "cache")
    short, long = [[0, 1, 2]], [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [5, 6, 7, 8]]
    expected = [(f"person-{p}_{a}.gif", w) for p in (0, 1) for a, windows in (("bend", short), ("jump", long)) for w in windows]
    assert contents(splits.train) == expected
    assert {name for name, _ in contents(splits.test)} == {"person-2_bend.gif", "person-2_jump.gif"}
    assert len(splits.validation) == 0
    assert splits.train.classes == {"person": ("0", "1", "2"), "action": ("bend", "jump")}
    assert splits.train.labels["action"].tolist() == [0, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert splits.train.clips(slice(0, 1)).mask.tolist() == [[True, True, True, False]]


def test_default_splits_keep_files_apart(clips: Path, tmp_path: Path) -> None:
    splits = load(clips, size=16, steps=4, cache=tmp_path / "cache")
    files = [{name for name, _ in contents(part)} for part in splits]
    assert [len(part) for part in files] == [4, 1, 1]
    assert len(set.union(*files)) == 6


def test_hold_out_tail_and_clip_per_person(clips: Path, tmp_path: Path) -> None:
    splits = load(clips, size=16, steps=4, pattern=PATTERN, hold_out_tail=0.34, hold_out_clip_per="person", cache=tmp_path / "cache")
    assert sorted(name[7] for name in {name for name, _ in contents(splits.test)}) == ["0", "1", "2"]
    for name, window in contents(splits.validation):
        assert window == [6, 7, 8], name
    assert all(max(window) <= 5 for name, window in contents(splits.train) if "jump" in name)


def test_what_is_odd_warns(clips: Path, tmp_path: Path) -> None:
    (clips / "broken.mp4").touch()
    write_gif(clips / "intro.gif", ramp(5))
    (write_pictures(clips / "person-3_run", ramp(4)) / "frame2.png").write_bytes(b"junk")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(clips, size=16, steps=4, pattern=PATTERN, cache=tmp_path / "cache", progress=False)
    texts = [str(warning.message) for warning in caught]
    assert texts == [
        "1 of the files refused: broken.mp4 (the file is empty)",
        "1 of the files read with a flaw: person-3_run (frame2.png cannot be read and is left out)",
        "1 clips do not fit the pattern and have no label, first intro.gif",
    ]


def test_open_folder_tells_the_story_of_the_reading(clips: Path, tmp_path: Path) -> None:
    (clips / "broken.mp4").touch()
    opened = open_folder(clips, FrameSpec(size=8, grey=True), steps=4, cache=tmp_path / "cache", rules=HoldOut(0, 0))
    assert [source.frames for source in opened.sources] == [3, 9] * 3
    assert [bad.name for bad in opened.refused] == ["broken.mp4"]
    assert opened.splits.train.frame_shape == (1, 8, 8)
    assert opened.check == "written now"


def test_too_few_clips_say_so(tmp_path: Path) -> None:
    write_gif(tmp_path / "clips.gif", ramp(20))
    with pytest.warns(UserWarning, match="too few clips"):
        splits = load(tmp_path, size=16, steps=4, cache=tmp_path / "cache")
    assert all(len(part) for part in splits)


@pytest.mark.parametrize("hop", [0, 17])
def test_hops_out_of_range(clips: Path, tmp_path: Path, hop: int) -> None:
    with pytest.raises(UserError, match="a hop from 1 to"):
        load(clips, size=16, hop=hop, cache=tmp_path / "cache")


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path))
    assert cache_folder() == tmp_path / "videos"
    assert cache_folder(root=tmp_path / "other") == tmp_path / "other" / "videos"
    assert cache_folder(tmp_path / "x") == tmp_path / "x"


def test_read_clip(tmp_path: Path) -> None:
    path = write_av(tmp_path / "clip.mp4", ramp(12))
    spec = FrameSpec(size=16)
    cases = ((None, 0, range(12)), (5, 0, range(5)), (4, 3, range(3, 7)), (9, 8, range(8, 12)), (None, 10, range(10, 12)))
    for steps, start, expected in cases:
        clip = read_clip(path, spec, steps, start)
        assert clip.frames.shape == (1, len(expected), 3, 16, 16)
        assert numbers((clip.frames[0] * 255).byte().numpy()) == list(expected)
        assert clip.mask.all()
    with pytest.raises(UserError, match=r"two frames or more from frame 11 on, got .*clip.mp4, which has 12 frames"):
        read_clip(path, spec, start=11)
    with pytest.raises(FileRefused, match=r"gone\.mp4"):
        read_clip(tmp_path / "gone.mp4")


def test_read_clip_stops_decoding_where_it_has_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillmotion.data.decode.CHUNK_BYTES", 2 * 3 * 16 * 16)
    array = np.zeros((100, 16, 16))
    array[50] = 9.0
    np.save(tmp_path / "clip.npy", array)
    assert read_clip(tmp_path / "clip.npy", FrameSpec(size=16), steps=4, start=2).frames.shape[1] == 4
    with pytest.raises(FileRefused, match="pixels outside"):
        read_clip(tmp_path / "clip.npy", FrameSpec(size=16))


@pytest.mark.data
def test_weizmann_is_read_whole_with_its_labels(real_data: Path, shared_cache: Path) -> None:
    opened = open_folder(real_data / "weizmann", pattern=PATTERN, cache=shared_cache, rules=HoldOut(0, 0))
    assert len(opened.sources) == 36
    assert not opened.refused
    assert not any(source.notes for source in opened.sources)
    assert (min(s.frames for s in opened.sources), max(s.frames for s in opened.sources)) == (51, 146)
    assert opened.labels.classes == {
        "person": tuple("012345678"), "action": ("bend", "jumping-jack", "wave-one-hand", "wave-two-hands"),
    }  # fmt: skip
    assert len(opened.splits.train) == sum(source.frames - 15 for source in opened.sources)
    assert torch.bincount(opened.splits.train.labels["person"]).min() > 100


@pytest.mark.data
def test_weizmann_hold_outs(real_data: Path, shared_cache: Path) -> None:
    rules = HoldOut(tail=0.2, clip_per="person")
    opened = open_folder(real_data / "weizmann", pattern=PATTERN, cache=shared_cache, rules=rules)
    train, validation, test = opened.splits
    assert train.source is not None
    assert validation.source is not None
    assert test.source is not None
    assert sorted(opened.labels.values["person"][index] for index in set(test.source.tolist())) == list(range(9))
    assert set(train.source.tolist()) == set(validation.source.tolist()) == set(range(36)) - set(test.source.tolist())
    for index in set(train.source.tolist()):
        source = opened.sources[index]
        ends = (train.starts + train.lengths)[train.source == index]
        begins = validation.starts[validation.source == index]
        assert int(ends.max()) == int(begins.min()) == source.start + source.frames - round(0.2 * source.frames)
