"""DSA told a second time, in Pyro: one clip, one frame after another, its recurrent nets by their gates.

The weights are those of a DSA instance; how the nets hang together, the priors and every density are written here anew. A gap in the
clip is a frame that is not observed; with the factorised posterior its state is drawn by the guide from the dynamics themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import Bernoulli, Normal
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from oracles.vdsm_in_pyro import fixed_noise
from stillmotion.models.dsa import DSA

FLOOR = 1e-4


@dataclass(frozen=True)
class Weights:
    """Beta on either divergence."""

    static_kl: float = 1.0
    path_kl: float = 1.0


def lstm(layer: nn.LSTM, xs: list[Tensor], suffix: str) -> list[Tensor]:
    """Hidden states of one layer and direction, gate by gate, from zero states. `suffix`: l0, l1, l0_reverse."""
    w_x, w_h, b_x, b_h = (getattr(layer, f"{part}_{suffix}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = torch.zeros(layer.hidden_size)
    outputs = []
    for x in xs:
        i, f, g, o = (w_x @ x + b_x + w_h @ h + b_h).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return outputs


def rnn(layer: nn.RNN, xs: list[Tensor]) -> list[Tensor]:
    h, outputs = torch.zeros(layer.hidden_size), []
    for x in xs:
        h = torch.tanh(layer.weight_ih_l0 @ x + layer.bias_ih_l0 + layer.weight_hh_l0 @ h + layer.bias_hh_l0)
        outputs.append(h)
    return outputs


def dynamics(dsa: DSA, zs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and scale of p(z_t | zs), by feeding the LSTM zero and then all states before."""
    hidden = [torch.zeros(dsa.config.path), *zs]
    for layer in range(dsa.config.prior_cells):
        hidden = lstm(dsa.prior_rnn, hidden, f"l{layer}")
    return heads(dsa.prior_head(hidden[-1]))


def heads(numbers: Tensor) -> tuple[Tensor, Tensor]:
    mean, raw = numbers.chunk(2)
    return mean, F.softplus(raw) + FLOOR


@dataclass(frozen=True)
class Story:
    """Model and guide for one clip x (T, C, H, W), of which the frames `seen` are there."""

    dsa: DSA
    x: Tensor
    seen: list[bool]
    weights: Weights = Weights()

    def model(self) -> None:
        config, path = self.dsa.config, []
        with pyro.poutine.scale(scale=self.weights.static_kl):
            f = _gaussian("f", torch.zeros(config.static), torch.ones(config.static))
        for t, there in enumerate(self.seen):
            with pyro.poutine.scale(scale=self.weights.path_kl):
                path.append(_gaussian(f"z_{t}", *dynamics(self.dsa, path)))
            if there:
                pyro.sample(f"x_{t}", self._pixel(self.dsa.decoder(torch.cat([path[-1], f])[None])[0]), obs=self.x[t])

    def _pixel(self, logits: Tensor) -> Any:
        if self.dsa.config.likelihood == "bernoulli":
            pixel: Any = Bernoulli(logits=logits, validate_args=False)
        else:
            pixel = Normal(1 / (1 + (-logits).exp()), self.dsa.pixels.log_scale.exp())
        return pixel.to_event(3)

    def guide(self) -> None:
        features = list(self.dsa.encoder(self.x))
        kept = [feature for feature, there in zip(features, self.seen, strict=True) if there]
        layer = self.dsa.static_rnn
        summary = torch.cat([lstm(layer, kept, "l0")[-1], lstm(layer, kept[::-1], "l0_reverse")[-1]])
        with pyro.poutine.scale(scale=self.weights.static_kl):
            f = _gaussian("f", *heads(self.dsa.static_head(summary)))
        posteriors = self._factorised(features) if self.dsa.config.posterior == "factorised" else self._full(kept, f)
        path: list[Tensor] = []
        for t, posterior in enumerate(posteriors):
            with pyro.poutine.scale(scale=self.weights.path_kl):
                path.append(_gaussian(f"z_{t}", *(dynamics(self.dsa, path) if posterior is None else posterior)))

    def _factorised(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor] | None]:
        told = [heads(self.dsa.path_head(self.dsa.path_hidden(feature))) for feature in features]
        return [one if there else None for one, there in zip(told, self.seen, strict=True)]

    def _full(self, kept: list[Tensor], f: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        xs = [torch.cat([feature, f]) for feature in kept]
        forwards, backwards = lstm(self.dsa.clip_rnn, xs, "l0"), lstm(self.dsa.clip_rnn, xs[::-1], "l0_reverse")[::-1]
        nothing, inputs = torch.zeros_like(forwards[0]), []
        for t in range(len(self.seen)):
            before, behind = sum(self.seen[: t + 1]), sum(self.seen[:t])
            left = forwards[before - 1] if before else nothing
            inputs.append(torch.cat([left, backwards[behind] if behind < len(kept) else nothing]))
        last = max(t for t, there in enumerate(self.seen) if there)
        told = [heads(self.dsa.path_head(h)) for h in rnn(self.dsa.path_rnn, inputs)]
        return [one if t <= last else None for t, one in enumerate(told)]


def _gaussian(name: str, mean: Tensor, scale: Tensor) -> Tensor:
    normal: Any = Normal(mean, scale)
    value: Tensor = pyro.sample(name, normal.to_event(1))
    return value


def negative_elbo(story: Story, noise: Mapping[str, Tensor]) -> float:
    """The loss of one clip by Pyro, divergences in closed form, the guide's draws made of the noise that is given."""

    def fixed(*_: Any) -> None:
        with fixed_noise(noise):
            story.guide()

    with pyro.validation_enabled(False):
        return float(TraceMeanField_ELBO().loss(story.model, fixed))
