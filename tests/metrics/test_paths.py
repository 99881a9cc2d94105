from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.paths import centroids, path_correlation, path_reach


def blobs(places: Tensor, size: int = 40, haze: float = 0.0) -> Tensor:
    """Clips (B, T, 3, size, size) of a round, smooth blob at known places (B, T, 2), before a wall of even grey."""
    axis = torch.arange(size, dtype=torch.float32)
    x, y = (places[..., k, None, None] for k in (0, 1))
    light = torch.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * 2.5**2))
    return (haze + (1 - haze) * light)[:, :, None].repeat(1, 1, 3, 1, 1)


def circle(turns: float, steps: int = 16, radius: float = 9.0) -> Tensor:
    angle = torch.arange(steps) / steps * turns * 2 * math.pi
    return torch.stack([19.5 + radius * angle.cos(), 19.5 + radius * angle.sin()], -1)[None]


@pytest.mark.parametrize("haze", [0.0, 0.2])
def test_a_blob_is_found_where_it_was_drawn(haze: float) -> None:
    places = torch.stack([torch.linspace(10, 29, 6), torch.linspace(25.5, 12.25, 6)], -1)[None]
    torch.testing.assert_close(centroids(blobs(places, haze=haze)), places, atol=0.02, rtol=0)


def test_a_single_pixel_is_its_own_centre() -> None:
    frames = torch.zeros(1, 1, 1, 5, 8)
    frames[0, 0, 0, 3, 6] = 0.5
    assert centroids(frames).tolist() == [[[6.0, 3.0]]]


def test_dark_frames_have_no_centre() -> None:
    frames = blobs(circle(1.0, steps=3))
    frames[0, 1] = 0.01
    assert centroids(frames).isnan().all(-1).tolist() == [[False, True, False]]


@pytest.mark.parametrize("frames", [torch.zeros(4, 1, 8, 8), torch.zeros(1, 4, 1, 8, 8, dtype=torch.uint8)])
def test_other_tensors_are_refused(frames: Tensor) -> None:
    with pytest.raises(UserError, match="float frames"):
        centroids(frames)


def test_a_path_goes_with_itself_wherever_it_lies_and_however_far_it_reaches() -> None:
    path = circle(1.0)
    torch.testing.assert_close(path_correlation(5 + 0.5 * path, path), torch.ones(1))
    torch.testing.assert_close(path_reach(5 + 0.5 * path, path), torch.full((1,), 0.5))
    torch.testing.assert_close(path_correlation(-path, path), -torch.ones(1))


def test_a_path_across_does_not_go_with_one_along() -> None:
    way = torch.linspace(0, 20, 11)
    along, across = torch.stack([way, torch.zeros(11)], -1)[None], torch.stack([torch.zeros(11), way], -1)[None]
    assert path_correlation(across, along).item() == 0
    # half of the variance of a diagonal is along: the correlation is cos 45 degrees
    assert path_correlation(along + across, along).item() == pytest.approx(math.sqrt(0.5))


def test_the_correlation_is_that_of_all_places_read_as_one_row() -> None:
    draws = torch.randn(2, 3, 16, 2, generator=torch.Generator().manual_seed(0))
    first, second = draws - draws.mean(2, keepdim=True)
    expected = torch.stack([torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(path_correlation(draws[0], draws[1]), expected)


def test_frames_in_which_nothing_is_seen_cost_and_a_clip_of_them_is_worth_nothing() -> None:
    path = circle(1.0)
    half = path.clone()
    half[:, ::2] = torch.nan
    assert 0.5 < path_correlation(half, path).item() < 0.8
    assert path_correlation(torch.full_like(path, torch.nan), path).item() == 0
    assert path_correlation(torch.zeros_like(path), path).item() == 0
    assert path_reach(torch.full_like(path, torch.nan), path).item() == 0


def test_paths_of_different_length_are_refused() -> None:
    with pytest.raises(UserError, match="two sets of paths"):
        path_correlation(circle(1.0), circle(1.0, steps=8))
