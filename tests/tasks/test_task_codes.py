from __future__ import annotations

import pytest
import torch
from torch import nn

from oracles.grey_model import GreyModel, grey_clips
from oracles.small_vdsm import small_vdsm, some_clips
from oracles.tiny_runs import tiny_clips
from stillmotion.core.clips import Clips
from stillmotion.core.errors import MissingAbility, UserError
from stillmotion.tasks import codes as module
from stillmotion.tasks.codes import clip_part, decode, encode, encode_long


@pytest.mark.parametrize("poses", [False, True])
def test_encoding_in_batches_is_encoding_at_once(monkeypatch: pytest.MonkeyPatch, poses: bool) -> None:
    model, clips = small_vdsm(), some_clips(5, 3, 4, 5, 2, 4, 3)
    once = encode(model, clips, poses=poses)
    monkeypatch.setattr(module, "BATCH", 3)
    parts = encode(model, clips, poses=poses)
    assert once.static is not None
    assert once.path is not None
    assert parts.static is not None
    assert parts.path is not None
    assert parts.path.shape == (7, 5, 3)
    assert torch.allclose(once.static, parts.static, atol=1e-6)
    assert torch.allclose(once.path, parts.path, atol=1e-6)
    assert (once.dynamic is None) == poses
    assert torch.allclose(decode(model, once), decode(model, parts), atol=1e-5)


def test_a_set_of_clips_is_encoded_as_the_clips_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    model, clips = small_vdsm(), tiny_clips()
    of_set, of_clips = encode(model, clips), encode(model, clips.clips())
    assert of_set.dynamic is not None
    assert of_clips.dynamic is not None
    assert torch.equal(of_set.dynamic, of_clips.dynamic)
    assert not of_set.dynamic.requires_grad


def test_poses_are_the_other_way_to_encode() -> None:
    clips = grey_clips(4)
    by_frame, whole = encode(GreyModel(), clips, poses=True), encode(GreyModel(), clips)
    assert by_frame.path is not None
    assert whole.path is not None
    assert torch.equal(by_frame.path, 1 - whole.path)


def test_with_a_generator_codes_are_samples() -> None:
    model, clips = small_vdsm(), some_clips(4, 4)
    mean, one, again, other = (
        encode(model, clips, generator=None if seed is None else torch.Generator().manual_seed(seed)).static for seed in (None, 1, 1, 2)
    )
    assert mean is not None
    assert one is not None
    assert again is not None
    assert other is not None
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, mean)


@pytest.mark.parametrize(
    ("length", "steps", "windows"),
    [(8, 4, [4, 4]), (10, 4, [4, 4, 4]), (4, 4, [4]), (5, 4, [4, 4]), (3, 4, [3]), (1, 4, [1]), (17, 16, [16, 16]), (9, 2, [2] * 5)],
)
def test_a_long_clip_is_read_in_windows_and_every_frame_once(length: int, steps: int, windows: list[int]) -> None:
    model = GreyModel()
    codes = encode_long(model, grey_clips(length), steps)
    assert model.windows == windows
    assert [round(float(levels[0, -1]) * 256) for levels in model.seen][-1] == length
    assert codes.path is not None
    assert (codes.path[0, :, 0] * 256).round().int().tolist() == list(range(1, length + 1))
    assert codes.mask is not None
    assert codes.mask.shape == (1, length)
    assert codes.mask.all()


def test_a_part_of_a_clip_keeps_its_controls() -> None:
    controls = torch.arange(12.0).view(1, 6, 2)
    part = clip_part(Clips(torch.rand(1, 6, 3, 8, 8), torch.ones(1, 6, dtype=torch.bool), controls), 2, 5)
    assert part.controls is not None
    assert torch.equal(part.controls, controls[:, 2:5])
    assert part.frames.shape[1] == part.mask.shape[1] == 3


def test_shared_frames_are_taken_from_the_window_that_came_first() -> None:
    class Marked(GreyModel):
        def encode(self, clips: Clips, generator: torch.Generator | None = None):  # type: ignore[no-untyped-def]
            codes = super().encode(clips, generator)
            return type(codes)(codes.static, None, torch.full_like(codes.path, len(self.windows)), codes.mask)

    codes = encode_long(Marked(), grey_clips(10), 4)
    assert codes.path is not None
    assert codes.path[0, :, 0].tolist() == [1] * 4 + [2] * 4 + [3] * 2


def test_the_static_code_of_a_long_clip_is_the_mean_of_its_windows() -> None:
    clip = grey_clips(6, blue=0.0)
    clip.frames[0, :4, -1], clip.frames[0, 4:, -1] = 0.2, 0.8
    codes = encode_long(GreyModel(), clip, 4)
    assert codes.static is not None
    assert codes.static.item() == pytest.approx((0.2 + 0.5) / 2)  # the second window has frames 2 to 5


def test_padding_behind_a_clip_is_not_read() -> None:
    clip = grey_clips(3, 6)[0:1]
    model = GreyModel()
    codes = encode_long(model, clip, 4)
    assert model.windows == [3]
    assert codes.path is not None
    assert codes.path.shape == (1, 3, 1)


def test_a_part_of_a_clip() -> None:
    part = clip_part(grey_clips(6, 4), 2, 5)
    assert (part.frames[0, :, 0, 0, 0] * 256).round().tolist() == [3, 4, 5]
    assert part.mask.tolist() == [[True] * 3, [True, True, False]]


@pytest.mark.parametrize(("poses", "ability"), [(False, "Encodes"), (True, "EncodesFrames")])
def test_a_model_without_the_ability_is_told_of_those_that_have_it(poses: bool, ability: str) -> None:
    with pytest.raises(MissingAbility, match=f"ability {ability}, got Linear, which lacks it. Models that can: vdsm"):
        encode(nn.Linear(1, 1), grey_clips(2), poses=poses)
    with pytest.raises(MissingAbility, match="ability Decodes, got Linear"):
        decode(nn.Linear(1, 1), encode(GreyModel(), grey_clips(2)))


def test_one_frame_and_frames_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="clips of at least 2 frames, got T = 1. For single frames use encode_frames"):
        encode(small_vdsm(), some_clips(1))
    with pytest.raises(UserError, match=r"frames of shape \(3, 8, 8\) for this vdsm model, got frames of shape \(3, 2, 2\)"):
        encode(small_vdsm(), grey_clips(3))
