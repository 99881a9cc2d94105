"""Both losses of VDSM against the same model told in Pyro, clip by clip, with the same noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oracles.small_vdsm import noise, small_vdsm, some_clips
from oracles.vdsm_in_pyro import Story, Weights, negative_elbo
from stillmotion.core.clips import Clips
from stillmotion.core.random import normal
from stillmotion.models.vdsm import VDSM

DRAWS = 60
UNEQUAL = Weights(temperature=3.0, static_kl=0.3, dynamic_kl=2.5, path_kl=7.0)
OPTIONS: list[dict[str, object]] = [
    {}, {"likelihood": "gaussian", "pixel_scale": 0.2}, {"average": "codes", "prior_scale": "deviation", "dynamic_prior": "released"},
    {"decoder_input": "static"}, {"single_decoder": True}, {"encoder_slope": 1.0},
    {"mean_slope": 0.01}, {"pooled": True, "encoder_slope": 0.3},
]


def draws(model: VDSM, clips: Clips, objective: str, seed: int) -> list[dict[str, Tensor]]:
    """The noise of each clip, in the order in which the losses draw it: s, then d, then the path."""
    g, like, (count, steps) = noise(seed), torch.zeros(()), clips.mask.shape
    config = model.config
    s = normal((count, config.static), g, like)
    if objective == "poses":
        d, path = torch.zeros(count, 1), normal((count, steps, config.pose), g, like)
    else:
        d = normal((count, config.dynamic), g, like)
        path = torch.stack([normal((count, config.pose), g, like) for _ in range(steps)], 1)
    return [{"s": s[b], "d": d[b]} | {f"z_{t}": path[b, t] for t in range(steps)} for b in range(count)]


def by_pyro(model: VDSM, clips: Clips, objective: str, weights: Weights, seed: int) -> float:
    """Mean over clips; what the mask lacks is cut off."""
    frames = [clip[mask] for clip, mask in zip(clips.frames, clips.mask, strict=True)]
    losses = [
        negative_elbo(Story(model, x, weights), objective, own)
        for x, own in zip(frames, draws(model, clips, objective, seed), strict=True)
    ]
    return sum(losses) / len(losses)


def by_us(model: VDSM, clips: Clips, objective: str, weights: Weights, seed: int) -> float:
    return model(clips, vars(weights), noise(seed), objective).total.item()


@pytest.mark.parametrize("weights", [Weights(), UNEQUAL], ids=["plain", "weighted"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "paper")
@pytest.mark.parametrize("objective", ["poses", "sequence"])
@torch.no_grad()
def test_the_loss_is_that_of_pyro(objective: str, options: dict[str, object], weights: Weights) -> None:
    model, clips = small_vdsm(**options), some_clips(4, 2, 3)
    expected = by_pyro(model, clips, objective, weights, 5)
    assert by_us(model, clips, objective, weights, 5) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weights", [Weights(), UNEQUAL], ids=["plain", "weighted"])
@torch.no_grad()
def test_with_flows_the_loss_is_that_of_pyro(weights: Weights) -> None:
    model, clips = small_vdsm(posterior="iaf"), some_clips(3, 2)
    with torch.enable_grad():
        expected = by_pyro(model, clips, "sequence", weights, 5)
    assert by_us(model, clips, "sequence", weights, 5) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["static_kl", "dynamic_kl", "path_kl"])
@torch.no_grad()
def test_each_divergence_is_that_of_pyro(name: str) -> None:
    """The total is dominated by pixels; the change of Pyro's bound with one weight is that divergence alone."""
    model, clips = small_vdsm(), some_clips(4, 2, 3)
    light, heavy = (by_pyro(model, clips, "sequence", Weights(**{name: weight}), 5) for weight in (1.0, 1001.0))
    ours = model.loss(clips, {}, noise(5)).values[name].item()
    assert ours == pytest.approx((heavy - light) / 1000, rel=1e-3)


@torch.no_grad()
def test_the_mean_over_draws_agrees_with_a_bound_of_pyros_own_noise() -> None:
    model, clips = small_vdsm(), some_clips(3)
    ours = torch.tensor([by_us(model, clips, "sequence", Weights(), seed) for seed in range(DRAWS)])
    torch.manual_seed(0)
    story = Story(model, clips.frames[0], Weights())
    theirs = torch.tensor([negative_elbo(story, "sequence", {}) for _ in range(DRAWS)])
    error = ((ours.var() + theirs.var()) / DRAWS).sqrt()
    assert abs(ours.mean() - theirs.mean()) < 4 * error
