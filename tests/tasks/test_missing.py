from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.tasks.missing import masked_frames, missing_frames, random_frames


@pytest.mark.parametrize(("text", "frames"), [
    ("5-7", [5, 6, 7]), ("2", [2]), ("0", [0]), ("8-", [8, 9]), ("-1", [0, 1]), ("1-2, 4,8-", [1, 2, 4, 8, 9]), ("3-5,4-6", [3, 4, 5, 6]),
    ("9-9", [9]),
])  # fmt: skip
def test_ranges_count_from_0_and_hold_both_ends(text: str, frames: list[int]) -> None:
    assert missing_frames(text, 10).nonzero()[:, 0].tolist() == frames


@pytest.mark.parametrize(("text", "words"), [
    ("", "ranges of frames, got ''"), ("a", "got 'a'"), ("1,,2", "got ''"), ("-", "got '-'"), ("1-2-3", "got '1-2-3'"),
    ("1.5", "got '1.5'"),
    ("7-5", "whose first frame is not after its last, got '7-5'"), ("10", "frames from 0 to 9, which this clip has, got '10'"),
    ("5-10", "got '5-10'"), ("12-", "got '12-'"), ("3-999", "Frames count from 0"),
])  # fmt: skip
def test_what_is_no_range_of_the_clip_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        missing_frames(text, 10)
    assert words in str(caught.value)


def test_random_frames_are_the_share_that_was_asked_for_and_differ_by_seed() -> None:
    drawn = [random_frames(0.3, 40, seed) for seed in (0, 0, 1)]
    assert [int(missing.sum()) for missing in drawn] == [12] * 3
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("share", "words"), [
    (0.0, "between 0 and 1, got 0"), (1.0, "got 1"), (-0.5, "got -0.5"), (float("nan"), "got nan"), (0.01, "0.01 of 10 frames, which is 0"),
    (0.99, "which is 10 of them"),
])  # fmt: skip
def test_a_share_that_takes_nothing_or_everything_is_refused(share: float, words: str) -> None:
    with pytest.raises(UserError) as caught:
        random_frames(share, 10, 0)
    assert words in str(caught.value)


def test_mask_files_say_1_where_a_frame_is_there(tmp_path: Path) -> None:
    flags, written = [1, 0, 0, 1, 1], []
    for name, text in (("a.txt", "10011"), ("b.txt", "1\n0\n0\n1\n1\n"), ("c.txt", "1, 0,0 1\t1")):
        (tmp_path / name).write_text(text)
        written.append(tmp_path / name)
    for name, array in (("d.npy", np.array(flags)), ("e.npy", np.array(flags, bool)), ("f.npy", np.array(flags, np.float32))):
        np.save(tmp_path / name, array)
        written.append(tmp_path / name)
    for path in written:
        assert masked_frames(path, 5).tolist() == [False, True, True, False, False], path


def test_files_that_are_no_mask_of_the_clip_are_refused_by_name(tmp_path: Path) -> None:
    def refused(name: str, words: str) -> None:
        with pytest.raises(FileRefused) as caught:
            masked_frames(tmp_path / name, 5)
        assert name in str(caught.value)
        assert words in str(caught.value)

    for name, text in (("long.txt", "100110"), ("letters.txt", "1a011"), ("two.txt", "10021"), ("empty.txt", "")):
        (tmp_path / name).write_text(text)
    for name, array in (("short.npy", np.ones(4)), ("table.npy", np.ones((5, 1))), ("half.npy", np.full(5, 0.5)), ("none.npy", np.ones(0))):
        np.save(tmp_path / name, array)
    np.save(tmp_path / "pickle.npy", np.array([{}] * 5), allow_pickle=True)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xfa")
    for name in ("long.txt", "short.npy"):
        refused(name, "a mask of 5 entries, one for each frame of the clip")
    for name in ("letters.txt", "two.txt", "empty.txt", "table.npy", "half.npy", "none.npy", "pickle.npy", "bytes.txt"):
        refused(name, "a mask of zeros and ones")
    refused("gone.txt", "No such file")
