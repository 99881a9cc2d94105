"""The deep Markov model told a second time, in Pyro: one clip without padding, one frame after another.

The layers are those of a DMM instance; how they hang together, the reading of gaps and every density are written here anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import Bernoulli, Normal, TransformedDistribution
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from torch.nn import functional as F

from oracles.vdsm_in_pyro import FLOOR, Bent, fixed_noise
from stillmotion.models.dmm import DMM

Step = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Tale:
    """Model and guide for one clip x (T, C, H, W); seen: which frames are there; u (T, U)."""

    dmm: DMM
    x: Tensor
    seen: list[bool]
    u: Tensor
    path_kl: float = 1.0

    @property
    def last(self) -> int:
        """The last frame that is there; nothing after it is told."""
        return max(t for t, there in enumerate(self.seen) if there)

    def model(self) -> None:
        config, z = self.dmm.config, None
        for t in range(self.last + 1):
            with pyro.poutine.scale(scale=self.path_kl):
                z = pyro.sample(f"z_{t}", Normal(*self.step(z, t)).to_event(1))
            if self.seen[t]:
                logits = self.dmm.decoder(z[None])[0]
                if config.likelihood == "bernoulli":
                    pixel: Any = Bernoulli(logits=logits, validate_args=False)
                else:
                    pixel = Normal(1 / (1 + (-logits).exp()), self.dmm.pixels.log_scale.exp())
                pyro.sample(f"x_{t}", pixel.to_event(3), obs=self.x[t])

    def guide(self) -> None:
        heard, z = self.listen(), None
        for t in range(self.last + 1):
            ahead = self.dmm.config.posterior in ("smoothing", "both", "mean_field", "mean_field_future")
            if self.seen[t] or ahead:
                base: Any = Normal(*self.combine(z, heard, t)).to_event(1)
                if self.dmm.flows:
                    base = TransformedDistribution(base, [Bent(flow) for flow in self.dmm.flows])
            else:
                base = Normal(*self.step(z, t)).to_event(1)
            with pyro.poutine.scale(scale=self.path_kl):
                z = pyro.sample(f"z_{t}", base)

    def step(self, z: Tensor | None, t: int) -> Step:
        """Mean and scale of p(z_t | z_{t-1}, u_t)."""
        net, config = self.dmm.transition, self.dmm.config
        push = self.u[t] if t else torch.zeros_like(self.u[t])
        if z is None and config.first == "unit":
            return torch.zeros(config.state), torch.ones(config.state)
        z = self.dmm.origin if z is None else z
        both = torch.cat([z, push])
        if config.transition == "mlp":
            one, _, two, _, three = net.net
            out = three(two(one(both).clamp(min=0)).clamp(min=0))
            return out[: config.state], F.softplus(out[config.state :]) + FLOOR
        gate, proposal = net.gate(both), net.proposal(both)
        return gate * proposal + (1 - gate) * net.linear(z), F.softplus(net.scale(proposal.clamp(min=0))) + FLOOR

    def listen(self) -> dict[str, Tensor]:
        """What each direction has read at each frame up to the last that is there."""
        rows = []
        for t in range(self.last + 1):
            features = self.dmm.encoder(self.x[t : t + 1])[0] * float(self.seen[t])
            push = self.u[t] if t else torch.zeros_like(self.u[t])
            rows.append(torch.cat([features, torch.tensor([float(self.seen[t])]), push]))
        kind = self.dmm.config.posterior
        if kind in ("both", "mean_field"):
            return {"left": self.run(rows, ""), "right": self.run(rows[::-1], "_reverse").flip(0)}
        if kind in ("filtering", "mean_field_past"):
            return {"left": self.run(rows, "")}
        return {"right": self.run(rows[::-1], "").flip(0)}

    def run(self, rows: list[Tensor], ending: str) -> Tensor:
        """The recurrence by its equations."""
        w, v, a, b = (getattr(self.dmm.rnn, f"{name}_l0{ending}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        kind, size = self.dmm.config.rnn, self.dmm.config.rnn_size
        h, memory, outputs = torch.zeros(size), torch.zeros(size), []
        for x in rows:
            entered, kept = w @ x + a, v @ h + b
            if kind == "lstm":
                i, f, g, o = (entered + kept).chunk(4)
                memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
                h = o.sigmoid() * memory.tanh()
            elif kind == "gru":
                (r1, z1, n1), (r2, z2, n2) = entered.chunk(3), kept.chunk(3)
                update = (z1 + z2).sigmoid()
                h = (1 - update) * (n1 + (r1 + r2).sigmoid() * n2).tanh() + update * h
            else:
                h = (entered + kept).clamp(min=0)
            outputs.append(h)
        return torch.stack(outputs)

    def combine(self, z: Tensor | None, heard: Mapping[str, Tensor], t: int) -> Step:
        """Mean and scale of q(z_t | z_{t-1}, h_t)."""
        m = self.dmm
        terms = [outputs[t] for outputs in heard.values()]
        if not m.config.posterior.startswith("mean_field"):
            terms.append(torch.tanh(m.before.weight @ (m.start if z is None else z) + m.before.bias))
        h = sum(terms) / len(terms)
        return m.mean(h), F.softplus(m.scale(h)) + FLOOR


def negative_elbo(tale: Tale, noise: Mapping[str, Tensor]) -> float:
    """The loss of one clip by Pyro: divergences in closed form, or by the draw itself where the posterior has flows."""

    def fixed() -> None:
        with fixed_noise(noise):
            tale.guide()

    with pyro.validation_enabled(False):
        return float(TraceMeanField_ELBO().loss(tale.model, fixed))
