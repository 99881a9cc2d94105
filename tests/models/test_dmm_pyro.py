"""The bound of the deep Markov model against the same model told in Pyro, clip by clip, with the same noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oracles.dmm_in_pyro import Tale, negative_elbo
from oracles.small_dmm import small_dmm, some_clips
from oracles.small_vdsm import noise
from stillmotion.core.clips import Clips
from stillmotion.core.random import normal
from stillmotion.models.dmm import DMM

POSTERIORS = ("smoothing", "both", "filtering", "mean_field", "mean_field_past", "mean_field_future")
OPTIONS: list[dict[str, Any]] = [
    {"transition": "mlp"}, {"first": "learned"}, {"rnn": "gru"}, {"rnn": "rnn", "posterior": "both"}, {"flows": 1}, {"controls": 2},
    {"flows": 2, "posterior": "filtering"}, {"controls": 1, "transition": "mlp", "first": "learned", "posterior": "mean_field"},
    {"likelihood": "gaussian", "pixel_scale": 0.3, "learned_scale": True}, {"network": "dense", "width": 6},
]  # fmt: skip
GAPS = ["####", "##", "#..#", ".#.##"]


def some(model: DMM) -> Clips:
    rows = [row.ljust(5, ".") for row in GAPS]
    return some_clips(rows, model.config.controls)


def by_pyro(model: DMM, clips: Clips, weight: float) -> float:
    """Mean over clips, with the noise in the order in which the loss draws it: frame by frame."""
    g, (count, steps) = noise(5), clips.mask.shape
    drawn = torch.stack([normal((count, model.config.state), g, torch.zeros(())) for _ in range(steps)], 1)
    controls = torch.zeros(count, steps, 0) if clips.controls is None else clips.controls
    losses = [
        negative_elbo(Tale(model, x, seen.tolist(), u, weight), {f"z_{t}": own[t] for t in range(steps)})
        for x, seen, u, own in zip(clips.frames, clips.mask, controls, drawn, strict=True)
    ]
    return sum(losses) / count


@pytest.mark.parametrize("weight", [1.0, 3.0])
@pytest.mark.parametrize("posterior", POSTERIORS)
@torch.no_grad()
def test_the_bound_of_each_posterior_is_that_of_pyro(posterior: str, weight: float) -> None:
    model = small_dmm(posterior=posterior, controls=2)
    clips = some(model)
    expected = by_pyro(model, clips, weight)
    assert model(clips, {"path_kl": weight}, noise(5)).total.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()))
def test_the_bound_of_each_configuration_is_that_of_pyro(options: dict[str, Any]) -> None:
    model = small_dmm(**options)
    clips = some(model)
    expected = by_pyro(model, clips, 1.0)
    assert model(clips, {}, noise(5)).total.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("posterior", POSTERIORS)
@torch.no_grad()
def test_the_divergence_is_that_of_pyro(posterior: str) -> None:
    """The total is mostly pixels; the change of Pyro's bound with the weight of the divergence is that divergence alone."""
    model = small_dmm(posterior=posterior)
    clips = some(model)
    expected = (by_pyro(model, clips, 1001.0) - by_pyro(model, clips, 1.0)) / 1000
    assert model.loss(clips, {}, noise(5)).values["path_kl"].item() == pytest.approx(expected, rel=1e-3)
