"""Which clips are measured, and the hash by which they are known again. Which belong together is tested with the bench."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oracles.finished_runs import write_videos
from oracles.tiny_runs import tiny_clips
from stillmotion.data import pendula, videos
from stillmotion.data.base import ClipSet, Splits
from stillmotion.recipes.held_out import clips_sha256, held_out


def test_test_clips_are_held_out_and_without_them_validation_clips() -> None:
    train, choose, test = tiny_clips(6), tiny_clips(5), tiny_clips(4)
    assert held_out(Splits(train, choose, test)) == ("test", test)
    assert held_out(Splits(train, choose, test.subset(torch.zeros(0, dtype=torch.long)))) == ("validation", choose)


def test_built_in_clips_are_known_again_by_their_labels_and_shape() -> None:
    def made(**options: int) -> str:
        return clips_sha256(pendula.load(**{"clips": 14, "validation": 14, "test": 14, "steps": 4, "size": 16, **options}))

    assert made() == made()
    assert len({made(), made(test=28), made(steps=5), made(size=32), made(seed=1)}) >= 4


def files(starts: list[int], source: list[int], names: tuple[str, ...] = ("a", "b", "c"), labels: tuple[int, ...] = (0, 1, 0)) -> ClipSet:
    return ClipSet(
        torch.zeros(90, 1, 8, 8, dtype=torch.uint8), torch.tensor(starts), torch.full((len(starts),), 5), 5,
        {"who": torch.tensor(labels)[: len(starts)]}, {"who": ("x", "y")}, torch.tensor(source), names,
    )  # fmt: skip


def test_a_file_more_before_the_others_changes_no_held_out_clip() -> None:
    """Each file has its first window in training; one more of 20 frames shifts all that come behind it."""
    before = Splits(files([0, 30], [0, 1]), files([8], [0]), files([8, 38], [0, 1]))
    names = ("0", "a", "b", "c")
    after = Splits(files([0, 20, 50], [0, 1, 2], names), files([28], [1], names), files([28, 58], [1, 2], names))
    assert clips_sha256(before) == clips_sha256(after)


@pytest.mark.parametrize(
    "test",
    [
        files([8, 39], [0, 1]),  # another place in the file
        files([8, 38], [0, 1], ("a", "d", "c")),
        files([8, 38], [0, 1], labels=(0, 0, 0)),
        files([8], [0]),
        replace(files([8, 38], [0, 1]), lengths=torch.tensor([5, 4])),
    ],
)
def test_other_held_out_clips_have_another_hash(test: ClipSet) -> None:
    train, choose = files([0, 30], [0, 1]), files([8], [0])
    assert clips_sha256(Splits(train, choose, files([8, 38], [0, 1]))) != clips_sha256(Splits(train, choose, test))


def test_a_folder_that_changes_is_noticed(tmp_path: Path) -> None:
    place = write_videos(tmp_path / "clips")

    def found() -> str:
        return clips_sha256(videos.load(place, size=16, steps=4, cache=tmp_path / "cache", progress=False, hold_out_tail=0.5))

    before = found()
    assert before == found()
    np.save(place / "p1_bend.npy", np.zeros((9, 16, 16, 3), dtype=np.uint8))
    shorter = found()
    (place / "p1_bend.npy").unlink()
    assert len({before, shorter, found()}) == 3
