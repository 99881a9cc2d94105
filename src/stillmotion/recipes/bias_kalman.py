"""The Kalman VAE in the linear-Gaussian world: the bound that `models.kvae` itself computes, and the filter's likelihood.

The state is (f, z_t), which moves by the identity with noise on z alone, and the code is a_t ~ N(f + z_t, (1 - share) s_x^2). The frame
adds the rest of the noise, x_t ~ N(a_t, share s_x^2), so that x is distributed as in the world for every share. States are integrated out
exactly; all that can be loose is q(a_t | x_t), which sees one frame. When the code carries all of the noise (share to 0) a_t is x_t,
nothing is left to infer, and the bound is the likelihood.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stillmotion.core.clips import Clips
from stillmotion.models.kvae import KVAE, KVAEConfig
from stillmotion.recipes.bias_world import COORDINATES, FRAMES, Scales, kalman_codes
from stillmotion.ssm.inference import log_likelihood as filtered_likelihood
from stillmotion.ssm.systems import System

RANGE = 64.0
"""Of a pixel from black to white, in units of x."""


def innovations(x: Tensor, worlds: Scales) -> Tensor:
    """Mean log p(x) over sequences (N, T, 2) under each of the worlds (G,), by the Kalman filter: its posterior of (f, z_t) is exact."""
    y = x.double().transpose(1, 2).reshape(-1, FRAMES, 1)
    count = len(worlds.f)
    nothing = torch.zeros_like(worlds.f)
    system = System(
        A=torch.eye(2, dtype=torch.float64),
        C=torch.ones(1, 2, dtype=torch.float64),
        Q=torch.diag_embed(torch.stack([nothing, worlds.z.square()], -1))[:, None, None],
        R=worlds.x.square().reshape(count, 1, 1, 1, 1),
        mean=torch.zeros(2, dtype=torch.float64),
        covariance=torch.diag_embed(torch.stack([worlds.f.square(), worlds.z.square()], -1))[:, None],
    )
    return COORDINATES * filtered_likelihood(system, y.expand(count, *y.shape)).mean(1)


def own_bound(x: Tensor, worlds: Scales, share: float, passes: int, seed: int) -> Tensor:
    """The bound of the model `kvae` on sequences (N, T, 2), under each of the worlds (G,): minus its loss, in nats per sequence.

    Each coordinate of a sequence is a clip of one pixel. q(a_t | x_t) is the best linear one for these sequences. Every world sees the same
    noise, of `passes` draws.
    """
    flat = x.double().transpose(1, 2).reshape(-1, FRAMES)
    frames = (0.5 + flat.repeat(passes, 1) / RANGE).float()[..., None, None, None]
    clips = Clips(frames, torch.ones(frames.shape[:2], dtype=torch.bool))
    found = []
    for f, z, noise in zip(worlds.f, worlds.z, worlds.x, strict=True):
        model = linear_kvae(Scales(f, z, noise), share, flat.mT @ flat / len(flat))
        with torch.no_grad():
            total = model.loss(clips, {}, torch.Generator().manual_seed(seed)).total
        found.append(-total.double() - FRAMES * math.log(RANGE))
    return COORDINATES * torch.stack(found)


def linear_kvae(world: Scales, share: float, second_moments: Tensor) -> KVAE:
    """A KVAE with one system whose networks are linear, for clips of one pixel with these second moments (T, T) of x."""
    slope, variance = best_encoder(world, share, second_moments)
    config = KVAEConfig(
        size=1, network="dense", width=1, code=1, state=2, modes=1, dynamics="mlp", dynamics_size=1, likelihood="gaussian",
        pixel_scale=math.sqrt(share) * float(world.x) / RANGE, code_noise=(1 - share) * float(world.x) ** 2, code_variance=2 * variance,
    )  # fmt: skip
    model = KVAE(config)
    model.encoder, model.code_head, model.decoder = _Value(), _Head(slope), _Pixel()  # type: ignore[assignment]
    with torch.no_grad():
        model.C.fill_(1.0)
        model.log_state_noise.copy_(torch.stack([torch.zeros_like(world.z), world.z.square()]).log())  # f stands still: no noise at all
        model.first_covariance.copy_(torch.diag(torch.stack([world.f.square(), world.z.square()])))
    return model


def best_encoder(world: Scales, share: float, second_moments: Tensor) -> tuple[float, float]:
    """Slope and variance of q(a_t | x_t) = N(slope x_t, variance), for second moments (T, T) of x."""
    L, K = kalman_codes(share, world)
    slope = (L @ K * second_moments.mT).sum() / (L * second_moments).sum()
    return float(slope), float(FRAMES / L.diagonal().sum())


class _Value(nn.Module):
    """Pixels to x."""

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.flatten(2) - 0.5) * RANGE


class _Head(nn.Module):
    """x to mean and logit of the variance of a code, which is half of the most there can be."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.slope * x, torch.zeros_like(x)], -1)


class _Pixel(nn.Module):
    """A code to the logit of its pixel."""

    def forward(self, a: Tensor) -> Tensor:
        return torch.logit(0.5 + a / RANGE)[..., None, None]
