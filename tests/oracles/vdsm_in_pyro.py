"""VDSM told a second time, in Pyro: one clip, no padding, one frame after another.

The layers are those of a VDSM instance; how they hang together, the priors, the scales of the losses and every density are written
here anew. `fixed_noise` makes the guide draw mean + scale * noise with noise that is given, so that two bounds can be compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import Bernoulli, Normal, TransformedDistribution
from pyro.infer import TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.nn import functional as F

from oracles import convolutions
from stillmotion.models.vdsm import VDSM

FLOOR = 1e-4


@dataclass(frozen=True)
class Weights:
    """The schedules' values at one step."""

    temperature: float = 10.0
    static_kl: float = 1.0
    dynamic_kl: float = 1.0
    path_kl: float = 1.0


class fixed_noise(Messenger):
    """Every Normal site takes mean + scale * noise[name], and flows bend that."""

    def __init__(self, noise: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, msg: Any) -> None:
        fn, transforms = msg["fn"], []
        if isinstance(fn, TransformedDistribution):
            fn, transforms = fn.base_dist, fn.transforms
        value = fn.base_dist.loc + fn.base_dist.scale * self.noise[msg["name"]]
        for transform in transforms:
            value = transform(value)
        msg["value"], msg["done"] = value, True


class Bent(Transform):
    """A flow of the model, its determinant taken from the full Jacobian."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, flow: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(cache_size=1)
        self.flow = flow

    def _call(self, x: Tensor) -> Tensor:
        return self.flow(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        raise AssertionError("only values that came out of this flow are scored, and those are cached")

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        matrix = torch.autograd.functional.jacobian(lambda z: self.flow(z)[0], x)
        assert isinstance(matrix, Tensor)
        return torch.linalg.slogdet(matrix).logabsdet


@dataclass(frozen=True)
class Story:
    """The two models and their guides for one clip x (T, C, H, W)."""

    vdsm: VDSM
    x: Tensor
    weights: Weights

    # generation

    def prior_s(self) -> Tensor:
        config = self.vdsm.config
        scale = config.static**-0.5 if config.prior_scale == "variance" else 1 / config.static
        with pyro.poutine.scale(scale=self.weights.static_kl):
            return self._gaussian("s", torch.zeros(config.static), scale * torch.ones(config.static))

    def pixels(self, s: Tensor, path: list[Tensor]) -> None:
        net, config = self.vdsm.decoder, self.vdsm.config
        shares = (s * self.weights.temperature).exp()
        shares = shares / shares.sum()
        beside = shares if config.decoder_input == "mixture" else s
        mix = torch.ones(1) if config.single_decoder else shares
        for t, z in enumerate(path):
            code = torch.cat([beside, z])[None, None]
            logits = convolutions.decode(mix[None], code, list(net.weights), list(net.biases), 0.01)[0, 0]
            if config.likelihood == "bernoulli":
                pixel: Any = Bernoulli(logits=logits, validate_args=False)
            else:
                pixel = Normal(1 / (1 + (-logits).exp()), config.pixel_scale)
            pyro.sample(f"x_{t}", pixel.to_event(3), obs=self.x[t])

    def poses_model(self) -> None:
        s, size = self.prior_s(), self.vdsm.config.pose
        with pyro.poutine.scale(scale=self.weights.path_kl):
            path = [self._gaussian(f"z_{t}", torch.zeros(size), torch.ones(size)) for t in range(len(self.x))]
        self.pixels(s, path)

    def sequence_model(self) -> None:
        s, config, path = self.prior_s(), self.vdsm.config, []
        deviation = 1.0 if config.dynamic_prior == "unit" else 1 / config.dynamic
        with pyro.poutine.scale(scale=self.weights.dynamic_kl):
            d = self._gaussian("d", torch.zeros(config.dynamic), deviation * torch.ones(config.dynamic))
        with pyro.poutine.scale(scale=self.weights.path_kl):
            for t in range(len(self.x)):
                if t == 0:
                    mean, scale = torch.zeros(config.pose), torch.ones(config.pose)
                else:
                    mean, scale = self._transition(path[-1], d)
                path.append(self._gaussian(f"z_{t}", mean, scale))
        self.pixels(s, path)

    def _transition(self, z: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        net, both = self.vdsm.transition, torch.cat([z, d])
        gate, proposal = net.gate(both), net.proposal(both)
        return gate * proposal + (1 - gate) * net.linear(z), F.softplus(net.scale(proposal.clamp(min=0))) + FLOOR

    # inference

    def lasting(self, features: Tensor) -> Tensor:
        """What s is read from: the features, or the maps of the last convolution but one, pooled by hand."""
        m = self.vdsm
        if m.pooled_head is None:
            return features
        slope, x = m.config.encoder_slope, self.x
        for k, conv in enumerate(m.encoder.convolutions):
            x = F.leaky_relu(conv(convolutions.blurred_stride(x) if k else x), slope)  # type: ignore[operator]
        means, tops = x.sum((2, 3)) / (x.shape[2] * x.shape[3]), x.flatten(2).max(2).values
        return F.leaky_relu(torch.cat([means, tops], 1) @ m.pooled_head.weight.T + m.pooled_head.bias, slope)

    def posterior_s(self, features: Tensor) -> None:
        m, means, scales = self.vdsm, [], []
        for feature in features:
            mean, raw = m.static_head(F.leaky_relu(m.static_hidden(feature), 0.01)).chunk(2)
            means.append(mean)
            scales.append(F.softplus(raw))
        if m.config.average == "encodings":
            means, scales = [sum(means) / len(means)], [sum(scales) / len(scales)]
        means = [_bent(m, m.static_mean(mean)) for mean in means]
        scales = [F.softplus(m.static_scale(scale)) + FLOOR for scale in scales]
        with pyro.poutine.scale(scale=self.weights.static_kl):
            self._gaussian("s", sum(means) / len(means), sum(scales) / len(scales))

    def poses_guide(self) -> None:
        features = self.vdsm.encoder(self.x)
        self.posterior_s(self.lasting(features))
        with pyro.poutine.scale(scale=self.weights.path_kl):
            for t, feature in enumerate(features):
                mean, raw = self.vdsm.pose_head(feature).chunk(2)
                self._gaussian(f"z_{t}", mean, F.softplus(raw) + FLOOR)

    def sequence_guide(self) -> None:
        m, features = self.vdsm, self.vdsm.encoder(self.x)
        self.posterior_s(self.lasting(features))
        poses = torch.stack([m.pose_head(feature).chunk(2)[0] for feature in features])
        summary = m.sequence_encoder(poses[None], torch.ones(1, len(poses), dtype=torch.bool))[0]
        mean, raw = m.dynamic_head(summary).chunk(2)
        with pyro.poutine.scale(scale=self.weights.dynamic_kl):
            d = self._gaussian("d", _bent(m, mean), F.softplus(raw) + FLOOR)
        hidden = m.sequence_decoder(d[None], len(self.x))[0]
        z = m.start
        with pyro.poutine.scale(scale=self.weights.path_kl):
            for t, h in enumerate(hidden):
                evidence = F.leaky_relu(m.combiner.evidence(torch.cat([h, d])), 0.01)
                both = (torch.tanh(m.combiner.before(z)) + evidence) / 2
                z = self._gaussian(f"z_{t}", m.combiner.mean(both), F.softplus(m.combiner.scale(both)) + FLOOR, bend=True)

    def _gaussian(self, name: str, mean: Any, scale: Any, bend: bool = False) -> Tensor:
        base: Any = Normal(mean, scale).to_event(1)
        if bend and self.vdsm.flows:
            base = TransformedDistribution(base, [Bent(flow) for flow in self.vdsm.flows])
        value: Tensor = pyro.sample(name, base)
        return value


def negative_elbo(story: Story, objective: str, noise: Mapping[str, Tensor]) -> float:
    """The loss of one clip by Pyro: divergences in closed form, or by the draw itself where the posterior has flows."""
    model, guide = getattr(story, f"{objective}_model"), getattr(story, f"{objective}_guide")

    def fixed(*_: Any) -> Any:
        with fixed_noise(noise) if noise else nullcontext():
            return guide()

    with pyro.validation_enabled(False):
        return float(TraceMeanField_ELBO().loss(model, fixed))


def _bent(vdsm: VDSM, mean: Tensor) -> Tensor:
    """D26: what is below zero is multiplied by the slope."""
    return torch.where(mean < 0, vdsm.config.mean_slope * mean, mean)
