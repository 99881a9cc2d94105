from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.spatial.distance import hamming
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from stillmotion.core.errors import UserError
from stillmotion.metrics.quality import psnr, ssim, wrong_pixels

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]


def test_a_constant_error_gives_its_closed_form() -> None:
    target = torch.full((3, 4, 3, 5, 5), 0.25)
    offsets = torch.tensor([0.1, 0.01, 0.5])
    found = psnr(target + offsets.view(3, 1, 1, 1, 1), target, torch.ones(3, 4, dtype=torch.bool))
    assert found.tolist() == pytest.approx([20.0, 40.0, 6.0206], abs=1e-3)


def test_errors_are_averaged_before_the_logarithm() -> None:
    target = torch.zeros(1, 2, 1, 2, 2)
    frames = target.clone()
    frames[0, 0] = 0.2
    assert psnr(frames, target, torch.ones(1, 2, dtype=torch.bool)).item() == pytest.approx(
        -10 * torch.tensor(0.02).log10().item(), abs=1e-4
    )


def test_frames_that_are_not_there_do_not_count() -> None:
    g = torch.Generator().manual_seed(0)
    frames, target = torch.rand(2, 5, 3, 4, 4, generator=g), torch.rand(2, 5, 3, 4, 4, generator=g)
    mask = torch.arange(5) < torch.tensor([[3], [5]])
    alone = psnr(frames[:1, :3], target[:1, :3], mask[:1, :3])
    frames[0, 3:] = 9.0
    assert torch.allclose(psnr(frames, target, mask)[:1], alone)


def test_equal_frames_have_a_finite_bound() -> None:
    frames = torch.rand(1, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert psnr(frames, frames, torch.ones(1, 2, dtype=torch.bool)).item() == pytest.approx(100.0)


def clips(seed: int, size: int = 16, steps: int = 4, channels: int = 3, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.rand(3, steps, channels, size, size + 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


ALL = torch.ones(3, 4, dtype=torch.bool)


def test_ssim_of_equal_frames_is_one() -> None:
    assert ssim(clips(0), clips(0), ALL).tolist() == pytest.approx([1.0] * 3)


def test_ssim_of_flat_frames_is_its_luminance_alone() -> None:
    dark, light = torch.full((1, 1, 1, 11, 11), 0.2, dtype=torch.double), torch.full((1, 1, 1, 11, 11), 0.6, dtype=torch.double)
    assert ssim(dark, light, ALL[:1, :1]).item() == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-10), (torch.float, 1e-5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_torchmetrics(channels: int, dtype: torch.dtype, tolerance: float) -> None:
    target = clips(0, channels=channels, dtype=dtype)
    frames = (0.7 * target + 0.3 * clips(1, channels=channels, dtype=dtype)).clamp(0, 1)
    # torchmetrics averages over places at the border too, where it mirrors the frame; inside, its map is the published one
    maps = structural_similarity_index_measure(frames.flatten(0, 1), target.flatten(0, 1), data_range=1.0, return_full_image=True)[1]
    oracle = maps[..., 5:-5, 5:-5].unflatten(0, (3, 4)).flatten(1).mean(1).tolist()
    assert ssim(frames, target, ALL).tolist() == pytest.approx(oracle, abs=tolerance)
    assert 0.3 < min(oracle) < max(oracle) < 0.98


def test_ssim_of_unrelated_noise_is_about_nought() -> None:
    assert ssim(clips(0, size=32), clips(1, size=32), ALL).abs().max() < 0.1


def test_ssim_counts_the_frames_that_are_there() -> None:
    frames, target, mask = clips(0), clips(1), torch.arange(4) < torch.tensor([[2], [4], [1]])
    expected = [ssim(frames[k : k + 1, :n], target[k : k + 1, :n], ALL[:1, :n]).item() for k, n in enumerate((2, 4, 1))]
    frames[~mask] = float("nan")
    assert ssim(frames, target, mask).tolist() == pytest.approx(expected)


def test_ssim_of_frames_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(UserError, match="at least 11 x 11 pixels for SSIM, got 10 x 13.*PSNR"):
        ssim(clips(0, size=10), clips(0, size=10), ALL)


def test_wrong_pixels_are_counted_in_the_missing_frames_alone() -> None:
    target = torch.zeros(2, 4, 1, 2, 2)
    frames = target.clone()
    frames[0, 1, 0, 0, 0], frames[0, 2], frames[1, 0] = 0.51, 0.49, 1.0
    missing = torch.tensor([[False, True, True, False], [False, True, False, False]])
    assert wrong_pixels(frames, target, missing).tolist() == [1 / 8, 0.0]
    assert wrong_pixels(frames, target, ~missing).tolist() == pytest.approx([0.0, 1 / 3])


def test_wrong_pixels_are_the_distance_of_hamming() -> None:
    frames, target = clips(0), clips(1)
    missing = torch.rand(3, 4, generator=torch.Generator().manual_seed(2)) < 0.7
    expected = [hamming(f[m].flatten() > 0.5, t[m].flatten() > 0.5) for f, t, m in zip(frames, target, missing, strict=True)]
    assert wrong_pixels(frames, target, missing).tolist() == pytest.approx(expected)
    assert wrong_pixels(target, target, missing).tolist() == [0.0] * 3
    assert wrong_pixels((target <= 0.5).double(), target, missing).tolist() == [1.0] * 3


@pytest.mark.parametrize("measure", [psnr, ssim, wrong_pixels])
def test_frames_that_are_not_numbers_are_refused_where_they_count(measure: Measure) -> None:
    frames, mask = clips(0), ALL.clone()
    frames[1, 3, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="finite .*frames, got 1 of 3 clips"):
        measure(frames, clips(1), mask)
    mask[:, 3] = False
    assert measure(frames, clips(1), mask).isfinite().all()


@pytest.mark.parametrize("measure", [psnr, ssim, wrong_pixels])
def test_a_clip_without_frames_and_other_shapes_are_refused(measure: Measure) -> None:
    mask = ALL.clone()
    mask[2] = False
    with pytest.raises(UserError, match="in every clip, got none in clip 2. Leave such clips out"):
        measure(clips(0), clips(1), mask)
    with pytest.raises(UserError, match="decoded and real frames of one shape"):
        measure(clips(0), clips(1)[:, :3], ALL)
    with pytest.raises(UserError, match="and a mask"):
        measure(clips(0), clips(1), ALL[:, :3])


@pytest.mark.parametrize("measure", [psnr, ssim, wrong_pixels])
def test_clips_are_measured_one_by_one(measure: Measure) -> None:
    frames, target, order = clips(0), clips(1), torch.tensor([2, 0, 1])
    assert measure(frames[order], target[order], ALL).tolist() == pytest.approx(measure(frames, target, ALL)[order].tolist())
