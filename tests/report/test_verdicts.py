from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.registry import JUDGES
from stillmotion.data.base import ClipSet
from stillmotion.metrics.judge import Verdicts
from stillmotion.models import files
from stillmotion.report.animations import picture
from stillmotion.report.folder import open_run
from stillmotion.report.verdicts import LETTER, WIDTH, Mark, NoJudge, annotate, grid_marks, judge_of, place, real_marks

SHADES, MOVES = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1])
CLASSES = {"shade": ("0", "1", "2"), "move": ("still", "blinks")}


def drawn(shade: Tensor, move: Tensor) -> Tensor:
    """Clips (N, 3, 1, 4, 4) of one shade, whose middle frame is black where they blink."""
    frames = (60 + 60 * shade)[:, None, None, None, None].expand(-1, 3, 1, 4, 4).clone().to(torch.uint8)
    frames[move == 1, 1] = 0
    return frames


@dataclass
class Reader:
    """Reads shade and movement off the pixels, and remembers how many frames of each clip it was shown."""

    classes: Mapping[str, tuple[str, ...]]
    lengths: list[int]

    def read(self, clips: Clips) -> Verdicts:
        self.lengths += clips.mask.sum(1).tolist()
        shade = ((clips.frames[:, 0, 0, 0, 0] * 255 - 60) / 60).round().long().clamp(0, 2)
        move = (clips.frames[:, 1, 0, 0, 0] < 0.1).long()
        one = torch.nn.functional.one_hot
        return Verdicts({"shade": one(shade, 3).float(), "move": one(move, 2).float()}, torch.zeros(len(shade), 1))


@pytest.fixture
def reader() -> Reader:
    return Reader(CLASSES, [])


@pytest.fixture
def clips() -> ClipSet:
    return ClipSet.whole(drawn(SHADES, MOVES), {"shade": SHADES, "move": MOVES}, CLASSES, moving=("move",))


def swapped(identity: Tensor, motion: Tensor) -> Tensor:
    """Grids whose cells have the shade `identity` (rows, columns) and the movement `motion`."""
    frames = drawn(identity.flatten(), motion.flatten()).float() / 255
    return frames.view(*identity.shape, *frames.shape[1:])


def states(marks: list[list[list[Mark]]], factor: int) -> list[list[str]]:
    return [[cell[factor].state for cell in row] for row in marks]


def test_real_clips_are_judged_by_their_own_labels(reader: Reader, clips: ClipSet) -> None:
    marks = real_marks(reader, clips, ["shade", "move"])
    assert marks == [
        [Mark("shade 0", "right"), Mark("still", "right")], [Mark("shade 1", "right"), Mark("blinks", "right")],
        [Mark("shade 2", "right"), Mark("blinks", "right")],
    ]  # fmt: skip
    lying = replace(clips, labels={"shade": SHADES.flip(0), "move": torch.full((3,), -1)})
    assert [[str(mark) for mark in found] for found in real_marks(reader, lying, ["shade", "move"])] == [
        ["✗ shade 0", "? still"], ["✓ shade 1", "? blinks"], ["✗ shade 2", "? blinks"],
    ]  # fmt: skip


def test_a_perfect_swap_is_right_everywhere(reader: Reader, clips: ClipSet) -> None:
    grid = swapped(SHADES[None].expand(3, -1), MOVES[:, None].expand(-1, 3))
    marks = grid_marks(reader, clips, grid, ["shade", "move"])
    assert {mark.state for row in marks for cell in row for mark in cell} == {"right"}
    assert [cell[0].text for cell in marks[0]] == ["shade 0", "shade 1", "shade 2"]
    assert [row[0][1].text for row in marks] == ["still", "blinks", "blinks"]


def test_what_leaks_is_wrong_off_the_diagonal(reader: Reader, clips: ClipSet) -> None:
    """All comes from the clip of the row, as from a model whose dynamic code tells the identity too."""
    grid = swapped(SHADES[:, None].expand(-1, 3), MOVES[:, None].expand(-1, 3))
    marks = grid_marks(reader, clips, grid, ["shade", "move"])
    assert states(marks, 0) == [["right" if row == column else "wrong" for column in range(3)] for row in range(3)]
    assert {state for row in states(marks, 1) for state in row} == {"right"}


def test_swaps_are_as_long_as_the_movement(reader: Reader, clips: ClipSet) -> None:
    short = replace(clips, lengths=torch.tensor([3, 2, 3]))
    grid_marks(reader, short, swapped(SHADES[None].expand(3, -1), MOVES[:, None].expand(-1, 3)), ["shade", "move"])
    assert reader.lengths == [3, 3, 3, 2, 2, 2, 3, 3, 3]


def test_factors_that_join_others_are_said_once_unless_the_judge_contradicts_itself() -> None:
    frames = drawn(SHADES, MOVES)
    names = {"shade": CLASSES["shade"], "move": CLASSES["move"], "move_shade": ("still 0", "blinks 1", "blinks 2")}

    class Joined(Reader):
        def read(self, clips: Clips) -> Verdicts:
            found = super().read(clips)
            shade = found.logits["shade"]
            return Verdicts({**found.logits, "move_shade": shade if self.lengths != [3, 3, 3] else shade.roll(1, 1)}, found.features)

    clips = ClipSet.whole(frames, {"shade": SHADES, "move": MOVES, "move_shade": SHADES}, names, moving=("move", "move_shade"))
    contradicting, agreeing = Joined(names, []), Joined(names, [3])
    factors = ["shade", "move", "move_shade"]
    assert [len(marks) for marks in real_marks(agreeing, clips, factors)] == [2, 2, 2]
    assert [len(marks) for marks in real_marks(contradicting, clips, factors)] == [3, 3, 3]


def test_the_notes_count_and_place_every_mark_under_its_clip(reader: Reader, clips: ClipSet) -> None:
    grid = swapped(SHADES[:, None].expand(-1, 3), MOVES[:, None].expand(-1, 3))
    notes = annotate(reader, clips, grid)
    assert (notes.right, notes.counted) == (9 + 3, 18)
    assert len(notes.placed) == 2 * (3 + 3 + 9)
    # the strips and the drawing fit the picture
    shown = picture(grid, 12, header=clips.clips().frames, side=clips.clips().frames, foot=notes.foot)
    assert notes.height / WIDTH == pytest.approx(shown.height / shown.width, rel=0.01)
    assert all(0 <= one.x < WIDTH and 0 < one.y <= notes.height for one in notes.placed)


def test_marks_lie_in_the_strip_below_their_tile() -> None:
    marks = [Mark("red", "right"), Mark("a very long name of a class", "wrong")]
    notes = place([marks, marks], [[marks, marks], [marks, marks]], 64, 64)
    scale = WIDTH / (64 + 8 + 2 * 64 + 2)
    first, second = notes.placed[0], notes.placed[1]
    assert (first.x, second.x) == (round(72 * scale, 1),) * 2
    assert 64 * scale < first.y < second.y < (64 + notes.foot) * scale
    last = notes.placed[-1]
    assert last.x == round((72 + 66) * scale, 1)
    assert notes.height - notes.foot * scale < last.y < notes.height
    assert second.mark.text.endswith("…")
    assert len(str(second.mark)) * LETTER <= 1


def test_a_judge_of_other_classes_is_said_to_be_one(reader: Reader, clips: ClipSet) -> None:
    grid = swapped(SHADES[None].expand(3, -1), MOVES[:, None].expand(-1, 3))
    reader.classes = {**CLASSES, "shade": ("dark", "grey", "light")}
    with pytest.raises(NoJudge, match="without what the judge saw.*dark, grey, light"):
        annotate(reader, clips, grid)


# The judge of a run


def saved_judge(folder: Path, seed: int = 0) -> str:
    """A judge that has learned nothing, in a folder; returns the hash of its weights."""
    options = {"classes": {"colour": ("a", "b")}, "size": 16, "channels": (4, 4, 4, 4), "code": 4, "rnn": 3, "hidden": 3}
    files.save(files.build("judge", options, seed, JUDGES), folder / "model")
    return str(json.loads((folder / "model" / "config.json").read_text())["sha256"])


def judged(run: Path, judge: dict[str, Any] | None) -> Any:
    finished = open_run(run)
    return judge_of(replace(finished, results={**(finished.results or {}), "judge": judge}))


def test_the_judge_is_found_where_it_was_or_beside_the_run(run_folder: Path, tmp_path: Path) -> None:
    sha256 = saved_judge(tmp_path / "judge")
    assert list(judged(run_folder, {"folder": str(tmp_path / "judge"), "sha256": sha256}).classes) == ["colour"]
    shutil.move(tmp_path / "judge", run_folder / "judge")
    assert list(judged(run_folder, {"folder": "judge", "sha256": sha256}).classes) == ["colour"]


def test_without_a_judge_the_reason_is_told(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NoJudge, match="stillmotion evaluate"):
        judged(run_folder, None)
    with pytest.raises(NoJudge, match=r"could not be read.*gone"):
        judged(run_folder, {"folder": str(tmp_path / "gone"), "sha256": "0"})


def test_another_judge_in_the_same_folder_is_not_taken_for_the_one_that_was_asked(run_folder: Path, tmp_path: Path) -> None:
    sha256 = saved_judge(tmp_path / "judge")
    assert saved_judge(tmp_path / "judge", seed=1) != sha256
    with pytest.raises(NoJudge, match="now holds another judge"):
        judged(run_folder, {"folder": str(tmp_path / "judge"), "sha256": sha256})
