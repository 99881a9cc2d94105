from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from oracles.drawn_faces import middle_of, write_faces, write_take
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.mug import EXPRESSIONS, Video, folder_of, is_there, load, split_of
from stillmotion.data.windows import HoldOut

SMALL: dict[str, Any] = {"size": 16, "steps": 6, "progress": False}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people, six expressions, two takes of 24 frames."""
    return write_faces(tmp_path_factory.mktemp("faces"), takes=2, side=(16, 16))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def splits(faces: Path, cache: Path) -> Splits:
    return load(root=faces, cache=cache, **SMALL)


def names(clips: ClipSet) -> set[str]:
    """The videos that have a window in a set."""
    assert clips.source is not None
    return {clips.sources[number] for number in clips.source.tolist()}


def notes(root: Path, **options: Any) -> tuple[Splits, str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        splits = load(root=root, **{**SMALL, "test": 0.0, "validation": 0.0, **options})
    return splits, "\n".join(str(note.message) for note in said)


def test_every_video_is_in_one_split_and_labelled_by_its_folders(splits: Splits) -> None:
    train, validation, test = map(names, splits)
    assert len(train | validation | test) == len(train) + len(validation) + len(test) == 48
    assert min(map(len, (train, test))) > 0
    for clips in splits:
        assert clips.moving == ("action",)
        assert clips.classes == {"identity": ("001", "002", "003", "004"), "action": EXPRESSIONS}
        assert clips.source is not None
        for row, source in enumerate(clips.source.tolist()):
            told = {factor: clips.classes[factor][int(values[row])] for factor, values in clips.labels.items()}
            assert clips.sources[source].split("/")[:2] == [told["identity"], told["action"]]


def test_no_frame_of_a_test_video_is_trained_on(splits: Splits) -> None:
    used = [{frame for index in range(len(part)) for frame in part.where(torch.tensor([index]))[0][0].tolist()} for part in splits]
    assert not used[0] & used[2]
    assert not used[0] & used[1]
    assert not used[1] & used[2]
    assert set().union(*used) == set(range(48 * 12)), "of 24 frames every second one is there, and each in a window"


def test_a_window_has_every_second_frame_and_the_stride_can_be_chosen(faces: Path, splits: Splits) -> None:
    person = int(splits.train.labels["identity"][0])
    assert middle_of(splits.train.clips(torch.tensor([0])).frames[0]) == [8 * person + 2 * k for k in range(6)]
    assert middle_of(load(root=faces, **SMALL, stride=3).train.clips(torch.tensor([0])).frames[0]) == [8 * person + 3 * k for k in range(6)]


def test_a_video_keeps_its_split_when_others_come_and_go(tmp_path: Path, splits: Splits) -> None:
    write_faces(tmp_path / "a", people=2, side=(16, 16))
    write_faces(tmp_path / "b", people=2, takes=2, side=(16, 16))
    write_faces(tmp_path / "c", people=2, side=(16, 16))
    shutil.rmtree(tmp_path / "c" / "001" / "fear")
    where = [
        {name: split for split, part in load(root=tmp_path / place, **SMALL)._asdict().items() for name in names(part)} for place in "abc"
    ]
    assert where[0].items() <= where[1].items()
    assert where[2].items() < where[0].items()
    assert where[1].items() <= {name: split for split, part in splits._asdict().items() for name in names(part)}.items()


def test_fifteen_in_a_hundred_are_held_out_to_test_and_five_to_validate() -> None:
    videos = [Video(f"{k % 52:03d}", EXPRESSIONS[k % 6], f"take{k:03d}") for k in range(20_000)]
    found = [split_of(video, HoldOut(0.05, 0.15), 0) for video in videos]
    assert found.count("test") / 20_000 == pytest.approx(0.15, abs=0.01)
    assert found.count("validation") / 20_000 == pytest.approx(0.05, abs=0.006)
    other = [split_of(video, HoldOut(0.05, 0.15), 1) for video in videos]
    both = sum(a == b == "test" for a, b in zip(found, other, strict=True))
    assert both / 20_000 == pytest.approx(0.15**2, abs=0.005), "another seed holds out others"


def test_a_clip_read_again_has_the_same_labels_whatever_was_done_to_the_first(splits: Splits) -> None:
    everything = torch.arange(len(splits.train))
    first = splits.train.clips(everything)
    kept = {factor: values.clone() for factor, values in first.labels.items()}
    for values in first.labels.values():
        values.fill_(2)
    again = splits.train.clips(everything)
    assert all(torch.equal(again.labels[factor], kept[factor]) for factor in kept)
    assert set(again.labels["action"].tolist()) == set(range(6)), "no expression disappears"


@pytest.mark.parametrize("side", [(112, 112), (112, 150), (170, 112), (48, 48)])
def test_nothing_is_padded(tmp_path: Path, side: tuple[int, int]) -> None:
    write_take(tmp_path / "001" / "fear" / "take000", 8, grey=200, side=side, ending="png")
    frames, _ = notes(tmp_path, size=64, steps=4)
    assert frames.train.frame_shape == (3, 64, 64)
    pixels = frames.train.frames.flatten(1)
    assert torch.equal(pixels.amin(1), pixels.amax(1)), "each frame is one grey, up to its borders"
    assert frames.train.frames[:, 0, 0, 0].tolist() == [200, 202, 204, 206]


def test_a_crop_that_is_not_square_keeps_its_middle(tmp_path: Path) -> None:
    folder = tmp_path / "001" / "fear" / "take000"
    folder.mkdir(parents=True)
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = 255
    for number in (1, 2, 3, 4):
        Image.fromarray(wide).save(folder / f"{number}.png")
    assert int(notes(tmp_path, steps=2)[0].train.frames.min()) > 200, "white up to the blur of resizing"


@pytest.mark.parametrize("ending", ["bmp", "png", "jpg"])
def test_pictures_and_takes_of_every_kind(tmp_path: Path, ending: str) -> None:
    for name in ("take000", "take001_aligned"):
        write_take(tmp_path / "mug" / "001" / "Anger" / name, 12, ending=ending, side=(16, 16))
    assert folder_of(tmp_path) == tmp_path / "mug"
    found, said = notes(tmp_path)
    assert names(found.train) == {"001/Anger/take000", "001/Anger/take001_aligned"}
    assert found.train.labels["action"].tolist() == [0, 0]
    assert not said


def test_short_videos_are_masked_and_counted(tmp_path: Path) -> None:
    write_take(tmp_path / "001" / "fear" / "take000", 24, side=(16, 16))
    write_take(tmp_path / "001" / "fear" / "take001", 8, side=(16, 16))
    found, said = notes(tmp_path)
    assert "1 of 2 videos are shorter than 6 frames" in said
    assert found.train.lengths.tolist() == [6] * 7 + [4]
    assert found.train.clips().mask.sum(1).tolist() == [6] * 7 + [4]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    for name in ("fear/take000", "neutral/take000", "neutral/take001"):
        write_take(tmp_path / "001" / name, 12, side=(16, 16))
    for name in ("sadness/take000", "anger/take000"):
        write_take(tmp_path / "002" / name, 1, side=(16, 16))
    (tmp_path / "001" / "fear" / "take000.csv").write_text("frame, confidence")
    (tmp_path / "001" / "fear" / "take000_of_details.txt").write_text("Input:take000")
    found, said = notes(tmp_path)
    assert names(found.train) == {"001/fear/take000"}
    assert "2 videos of neutral faces are left out" in said
    assert "2 of the files refused: 002/anger/take000/frame_det_00_000001.bmp (a single still picture)" in said
    assert found.train.labels["action"].tolist() == [EXPRESSIONS.index("fear")]


@pytest.mark.parametrize(
    "name", ["001/take000_aligned", "001/session0/fear/take000", "fear/001/take000", "001/joy/take000", "fear/take000", "take000_aligned"]
)
def test_another_layout_is_refused_by_what_was_found(tmp_path: Path, name: str) -> None:
    write_take(tmp_path / name, 3, side=(16, 16))
    with pytest.raises(FileRefused, match=rf"expected <person>/<expression>/<take>/ .*1 others, first {name}\. See docs/data.md"):
        load(root=tmp_path, **SMALL)


def test_videos_among_the_crops_are_refused(tmp_path: Path) -> None:
    write_take(tmp_path / "001" / "fear" / "take000_aligned", 12, side=(16, 16))
    (tmp_path / "001" / "fear" / "take000.avi").write_bytes(b"RIFF1234AVI ")
    with pytest.raises(FileRefused, match="1 others, first 001/fear/take000.avi"):
        load(root=tmp_path, **SMALL)


def test_a_video_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    for name in ("take000", "take000_aligned"):
        write_take(tmp_path / "001" / "fear" / name, 12, side=(16, 16))
    with pytest.raises(FileRefused, match=r"001/fear/take000 and 001/fear/take000_aligned. Keep the aligned ones"):
        load(root=tmp_path, **SMALL)


def test_nothing_there_is_refused_and_seen_beforehand(tmp_path: Path, faces: Path) -> None:
    assert is_there(faces)
    assert not is_there(tmp_path)
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileRefused, match=rf"{root}, which holds nothing that could be a clip. See docs/data.md"):
            load(root=root, **SMALL)


def test_options_out_of_range(faces: Path, cache: Path) -> None:
    with pytest.raises(UserError, match="clips of 2 frames or more, got 1"):
        load(root=faces, cache=cache, steps=1)
    with pytest.raises(UserError, match="a stride of 1 or more, got 0"):
        load(root=faces, cache=cache, stride=0)
    with pytest.raises(UserError, match="sum to less than 1"):
        load(root=faces, cache=cache, test=0.6, validation=0.5)
    with pytest.raises(FileRefused, match="videos to train on, .* of whose 48 videos none is left. Hold out fewer"):
        load(root=faces, cache=cache, **SMALL, test=0.9999, validation=0.0)
