"""Controls and true states go with their frames, whatever windows are cut and however they are chosen."""

from __future__ import annotations

import pytest
import torch

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet

LENGTHS = torch.tensor([4, 2, 4])
STARTS = torch.tensor([0, 3, 5])  # windows overlap, and the second is short


def numbered() -> ClipSet:
    """Nine frames; the controls of frame k are (k, 10 k), its state is k + 0.5."""
    place = torch.arange(9)
    frames = place.to(torch.uint8)[:, None, None, None]
    controls = torch.stack([place, 10 * place], 1).float()
    return ClipSet(frames, STARTS, LENGTHS, 4, controls=controls, states=place[:, None] + 0.5, state_names=("half",))


def test_controls_come_with_the_frames_that_they_lead_to():
    clips = numbered().clips()
    assert clips.controls is not None
    assert clips.controls.shape == (3, 4, 2)
    assert torch.equal(clips.controls[..., 0], (clips.frames[:, :, 0, 0, 0] * 255).round())
    assert clips.controls[1].tolist() == [[3, 30], [4, 40], [0, 0], [0, 0]], "none where there is no frame"


def test_true_states_of_a_short_window_end_with_it():
    truth = numbered().truth()[:, :, 0]
    assert truth[0].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert truth[1, :2].tolist() == [3.5, 4.5]
    assert truth[1, 2:].isnan().all()


def test_subsets_stay_in_line():
    data = numbered()
    for part, index in ((data.subset(torch.tensor([2, 0])), [2, 0]), (data.subset(torch.tensor([True, False, True])), [0, 2]),
                        (data.spread(2), [0, 2])):
        assert torch.equal(part.clips().controls, data.clips().controls[index])
        assert torch.equal(part.truth(), data.truth()[index])
        assert torch.equal(part.truth(slice(1, 2)), data.truth()[index[1:]])
        assert part.state_names == ("half",)


def test_a_set_of_whole_clips_takes_one_table_per_clip():
    controls, states = torch.rand(3, 4, 1), torch.rand(3, 4, 2)
    data = ClipSet.whole(torch.zeros(3, 4, 1, 2, 2, dtype=torch.uint8), {}, {}, controls=controls, states=states, state_names=("a", "b"))
    assert torch.equal(data.clips(torch.tensor([2, 1])).controls, controls[[2, 1]])
    assert torch.equal(data.truth(), states)


def test_sets_without_them_have_none():
    data = ClipSet.whole(torch.zeros(3, 4, 1, 2, 2, dtype=torch.uint8), {}, {})
    assert data.clips().controls is None
    with pytest.raises(UserError, match="knows the true states"):
        data.truth()


@pytest.mark.parametrize(("bad", "message"), [
    ({"controls": torch.zeros(3, 3, 1)}, r"controls with one row for each of the 12 frames, got shape \(9, 1\)"),
    ({"states": torch.zeros(3, 5, 1), "state_names": ("a",)}, r"states with one row for each of the 12 frames, got shape \(15, 1\)"),
    ({"states": torch.zeros(3, 4, 2), "state_names": ("a",)}, "2 names of states, one for each column, got 1"),
    ({"state_names": ("a",)}, "0 names of states"),
])  # fmt: skip
def test_tables_that_do_not_go_with_the_frames_are_refused(bad: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        ClipSet.whole(torch.zeros(3, 4, 1, 2, 2, dtype=torch.uint8), {}, {}, **bad)
