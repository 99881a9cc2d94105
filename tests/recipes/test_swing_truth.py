"""The likelihood of a pendulum's clip under its own world, against an integral over a fine grid of starts."""

from __future__ import annotations

import math

import pytest
import torch

from stillmotion.core.errors import UserError
from stillmotion.data import torque
from stillmotion.data.balls import box
from stillmotion.recipes.swing_truth import true_log_likelihood


@pytest.mark.parametrize(("noise", "steps"), [(0.01, 3), (0.03, 2), (0.02, 6)])
def test_it_is_the_integral_over_all_starts(noise: float, steps: int) -> None:
    clips = torque.load(clips=1, validation=1, test=3, steps=steps, noise=noise).test
    found = true_log_likelihood(clips, noise)
    variance, every = noise**2 + 1 / 255**2 / 12, clips.clips()
    assert every.controls is not None
    for k in range(3):
        true = clips.truth()[k, 0]
        # wide enough for all that matters of the posterior, whose deviations are some thousandths and hundredths
        angles = true[0] + torch.linspace(-0.02, 0.02, 61, dtype=torch.float64) * noise / 0.01
        velocities = true[1] + torch.linspace(-0.25, 0.25, 61, dtype=torch.float64) * noise / 0.01
        starts = torch.cartesian_prod(angles, velocities)
        drawn = 0.1 + 0.8 * torque.light(torque.swing(starts, every.controls[k, :, 0].double().expand(len(starts), -1))[..., 0])
        off = (every.frames[k, :, 0].double() - drawn).flatten(1)
        pixels = -0.5 * (off.square() / variance + math.log(2 * math.pi * variance)).sum(1)
        prior = -math.log(2 * math.pi) - 0.5 * (starts[:, 1] ** 2 / 4 + math.log(8 * math.pi))
        cell = (angles[1] - angles[0]) * (velocities[1] - velocities[0])
        exact = torch.logsumexp(pixels + prior, 0) + cell.log()
        assert found[k].item() == pytest.approx(exact.item(), abs=0.03)


def test_the_start_costs_some_ten_nats() -> None:
    clips = torque.load(clips=1, validation=1, test=20, noise=0.01).test
    scale = math.sqrt(0.01**2 + 1 / 255**2 / 12)
    drawn = 0.1 + 0.8 * torque.light(clips.truth()[..., 0].double())
    known = torch.distributions.Normal(drawn, scale).log_prob(clips.clips().frames[:, :, 0].double()).flatten(1).sum(1)
    cost = known - true_log_likelihood(clips, 0.01)
    assert (cost > 5).all()
    assert (cost < 20).all()


def test_a_clip_of_another_world_is_less_likely() -> None:
    clips = torque.load(clips=1, validation=1, test=5, steps=6, noise=0.01).test
    controls = clips.controls
    assert controls is not None
    right = true_log_likelihood(clips, 0.01).mean()
    controls.neg_()
    assert true_log_likelihood(clips, 0.01).mean() < right - 5


def test_clips_of_another_kind_are_refused() -> None:
    plain = torque.load(clips=1, validation=1, test=1).test
    with pytest.raises(UserError, match=r"a background of 0\.1"):
        true_log_likelihood(plain, 0.01)
    with pytest.raises(UserError, match="the torques as controls"):
        true_log_likelihood(box(clips=1, validation=1, test=1).test, 0.01)


def test_no_noise_is_refused() -> None:
    with pytest.raises(UserError, match="clips with noise"):
        true_log_likelihood(torque.load(clips=1, validation=1, test=1).test, 0.0)
