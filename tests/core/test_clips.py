"""Clips: what is refused, with which words, and how they are cut and moved."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError


def frames(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def everything(clips: int, steps: int) -> torch.Tensor:
    return torch.ones(clips, steps, dtype=torch.bool)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 8, 8), (1, 2, 3, 3, 8, 8)])
def test_a_wrong_number_of_axes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"expected frames of shape \(B, T, C, H, W\) or \(B, T, D\), got shape .*Clips come first"):
        Clips(frames(*shape), everything(*shape[:2]))


def test_channels_that_come_last_are_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"1 or 3 channels on the third axis.*permute\(0, 1, 4, 2, 3\)"):
        Clips(frames(2, 4, 8, 8, 3), everything(2, 4))


def test_an_odd_number_of_channels_is_refused_without_a_guess() -> None:
    with pytest.raises(UserError, match="1 or 3 channels") as caught:
        Clips(frames(2, 4, 2, 8, 8), everything(2, 4))
    assert "permute" not in str(caught.value)


def test_the_mended_axes_are_accepted() -> None:
    assert len(Clips(frames(2, 4, 8, 8, 3).permute(0, 1, 4, 2, 3), everything(2, 4))) == 2


def test_a_mask_in_the_order_of_time_and_batch_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"a mask of shape \(B, T\) = \(2, 4\), got shape \(4, 2\).*transposed.*transpose\(0, 1\)"):
        Clips(frames(2, 4, 3, 8, 8), everything(4, 2))


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"got shape \(2, 5\). One entry for each frame"):
        Clips(frames(2, 4, 3, 8, 8), everything(2, 5))


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(UserError, match=r"a boolean mask \(B, T\), got dtype torch.float32. Convert it with mask.bool\(\)"):
        Clips(frames(2, 4, 3, 8, 8), torch.ones(2, 4))


def test_8_bit_frames_are_scaled() -> None:
    clips = Clips.of(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1).expand(1, 3, 1, 8, 8))
    torch.testing.assert_close(clips.frames[0, :, 0, 0, 0], torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (0.0, 1.5), (0.0, 255.0)])
def test_pixels_outside_0_to_1_are_refused(low: float, high: float) -> None:
    bad = torch.full((1, 2, 3, 8, 8), low)
    bad[0, 1] = high
    with pytest.raises(UserError, match=rf"pixels in \[0, 1\], got values from {low:g} to {high:g}. Divide 8-bit frames by 255"):
        Clips.of(bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_pixels_that_are_no_numbers_are_refused(bad: float) -> None:
    pixels = frames(2, 3, 3, 8, 8)
    pixels[1, 2, 0, 0, 0] = bad
    with pytest.raises(UserError, match=r"expected pixels in \[0, 1\]"):
        Clips.of(pixels)


def test_what_the_mask_lacks_may_be_anything_and_is_blanked() -> None:
    pixels, mask = frames(2, 3, 3, 8, 8), everything(2, 3)
    mask[1, 2], pixels[1, 2] = False, float("nan")
    clips = Clips.of(pixels, mask)
    assert clips.frames.isfinite().all()
    torch.testing.assert_close(clips.frames[mask], pixels[mask], rtol=0, atol=0)


def test_whole_numbers_that_are_not_8_bit_are_refused() -> None:
    with pytest.raises(UserError, match=r"uint8 or floating-point frames, got dtype torch.int64. Convert"):
        Clips.of(torch.zeros(1, 2, 3, 8, 8, dtype=torch.int64))


def test_a_clip_without_a_single_frame_is_refused() -> None:
    mask = everything(3, 2)
    mask[1] = False
    with pytest.raises(UserError, match="at least one frame in every clip, got no frame in clip 1"):
        Clips.of(frames(3, 2, 3, 8, 8), mask)


def test_one_clip_may_come_without_the_batch_axis() -> None:
    clips = Clips.of(frames(5, 3, 8, 8))
    assert clips.frames.shape == (1, 5, 3, 8, 8)
    assert clips.mask.all()


def test_sequences_that_are_not_video_are_clips() -> None:
    assert Clips.of(frames(2, 5, 7)).lengths.tolist() == [5, 5]


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_lengths_count_the_frames_that_are_there(rows: list[list[bool]]) -> None:
    clips = Clips(frames(len(rows), 4, 2), torch.tensor(rows))
    assert clips.lengths.tolist() == [sum(row) for row in rows]
    assert clips.lengths.dtype == torch.int64
    assert len(clips) == len(rows)


def labelled() -> Clips:
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    return Clips(frames(3, 2, 1, 8, 8), mask, frames(3, 2, 4), {"who": torch.tensor([7, 8, 9])})


@pytest.mark.parametrize("index", [torch.tensor([2, 0]), torch.tensor([True, False, True]), slice(1, None)])
def test_an_index_picks_clips_with_everything_that_belongs_to_them(index: torch.Tensor | slice) -> None:
    clips = labelled()
    picked, rows = clips[index], torch.arange(3)[index]
    assert picked.controls is not None
    assert clips.controls is not None
    for whole, part in ((clips.frames, picked.frames), (clips.mask, picked.mask), (clips.controls, picked.controls)):
        assert torch.equal(torch.stack([whole[row] for row in rows]), part)
    assert picked.labels["who"].tolist() == [7 + int(row) for row in rows]


def test_all_parts_move_to_a_device_together() -> None:
    moved = labelled().to("meta")
    assert moved.controls is not None
    assert {part.device.type for part in (moved.frames, moved.mask, moved.controls, moved.labels["who"])} == {"meta"}
    assert Clips(frames(1, 2, 3), everything(1, 2)).to("cpu").controls is None
