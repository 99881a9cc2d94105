from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from oracles.small_vdsm import small_vdsm
from stillmotion.data.base import ClipSet
from stillmotion.models.vdsm import VDSM
from stillmotion.recipes.vdsm_pictures import all_actions, new_clips, pose_swaps, reconstructions, transfer_grid, transfers
from stillmotion.tasks.clips import reconstruct, swap
from stillmotion.tasks.codes import encode

CHARACTERS, CLASSES, STEPS = 7, 9, 6
MIDDLE = slice(STEPS // 2, STEPS // 2 + 1)
NAMES = tuple(f"class {k}" for k in range(CLASSES))


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    """Noise of seven characters in nine classes, the classes of each in another order."""
    draw = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (CHARACTERS * CLASSES, STEPS, 3, 8, 8), generator=draw, dtype=torch.uint8)
    character = torch.arange(CHARACTERS).repeat_interleave(CLASSES)
    classes = torch.cat([torch.randperm(CLASSES, generator=draw) for _ in range(CHARACTERS)])
    people = tuple(map(str, range(CHARACTERS)))
    return ClipSet.whole(frames, {"character": character, "action_direction": classes}, {"character": people, "action_direction": NAMES})


@pytest.fixture(scope="module")
def model() -> VDSM:
    return small_vdsm()


def as_bytes(frames: torch.Tensor) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = (255 * frames).round().byte().numpy()
    return found


def of(clips: ClipSet, character: int, name: str) -> ClipSet:
    """The clip of a character in a class."""
    return clips.subset((clips.labels["character"] == character) & (clips.labels["action_direction"] == NAMES.index(name)))


def test_reconstructions_are_below_their_clips_frame_by_frame(model: VDSM, clips: ClipSet) -> None:
    found = reconstructions(model, clips)
    assert found.strip
    assert found.row_labels == ("test clip", "through the sequence model", "each frame by its own pose")
    first = of(clips, 0, found.column_labels[0])
    for place, expected in enumerate((first.clips().frames, reconstruct(model, first), reconstruct(model, first, poses=True))):
        assert np.abs(found.frames[place, 0].astype(int) - as_bytes(expected)[0]).max() <= 1
    assert not np.array_equal(found.frames[1], found.frames[2])


def test_an_action_is_transferred_to_the_identity_below_it(model: VDSM, clips: ClipSet) -> None:
    found = transfers(model, clips)
    assert found.strip
    assert found.row_labels == ("target action", "source identity", "transferred")
    action, identity, mixed = found.frames
    assert np.array_equal(action[0], identity[1])  # the next clip lends its action
    source, target = of(clips, 0, "class 0"), of(clips, 2, "class 4")
    assert np.array_equal(identity[0], as_bytes(source.clips().frames)[0])
    assert np.array_equal(action[0], as_bytes(target.clips().frames)[0])
    expected = swap(model, encode(model, source), encode(model, target))
    assert np.abs(mixed[0].astype(int) - as_bytes(expected)[0]).max() <= 1


def test_every_identity_meets_every_movement(model: VDSM, clips: ClipSet) -> None:
    found = transfer_grid(model, clips)
    assert found.frames.shape == (6, 6, STEPS, 3, 8, 8)
    names = found.row_labels[1:]
    assert found.column_labels[1:] == names
    assert np.array_equal(found.frames[0, 1:], found.frames[1:, 0])
    diagonal = reconstruct(model, of(clips, 0, names[0]))
    assert np.abs(found.frames[1, 1].astype(int) - as_bytes(diagonal)[0]).max() <= 1


def test_new_clips_are_drawn_from_the_priors_of_a_model_that_remembers_nothing(model: VDSM) -> None:
    found = new_clips(model, 9)
    assert found.frames.shape == (2, 6, 9, 3, 8, 8)
    assert found.row_labels == ("prior", "prior")


def test_people_take_all_actions_of_one_other_character(model: VDSM, clips: ClipSet) -> None:
    found = all_actions(model, clips)
    assert found.frames.shape == (6, 10, STEPS, 3, 8, 8)
    assert found.column_labels == ("identity of", *NAMES)
    teacher = 3  # in the middle of seven, and none of those who are taught
    for k, name in enumerate(NAMES):
        assert np.array_equal(found.frames[0, 1 + k], as_bytes(of(clips, teacher, name).clips().frames)[0])
    assert not any(np.array_equal(found.frames[0, 1 + k], found.frames[row, 0]) for k in range(CLASSES) for row in range(1, 6))
    pupil = of(clips, 0, found.row_labels[1])
    expected = swap(model, encode(model, pupil), encode(model, of(clips, teacher, "class 7")))
    assert np.abs(found.frames[1, 8].astype(int) - as_bytes(expected)[0]).max() <= 1


def test_poses_are_swapped_between_single_frames(model: VDSM, clips: ClipSet) -> None:
    found = pose_swaps(model, clips)
    assert found.frames.shape == (6, 6, 1, 3, 8, 8)
    first, second = of(clips, 0, found.row_labels[1]).clips(), of(clips, 2, found.row_labels[2]).clips()
    assert np.array_equal(found.frames[0, 1], as_bytes(first.frames[0, MIDDLE]))
    with torch.no_grad():
        one, other = (model.encode_frames(type(first)(clip.frames[:, MIDDLE], clip.mask[:, :1])) for clip in (first, second))
        expected = model.decode(model.swap(one, other))
    assert np.abs(found.frames[1, 2].astype(int) - as_bytes(expected)[0]).max() <= 1


def test_the_sequence_model_has_no_part_in_swapped_poses(clips: ClipSet) -> None:
    broken = small_vdsm()
    with torch.no_grad():
        for parameter in broken.sequence_encoder.parameters():
            parameter.fill_(torch.nan)
    assert np.array_equal(pose_swaps(broken, clips).frames, pose_swaps(small_vdsm(), clips).frames)
