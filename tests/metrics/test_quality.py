from __future__ import annotations

import pytest
import torch

from stillmotion.metrics.quality import psnr


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
