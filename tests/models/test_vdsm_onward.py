"""VDSM: paths that go on beyond the clips of the training, and means that lie on a grid."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from oracles.small_vdsm import noise, small_vdsm, some_clips
from stillmotion.core.clips import Clips
from stillmotion.models.files import load, save
from stillmotion.models.vdsm import VDSM


@pytest.mark.parametrize("foresight", [0.0, 0.5])
@pytest.mark.parametrize(("trained", "window"), [(0, 4), (7, 7), (3, 3)])
@torch.no_grad()
def test_beyond_what_it_was_trained_on_each_frame_follows_from_those_before_it_read_as_a_clip(
    trained: int, window: int, foresight: float
) -> None:
    model, clips = small_vdsm(foresight=foresight), some_clips(4, 4)
    read = window - 1 if foresight else window
    model.horizon.fill_(trained)
    codes = model.encode(clips)
    path = model.predict(codes, 10).path
    assert path is not None
    assert codes.dynamic is not None
    told = max(window, 4)
    torch.testing.assert_close(path[:, :told], model._path(codes.dynamic, told, None)[0])
    for t in range(told, 10):
        d = model._dynamic(path[:, t - read : t], torch.ones(2, read, dtype=torch.bool), None).mean
        torch.testing.assert_close(path[:, t], model._path(d, read + 1, None)[0][:, -1])
    assert (path - model._path(codes.dynamic, 10, None)[0]).abs().max() > 1e-4


@torch.no_grad()
def test_a_path_that_is_longer_than_those_of_the_training_is_kept() -> None:
    model = small_vdsm()
    model.remember(model.encode(some_clips(*[4] * 4)))
    codes = model.recombine(3, 9, noise())
    path = model.predict(codes, 12).path
    assert path is not None
    assert codes.path is not None
    assert torch.equal(path[:, :9], codes.path)
    assert torch.equal(model.predict(codes, 6).path, codes.path[:, :6])


@torch.no_grad()
def test_the_length_of_the_training_clips_is_remembered_and_saved(tmp_path: Path) -> None:
    model, clips = small_vdsm(), some_clips(*[5] * 4)
    model.remember(model.encode(clips))
    save(model, tmp_path)
    again = load(tmp_path).model
    assert isinstance(again, VDSM)
    assert int(again.horizon) == 5
    torch.testing.assert_close(again.recombine(3, 9, noise()).path, model.recombine(3, 9, noise()).path)


def divergence_of_d(model: VDSM, clips: Clips, objective: str) -> Tensor:
    return model(clips, {}, noise(5), objective).values["dynamic_kl"]


def without_the_end(clips: Clips) -> Clips:
    """The same clips with another last frame each, of those that are there."""
    last = clips.mask & (clips.mask.cumsum(1) == clips.mask.sum(1, keepdim=True))
    return Clips(torch.where(last[:, :, None, None, None], 1 - clips.frames, clips.frames), clips.mask)


@pytest.mark.parametrize("objective", ["paths", "sequence"])
@pytest.mark.parametrize(
    ("foresight", "lengths", "training", "depends"),
    [(1.0, (4, 3), True, False), (0.0, (4, 3), True, True), (1.0, (2, 2), True, True), (1.0, (4, 3), False, True)],
)
@torch.no_grad()
def test_with_foresight_d_is_read_without_the_last_frame_in_training_where_two_are_left(
    objective: str, foresight: float, lengths: tuple[int, int], training: bool, depends: bool
) -> None:
    model, clips = small_vdsm(foresight=foresight, rnn_dropout=0.0).train(training), some_clips(*lengths)
    found, other = (divergence_of_d(model, each, objective) for each in (clips, without_the_end(clips)))
    assert bool((found - other).abs() > 1e-6) == depends


@torch.no_grad()
def test_foresight_is_asked_of_a_share_of_the_clips_and_the_path_of_every_frame_is_scored() -> None:
    mask = torch.arange(5) < torch.randint(3, 6, (4000, 1), generator=noise(1))
    known = small_vdsm(foresight=0.25).train()._known(mask, noise(2))
    lost = mask & ~known
    assert lost.sum(1).max() == 1
    assert torch.equal(lost.any(1), known.sum(1) == mask.sum(1) - 1)
    assert not (lost & ~(torch.arange(5) == mask.sum(1, keepdim=True) - 1)).any()  # the last one, where one is lost
    assert float(lost.any(1).float().mean()) == pytest.approx(0.25, abs=0.03)
    model, clips = small_vdsm(foresight=1.0, rnn_dropout=0.0).train(), some_clips(4, 3)
    found, other = (model(each, {}, noise(5), "paths").values["path_match"] for each in (clips, without_the_end(clips)))
    assert (found - other).abs() > 1e-4


GRIDS: dict[str, object] = {"static_grid": 0.25, "dynamic_grid": 0.5}


@pytest.mark.parametrize("average", ["encodings", "codes"])
@torch.no_grad()
def test_means_on_a_grid_are_the_nearest_multiples_in_scales_of_the_priors(average: str) -> None:
    free, model, clips = small_vdsm(average=average), small_vdsm(average=average, **GRIDS), some_clips(4, 3)
    found, plain = model.encode(clips), free.encode(clips)
    for code, told, step in (
        (found.static, plain.static, 0.25 / 2), (found.dynamic, plain.dynamic, 0.5)  # 1/4 is the variance of p(s)
    ):  # fmt: skip
        assert code is not None
        assert told is not None
        torch.testing.assert_close(code, step * (told / step).round())
        assert (code - told).abs().max() > 1e-3
    terms, others = (each.loss(clips, {}, None).values for each in (model, free))
    assert terms["dynamic_kl"] != others["dynamic_kl"]
