from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from stillmotion.objectives.pixels import Pixels


def _frames() -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 1, 4, 4, generator=noise), (torch.rand(2, 3, 1, 4, 4, generator=noise) > 0.5).float()


def test_bernoulli_pixels_are_those_of_torch() -> None:
    logits, frames = _frames()
    torch.testing.assert_close(Pixels().nll(logits, frames), -Bernoulli(logits=logits).log_prob(frames).flatten(2).sum(2))


def test_gaussian_pixels_have_their_mean_at_the_sigmoid() -> None:
    logits, frames = _frames()
    expected = -Normal(torch.sigmoid(logits), 0.2).log_prob(frames).flatten(2).sum(2)
    torch.testing.assert_close(Pixels("gaussian", 0.2).nll(logits, frames), expected)


def test_a_learned_scale_goes_to_the_error_of_the_decoder() -> None:
    """The best standard deviation is the root of the mean squared error."""
    logits, frames = _frames()
    pixels = Pixels("gaussian", 0.1, learned=True)
    optimiser = torch.optim.Adam(pixels.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        pixels.nll(logits, frames).sum().backward()
        optimiser.step()
    error = (torch.sigmoid(logits) - frames).square().mean().sqrt().item()
    assert math.isclose(pixels.log_scale.exp().item(), error, rel_tol=1e-3)


def test_a_scale_that_has_no_part_in_the_likelihood_is_no_parameter() -> None:
    with pytest.warns(UserWarning, match="learned_scale has no effect"):
        assert not list(Pixels("bernoulli", learned=True).parameters())
    assert not Pixels("gaussian", 0.1).state_dict()
