from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from stillmotion.data.base import ClipSet
from stillmotion.report.maps import MOST_CLASSES, SIDE, maps_of, project


def clip_set(count: int, **columns: torch.Tensor) -> ClipSet:
    return ClipSet.whole(torch.zeros(count, 1, 1, 2, 2, dtype=torch.uint8), columns, {})


def test_the_projection_is_that_of_the_largest_eigenvectors_of_the_covariance() -> None:
    codes = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5, 2, 0.1, 3, 1]) + 4
    values, vectors = np.linalg.eigh(np.cov(codes.double().numpy().T))
    first, second = vectors[:, -1], vectors[:, -2]
    centred = codes.double().numpy() - codes.double().numpy().mean(0)
    truth = np.stack([centred @ (axis * np.sign(axis[np.abs(axis).argmax()])) for axis in (first, second)], 1)
    found = project(codes)
    np.testing.assert_allclose(found.points.numpy(), truth, atol=1e-6)
    np.testing.assert_allclose(found.share, values[::-1][:2] / values.sum(), atol=1e-9)


@pytest.mark.parametrize("codes", [torch.arange(5.0)[:, None], torch.zeros(5, 3)])
def test_codes_of_one_dimension_or_without_spread_can_be_drawn(codes: torch.Tensor) -> None:
    found = project(codes)
    assert found.points.shape == (5, 2)
    assert found.points.isfinite().all()
    assert (found.points[:, 1] == 0).all()


def test_points_fill_the_drawing_and_keep_their_shape() -> None:
    codes = torch.tensor([[0.0, 0], [10, 0], [10, 2], [0, 2], [5, 1]])
    dots = maps_of({"static": codes}, clip_set(5, kind=torch.arange(5)))["kind"][0].dots
    places = np.array([(x, y) for x, y, _ in dots])
    spans = np.ptp(places, axis=0)
    assert spans[0] / spans[1] == pytest.approx(5, abs=0.05)
    assert places.min() > 0
    assert places.max() < SIDE
    assert places.mean(0) == pytest.approx([SIDE / 2, SIDE / 2], abs=0.1)


def test_every_clip_is_coloured_by_its_class() -> None:
    labels = torch.tensor([0, 1, 2, 1, -1])
    clips = ClipSet.whole(torch.zeros(5, 1, 1, 2, 2, dtype=torch.uint8), {"hue": labels}, {"hue": ("red", "beige")})
    found = maps_of({"static": torch.randn(5, 3), "dynamic": torch.randn(5, 2)}, clips)
    static, dynamic = found["hue"]
    assert [group.name for _, _, group in static.dots] == ["red", "beige", "2", "beige", "all others"]
    assert [group.name for group in dynamic.groups] == ["red", "beige", "2", "all others"]
    assert static.groups[0].colour.startswith("#")  # drawn in the colour it is called by
    assert static.groups[1].colour == ""


def test_only_the_commonest_classes_have_a_colour_of_their_own() -> None:
    labels = torch.cat([torch.arange(20), torch.arange(5, 17)])
    code_map = maps_of({"static": torch.randn(32, 3)}, clip_set(32, kind=labels))["kind"][0]
    counted = Counter(group.name for _, _, group in code_map.dots)
    assert counted["all others"] == 8
    assert set(counted) == {str(k) for k in range(5, 17)} | {"all others"}
    assert len(code_map.groups) == MOST_CLASSES + 1
    assert len({(group.tone, group.square) for group in code_map.groups}) == MOST_CLASSES + 1


def test_factors_of_one_class_are_not_worth_a_map() -> None:
    clips = clip_set(4, same=torch.zeros(4, dtype=torch.long), kind=torch.tensor([0, 1, 0, 1]))
    assert list(maps_of({"static": torch.randn(4, 3)}, clips)) == ["kind"]


def test_clips_of_which_nothing_is_known_are_drawn_alike() -> None:
    code_map = maps_of({"static": torch.randn(4, 3)}, clip_set(4))[""][0]
    assert len(code_map.groups) == 1
    assert len(code_map.dots) == 4
