"""Groups taken apart, halved, and read from one another, against the same done clip by clip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.groups import apart, from_others, halves


def numbered(mask: Tensor, joined: int = 1) -> Clips:
    """Frames of one number each, 100 * clip + frame + 1, with controls that say the same."""
    number = 100.0 * torch.arange(mask.shape[0])[:, None] + torch.arange(mask.shape[1]) + 1
    return Clips(number[:, :, None], mask, number[:, :, None] / 10, joined=joined)


def there(clips: Clips, row: int) -> list[float]:
    frames: list[float] = clips.frames[row, clips.mask[row], 0].tolist()
    return frames


def masks(*rows: str) -> Tensor:
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


def test_joined_clips_come_apart_in_their_order() -> None:
    clips = numbered(masks("111110111", "110111100"), joined=3)
    found = apart(clips)
    assert found.joined == 1
    assert [there(found, row) for row in range(6)] == [[1, 2, 3], [4, 5], [7, 8, 9], [101, 102], [104, 105, 106], [107]]
    assert found.controls is not None
    torch.testing.assert_close(found.controls, found.frames / 10)
    assert apart(numbered(masks("11"))).frames.shape == (1, 2, 1)


def test_frames_that_cannot_be_of_so_many_clips_are_refused() -> None:
    for joined in (2, 0):
        with pytest.raises(UserError, match=f"joined clips of equally many frames, got 3 frames of {joined} clips"):
            numbered(masks("111"), joined)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_halves_are_the_earlier_and_the_later_frames_that_are_there(seen: list[bool]) -> None:
    clips = numbered(torch.tensor([seen, [True] * len(seen)]))
    both = halves(clips)
    assert both.joined == 2
    found = apart(both)
    for row in range(2):
        frames = there(clips, row)
        middle = (len(frames) + 1) // 2
        assert [there(found, 2 * row), there(found, 2 * row + 1)] == [frames[:middle], frames[middle:]]
    assert both.controls is not None
    torch.testing.assert_close(both.controls[both.mask], both.frames[both.mask] / 10)


@pytest.mark.parametrize("joined", [1, 2, 3, 4])
def test_each_clip_hears_the_others_of_its_group_and_never_itself(joined: int) -> None:
    clips = apart(numbered(torch.rand(2, 4 * joined, generator=torch.Generator().manual_seed(joined)) < 0.7, joined))
    values, mask = from_others(clips.frames, clips.mask, joined)
    for row in range(2 * joined):
        group = range(row // joined * joined, (row // joined + 1) * joined)
        expected = [frame for other in group if other != row for frame in there(clips, other)] or there(clips, row)
        assert sorted(values[row, mask[row], 0].tolist()) == expected


def test_a_clip_whose_others_show_nothing_hears_itself() -> None:
    clips = numbered(masks("110", "000", "000"))
    values, mask = from_others(clips.frames, clips.mask, 3)
    assert [values[row, mask[row], 0].tolist() for row in range(3)] == [[1, 2]] * 3
