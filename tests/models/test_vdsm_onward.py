"""VDSM: paths that go on beyond the clips of the training, and means that lie on a grid."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oracles.small_vdsm import noise, small_vdsm, some_clips
from stillmotion.models.files import load, save
from stillmotion.models.vdsm import VDSM


@pytest.mark.parametrize(("trained", "window"), [(0, 4), (7, 7), (3, 3)])
@torch.no_grad()
def test_beyond_what_it_was_trained_on_each_frame_follows_from_those_before_it_read_as_a_clip(trained: int, window: int) -> None:
    model, clips = small_vdsm(), some_clips(4, 4)
    model.horizon.fill_(trained)
    codes = model.encode(clips)
    path = model.predict(codes, 10).path
    assert path is not None
    assert codes.dynamic is not None
    told = max(window, 4)
    torch.testing.assert_close(path[:, :told], model._path(codes.dynamic, told, None)[0])
    for t in range(told, 10):
        d = model._dynamic(path[:, t - window : t], torch.ones(2, window, dtype=torch.bool), None).mean
        torch.testing.assert_close(path[:, t], model._path(d, window + 1, None)[0][:, -1])
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
