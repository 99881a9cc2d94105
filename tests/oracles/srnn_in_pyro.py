"""SRNN told a second time, in Pyro: one clip, one frame after another, the recurrent nets written out equation by equation.

The layers are those of an SRNN instance; how they hang together, gaps and every density are written here anew. The guide draws
mean + scale * noise with noise that is given, so that two bounds can be compared exactly.
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
from stillmotion.models.srnn import SRNN, GaussianNet

FLOOR = 1e-4
Moments = tuple[Tensor, Tensor]


def gru_step(x: Tensor, hidden: Tensor, layer: nn.GRU) -> Tensor:
    """One step (Cho and others 2014, in the gate order of torch: r, u, n): x (I,), hidden (H,)."""
    r_x, u_x, n_x = (layer.weight_ih_l0 @ x + layer.bias_ih_l0).chunk(3)
    r_h, u_h, n_h = (layer.weight_hh_l0 @ hidden + layer.bias_hh_l0).chunk(3)
    update = torch.sigmoid(u_x + u_h)
    return (1 - update) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + update * hidden


def moments(net: GaussianNet, *parts: Tensor) -> Moments:
    hidden = (net.net[0].weight @ torch.cat(parts) + net.net[0].bias).clamp(min=0)  # type: ignore[operator]
    mean, raw = (net.net[2].weight @ hidden + net.net[2].bias).chunk(2)  # type: ignore[operator]
    return mean, F.softplus(raw) + FLOOR


@dataclass(frozen=True)
class Story:
    """The model and its guide for one clip x (T, C, H, W), of which `seen` says frame by frame what is there; u (T, U)."""

    srnn: SRNN
    x: Tensor
    seen: tuple[bool, ...]
    u: Tensor
    path_kl: float = 1.0

    @property
    def last(self) -> int:
        """The last frame that is there."""
        return max(t for t, there in enumerate(self.seen) if there)

    def features(self, frame: Tensor) -> Tensor:
        m = self.srnn
        return (m.feature_head.weight @ m.encoder(frame[None])[0] + m.feature_head.bias).clamp(min=0)

    def picture(self, z: Tensor, d: Tensor) -> Tensor:
        """Logits of a frame."""
        logits: Tensor = self.srnn.decoder(torch.cat([z, d])[None])[0]
        return logits

    def expected(self, z: Tensor, d: Tensor) -> Moments:
        return moments(self.srnn.transition, z, d)

    def believed(self, z: Tensor, mean: Tensor, d: Tensor, a: Tensor) -> Moments:
        own, scale = moments(self.srnn.correction, z, a)
        return (own + self.expected(mean, d)[0] if self.srnn.config.residual else own), scale

    def heard(self, d: Tensor, t: int, later: Tensor) -> Tensor:
        """The evidence of frame t on top of that of later frames."""
        return gru_step(torch.cat([d, self.features(self.x[t])]), later, self.srnn.backwards)

    def filtered(self) -> tuple[list[Tensor], list[Tensor]]:
        """Memories and mean states, each from its own frame and those before; a frame that is not there is the model's own picture."""
        m, silence = self.srnn, torch.zeros(self.srnn.config.memory)
        d, z, before = torch.zeros(m.config.memory), m.first_state, m.first_features
        memories, states = [], []
        for t, there in enumerate(self.seen):
            u = torch.zeros_like(self.u[t]) if t == 0 else self.u[t]
            d = gru_step(torch.cat([before, u]), d, m.forwards)
            z = self.believed(z, z, d, self.heard(d, t, silence))[0] if there else self.expected(z, d)[0]
            before = self.features(self.x[t] if there else self.mean_frame(self.picture(z, d)))
            memories.append(d)
            states.append(z)
        return memories, states

    def mean_frame(self, logits: Tensor) -> Tensor:
        return 1 / (1 + (-logits).exp())

    def evidence(self, memories: list[Tensor]) -> list[Tensor]:
        silence = torch.zeros(self.srnn.config.memory)
        found, later = [silence] * len(memories), silence
        for t in reversed(range(len(memories))):
            if self.srnn.config.posterior == "filtering":
                later = silence
            found[t] = later = self.heard(memories[t], t, later) if self.seen[t] else later
        return found

    def known(self, t: int) -> bool:
        """Whether the posterior of the state of frame t is more than the story."""
        return self.seen[t] if self.srnn.config.posterior == "filtering" else t <= self.last

    def model(self) -> None:
        z, config = self.srnn.first_state, self.srnn.config
        for t, d in enumerate(self.filtered()[0][: self.last + 1]):
            mean, scale = self.expected(z, d)
            with pyro.poutine.scale(scale=self.path_kl):
                z = pyro.sample(f"z_{t}", Normal(mean, scale).to_event(1))
            logits, pixel = self.picture(z, d), None
            pixel = Bernoulli(logits=logits, validate_args=False)
            if config.likelihood == "gaussian":
                pixel = Normal(self.mean_frame(logits), config.pixel_scale)
            if self.seen[t]:
                pyro.sample(f"x_{t}", pixel.to_event(3), obs=self.x[t])

    def guide(self) -> None:
        memories, m = self.filtered()[0], self.srnn
        z = mean = m.first_state
        for t, a in enumerate(self.evidence(memories)[: self.last + 1]):
            moments_here = self.believed(z, mean, memories[t], a) if self.known(t) else self.expected(z, memories[t])
            mean = moments_here[0]
            with pyro.poutine.scale(scale=self.path_kl):
                z = pyro.sample(f"z_{t}", Normal(*moments_here).to_event(1))

    def smoothed(self) -> list[Tensor]:
        """Mean states of all frames, from all that are there."""
        memories, z, states = self.filtered()[0], self.srnn.first_state, []
        for t, a in enumerate(self.evidence(memories)):
            z = (self.believed(z, z, memories[t], a) if self.known(t) else self.expected(z, memories[t]))[0]
            states.append(z)
        return states


def negative_elbo(story: Story, noise: Mapping[str, Tensor]) -> float:
    """The loss of one clip by Pyro, divergences in closed form."""

    def fixed(*_: Any) -> Any:
        with fixed_noise(noise):
            return story.guide()

    with pyro.validation_enabled(False):
        return float(TraceMeanField_ELBO().loss(story.model, fixed))
