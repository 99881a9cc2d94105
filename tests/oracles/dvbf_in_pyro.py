"""DVBF told a second time, in Pyro: one clip, one frame after another.

The layers are those of a DVBF instance; how they hang together, the transition, the missing frames and every density are written here
anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import Bernoulli, Normal
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from oracles.vdsm_in_pyro import fixed_noise
from stillmotion.models.dvbf import DVBF, LocallyLinear

FLOOR = 1e-3


def locally_linear(net: LocallyLinear, z: Tensor, u: Tensor, w: Tensor) -> Tensor:
    """The next state of one clip, entry by entry, from a sum over systems of sums over entries."""
    shares = net.weights(torch.cat([z, u])).exp()
    moved = torch.zeros_like(z)
    for share, i in zip(shares / shares.sum(), range(len(shares)), strict=True):
        for row in range(len(z)):
            moved[row] += share * sum(float(net.A[i, row, k]) * z[k] for k in range(len(z)))
            moved[row] += share * sum(float(net.C[i, row, k]) * w[k] for k in range(len(w)))
            if net.B is not None:
                moved[row] += share * sum(float(net.B[i, row, k]) * u[k] for k in range(len(u)))
    return moved


def last_output(layer: nn.LSTM, x: Tensor) -> Tensor:
    """The hidden state of a one-way LSTM after all of x (T, inputs)."""
    hidden: Tensor = layer(x[None])[1][0][0, 0]
    return hidden


@dataclass(frozen=True)
class Story:
    """The model and its guide for one clip: x (T, C, H, W), u (T, U), seen (T,)."""

    dvbf: DVBF
    x: Tensor
    u: Tensor
    seen: Tensor

    def model(self) -> None:
        def prior(t: int, _: Tensor | None) -> tuple[Tensor, Tensor]:
            return torch.zeros(self.dvbf.config.state), torch.ones(self.dvbf.config.state)

        for t, z in enumerate(self._states(prior)):
            if not self.seen[t]:
                continue
            logits = self.dvbf.decoder(z[None])[0]
            if self.dvbf.config.likelihood == "bernoulli":
                pixel: Any = Bernoulli(logits=logits, validate_args=False)
            else:
                pixel = Normal(1 / (1 + (-logits).exp()), self.dvbf.pixels.log_scale.exp())
            pyro.sample(f"x_{t}", pixel.to_event(3), obs=self.x[t])

    def guide(self) -> None:
        self._states(self._posterior)

    def _states(self, noise: Callable[[int, Tensor | None], tuple[Tensor, Tensor]]) -> list[Tensor]:
        m, path = self.dvbf, []
        for t, u in enumerate(self.u):
            w = pyro.sample(f"w_{t}", Normal(*noise(t, path[-1] if path else None)).to_event(1))
            if not path:
                path.append(m.first_state(w))
            elif isinstance(m.transition, LocallyLinear):
                path.append(locally_linear(m.transition, path[-1], u, w))
            else:
                path.append(path[-1] + m.transition.net(torch.cat([path[-1], u, w])))
        return path

    def _posterior(self, t: int, z: Tensor | None) -> tuple[Tensor, Tensor]:
        m, features = self.dvbf, self.dvbf.encoder(self.x)
        if z is None:
            both = m.clip_reader(features[self.seen][None])[1][0][:, 0]
            return self._split(m.first_head(torch.cat([both[0], both[1]])))
        later = [k for k in range(t, len(self.x)) if self.seen[k]]
        if m.future_reader is None:
            known, evidence = bool(self.seen[t]), features[t]
        elif later:
            pairs = torch.cat([features, self.u], 1)[later].flip(0)
            known, evidence = True, torch.cat([last_output(m.future_reader, pairs), torch.tensor([float(later[0] - t)]).log1p()])
        else:
            known, evidence = False, features[t]
        if not known:
            return torch.zeros_like(z), torch.ones_like(z)
        return self._split(m.noise_head((m.before(z) + m.evidence(torch.cat([evidence, self.u[t]]))).clamp(min=0)))

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        n = self.dvbf.config.state
        return parameters[:n], (1 + parameters[n:].exp()).log() + FLOOR


def negative_elbo(story: Story, noise: Mapping[str, Tensor]) -> float:
    """The loss of one clip by Pyro, divergences in closed form, with w = mean + scale * noise."""

    def fixed(*_: Any) -> None:
        with fixed_noise(noise):
            story.guide()

    with pyro.validation_enabled(False):
        return float(TraceMeanField_ELBO().loss(story.model, fixed))
