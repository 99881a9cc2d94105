from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles.grey_model import GreyModel
from oracles.small_vdsm import small_vdsm, some_clips
from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Imputes, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import MissingAbility, UserError
from stillmotion.core.gaps import bridge, hold, runs
from stillmotion.core.random import normal
from stillmotion.models.kvae import KVAE, KVAEConfig
from stillmotion.tasks.impute import Detail, cross_fade, impute, lacking, last_held, predict, windows


class Half(nn.Module, EncodesFrames, Encodes, Decodes, Imputes):
    """Sees half of the light of each frame, and fills gaps by straight lines between what it saw (or by the last it saw), plus noise."""

    name = "half"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.lengths: list[int] = []

    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return Codes(path=self.weight * clips.frames.flatten(2), mask=clips.mask)

    encode = encode_frames

    def decode(self, codes: Codes) -> Tensor:
        assert codes.path is not None
        return codes.path.view(*codes.path.shape[:2], 1, 2, 2)

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        self.lengths.append(clips.frames.shape[1])
        told = (hold if past_only else bridge)(self.weight * clips.frames, clips.mask)
        told = told if generator is None else told + 0.01 * normal(tuple(told.shape), generator, told)
        return torch.where(clips.mask[:, :, None, None, None], clips.frames, told)


class HalfOfAll(Half, Swaps):
    """The same, as a model with codes of a clip as a whole."""


def a_clip(text: str, seed: int = 0) -> Clips:
    """One clip of 2 x 2 grey frames, a letter each: 1 is there, 0 is missing and holds what must not be read."""
    mask = torch.tensor([[letter == "1" for letter in text]])
    frames = 0.9 * torch.rand(1, len(text), 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return Clips(frames.masked_fill(~mask[:, :, None, None, None], 7.0), mask)


# windows


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(2, 12))
def test_every_gap_lies_in_one_window_with_what_is_around_it(flags: list[bool], length: int) -> None:
    missing, margin = torch.tensor(flags), max(1, length // 4)
    found = list(windows(missing, length, past_only=False))
    assert [gap for window in found for gap in window.gaps] == runs(missing)
    for first, last, gaps in found:
        longest = max(end - start for start, end in gaps)
        assert 0 <= first < last <= len(flags)
        assert last - first == min(len(flags), length) or last - first <= longest + 2 * margin
        for start, end in gaps:
            assert first <= max(0, start - margin)
            assert last >= min(len(flags), end + margin)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(2, 12))
def test_windows_of_the_past_end_with_their_gap(flags: list[bool], length: int) -> None:
    missing = torch.tensor(flags)
    found = list(windows(missing, length, past_only=True))
    assert [(window.gaps, window.last) for window in found] == [([gap], gap[1]) for gap in runs(missing)]
    for first, last, ((start, _),) in found:
        assert first == 0 or (first < start and last - first >= length)


def test_only_models_with_codes_of_the_whole_clip_see_it_in_windows() -> None:
    clip = a_clip("1" * 10 + "00" + "1" * 20 + "0" + "1" * 17)
    for model, lengths in ((Half(), [50]), (HalfOfAll(), [8, 8])):
        impute(model, clip, 8)
        assert model.lengths == lengths


def test_a_gap_longer_than_a_window_widens_it() -> None:
    model, clip = HalfOfAll(), a_clip("1" * 10 + "0" * 12 + "1" * 10)
    told = impute(model, clip, 8, detail="fade")
    assert model.lengths == [16]
    torch.testing.assert_close(told.frames, cross_fade(clip))


# what is filled in

PATTERNS = ["1101", "100001", "0011", "1100", "0100", "10110" * 5, "0010000000000000001000"]


@pytest.mark.parametrize("text", PATTERNS)
@pytest.mark.parametrize("model", [Half(), HalfOfAll()])
def test_faded_detail_brings_back_what_a_dim_model_loses(model: Half, text: str) -> None:
    """A model that fades through half of the light, and the other half faded, are the cross-fade."""
    clip = a_clip(text)
    torch.testing.assert_close(impute(model, clip, 4, detail="fade").frames, cross_fade(clip))


@pytest.mark.parametrize("text", PATTERNS)
def test_from_the_past_the_last_frame_is_held(text: str) -> None:
    clip = a_clip(text)
    torch.testing.assert_close(impute(HalfOfAll(), clip, 30, past_only=True, detail="fade").frames, last_held(clip))


def test_without_detail_the_model_speaks_alone() -> None:
    clip = a_clip("1001")
    told = impute(Half(), clip, 4, detail="none").frames
    torch.testing.assert_close(told[:, 1:3], cross_fade(clip)[:, 1:3] / 2)
    assert torch.equal(told[clip.mask], clip.frames[clip.mask])


def test_static_detail_is_the_median_of_what_is_lost_in_each_pixel() -> None:
    clip = a_clip("11010")
    levels = torch.tensor([0.1, 0.9, 0.0, 0.3, 0.0])
    frames = clip.frames.clone()
    frames[..., 0, 0] = levels[None, :, None]
    static = lacking(Half(), replace(clip, frames=frames), "static")
    assert static[..., 0, 0].flatten().tolist() == pytest.approx([0.15] * 5)  # the median of 0.05, 0.45 and 0.15
    still = a_clip("11010")
    still = replace(still, frames=still.frames[:, :1].expand_as(still.frames))
    torch.testing.assert_close(impute(Half(), still, 5, detail="static").frames, still.frames)


@pytest.mark.parametrize("detail", get_args(Detail))
@pytest.mark.parametrize("model", [Half(), HalfOfAll()])
def test_nothing_of_the_future_shows_in_what_is_filled_in_from_the_past(model: Half, detail: Detail) -> None:
    clip = a_clip("110110011")
    other = replace(clip, frames=torch.cat([clip.frames[:, :3], 0.9 - clip.frames[:, 3:]], 1))
    first, second = (impute(model, each, 6, past_only=True, samples=2, detail=detail) for each in (clip, other))
    assert torch.equal(first.frames[:, :3], second.frames[:, :3])
    assert torch.equal(first.samples[:, :3], second.samples[:, :3])
    assert not torch.equal(first.frames[:, 5:7], second.frames[:, 5:7])


def test_samples_come_from_their_seed_and_differ_in_the_gaps_alone() -> None:
    clip = a_clip("1100110")
    told, again, other = (impute(Half(), clip, 4, samples=200, seed=seed) for seed in (0, 0, 1))
    assert told.samples.shape == (200, 7, 1, 2, 2)
    assert torch.equal(told.samples, again.samples)
    assert not torch.equal(told.samples, other.samples)
    assert told.spread is not None
    assert not told.spread[clip.mask[0]].any()
    inside = told.spread[~clip.mask[0]]
    assert float((inside - 0.01).abs().max()) < 0.003  # the noise of the model
    assert impute(Half(), clip, 4, samples=1).spread is None


@pytest.mark.parametrize("past_only", [False, True])
def test_a_first_frame_that_is_missing_is_filled_in_too(past_only: bool) -> None:
    clips = some_clips(7)
    mask = torch.tensor([[0, 1, 1, 0, 0, 1, 1]]).bool()
    kvae = KVAE(KVAEConfig(size=8, channels=3, width=4)).eval()
    for model in (small_vdsm(), kvae):
        told = impute(model, Clips(clips.frames, mask), 5, past_only=past_only, samples=2)
        assert told.frames.isfinite().all()
        assert told.samples.isfinite().all()
        assert torch.equal(told.frames[mask], clips.frames[mask])


# what comes next


def test_a_prediction_keeps_the_clip_and_goes_on_as_the_model_does() -> None:
    model, clip = KVAE(KVAEConfig(size=8, channels=3, width=4)).eval(), some_clips(6)
    told = predict(model, clip, 6, 5, samples=3, detail="none")
    assert told.frames.shape == (1, 11, 3, 8, 8)
    assert torch.equal(told.frames[:, :6], clip.frames)
    with torch.no_grad():
        expected = model.decode(model.predict(model.encode(clip), 11))[:, 6:]
    torch.testing.assert_close(told.frames[:, 6:], expected)
    assert told.samples.shape == (3, 11, 3, 8, 8)
    assert told.spread is not None
    assert not told.spread[:6].any()
    assert predict(model, clip, 6, 5).samples.shape == (0, 11, 3, 8, 8)


def test_controls_behind_the_end_steer_a_prediction() -> None:
    model, clip = KVAE(KVAEConfig(size=8, channels=3, width=4, controls=1)).eval(), some_clips(6)
    with torch.no_grad():
        model.B.fill_(3.0)  # type: ignore[union-attr]
        model.C.normal_(generator=torch.Generator().manual_seed(0))
    controls = torch.zeros(1, 9, 1)
    quiet = predict(model, replace(clip, controls=controls), 6, 3).frames
    pushed = predict(model, replace(clip, controls=controls + torch.eye(9)[:, 7:8]), 6, 3).frames
    torch.testing.assert_close(pushed[:, :7], quiet[:, :7])
    assert not torch.allclose(pushed[:, 7], quiet[:, 7])


def test_a_prediction_of_a_model_of_whole_clips_reads_the_last_window() -> None:
    model, clip = small_vdsm(), some_clips(9)
    told = predict(model, clip, 4, 3)
    torch.testing.assert_close(told.frames[:, 9:], predict(model, some_part(clip, 5), 4, 3).frames[:, 4:])
    assert not torch.allclose(told.frames[:, 9:], predict(model, clip, 9, 3).frames[:, 9:])


def some_part(clip: Clips, first: int) -> Clips:
    return Clips(clip.frames[:, first:], clip.mask[:, first:])


# refusals


def test_clips_that_cannot_be_filled_in_are_refused() -> None:
    with pytest.raises(UserError, match="at least one frame that is there, got a clip of which all frames are missing"):
        impute(Half(), a_clip("000"), 4)
    with pytest.raises(UserError, match="expected one clip, got 2"):
        impute(Half(), some_clips(3, 3), 4)
    with pytest.raises(MissingAbility, match=r"the ability Imputes, got grey.*Models that can: .*kvae"):
        impute(GreyModel(), a_clip("101"), 4)
    with pytest.raises(MissingAbility, match="the ability Predicts"):
        predict(GreyModel(), a_clip("111"), 4, 2)
    with pytest.raises(UserError, match="a whole clip and at least one frame to predict, got 0 frames"):
        predict(small_vdsm(), some_clips(4), 4, 0)
    with pytest.raises(UserError, match="after one that lacks 1"):
        predict(small_vdsm(), Clips(some_clips(3).frames, torch.tensor([[True, False, True]])), 4, 2)
