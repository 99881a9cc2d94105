"""Pixel likelihoods against torch."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from stillmotion.objectives.likelihoods import bernoulli_nll, gaussian_nll

SHAPE = (2, 3, 3, 4, 4)


def test_bernoulli_pixels_are_those_of_torch() -> None:
    logits, frames = 4 * torch.randn(SHAPE), torch.randint(0, 2, SHAPE).float()
    expected = -Bernoulli(logits=logits).log_prob(frames).sum((2, 3, 4))
    torch.testing.assert_close(bernoulli_nll(logits, frames), expected)


def test_grey_pixels_are_taken_as_probabilities() -> None:
    # in double precision: in single, the naive form of the oracle loses digits where a pixel is all but sure
    logits, frames = 4 * torch.randn(SHAPE, dtype=torch.double), torch.rand(SHAPE, dtype=torch.double)
    shown = torch.sigmoid(logits)
    expected = -(frames * shown.log() + (1 - frames) * (1 - shown).log()).sum((2, 3, 4))
    torch.testing.assert_close(bernoulli_nll(logits, frames), expected, rtol=1e-4, atol=1e-4)


def test_extreme_logits_stay_finite() -> None:
    nll = bernoulli_nll(torch.tensor([1e4, -1e4]).view(1, 1, 2), torch.tensor([0.0, 1.0]).view(1, 1, 2))
    torch.testing.assert_close(nll, torch.tensor([[2e4]]))


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_gaussian_pixels_are_those_of_torch(scale: float) -> None:
    mean, frames = torch.rand(SHAPE), torch.rand(SHAPE)
    expected = -Normal(mean, scale).log_prob(frames).sum((2, 3, 4))
    torch.testing.assert_close(gaussian_nll(mean, frames, scale), expected)


def test_sequences_that_are_not_video_are_summed_too() -> None:
    mean, frames = torch.rand(2, 3, 7), torch.rand(2, 3, 7)
    torch.testing.assert_close(gaussian_nll(mean, frames, 0.3), -Normal(mean, 0.3).log_prob(frames).sum(2))
