"""A linear-Gaussian world in which every posterior, and what it does to learning, is known exactly.

Sequences of T = 3 points in the plane, as in section 3 of Leplae-Arthur and Nichani's report on the disentangled sequential autoencoder:
f ~ N(0, s_f^2), z_1 ~ N(0, s_z^2), z_t ~ N(z_{t-1}, s_z^2), x_t ~ N(f + z_t, s_x^2), both coordinates alike and independent.

A coordinate's latents h = (f, z_1 ... z_T) given its x are N(K x, L^-1). For any Gaussian q(h | x) = N(m(x), V),

    log p(x) - ELBO = KL(q || p(h | x)) = 1/2 [tr(L V) - log det(L V) - n + (m(x) - K x)' L (m(x) - K x)],

so over many sequences the bound depends on them only through the second moments of (1, x): those of the world, or of a sample.
Everything is in nats per sequence, in float64, and broadcasts: scales (G,) and moments (*, 7, 7) give (*, G).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.core.errors import UserError
from stillmotion.core.random import normal

Posterior = Literal["factorised", "dsa", "full", "exact"]
"""factorised: q(f) q(z_1) ... q(z_T), each of all x (Turner and Sahani 2011). dsa: q(f | x) prod_t q(z_t | x_t), one encoder for all t.

full: q(f | x) prod_t q(z_t | x, f), which Li and Mandt call full. exact: q(f | x) prod_t q(z_t | z_{t-1}, x, f), the posterior itself.
"""
Swept = Literal["f", "z", "x"]
POSTERIORS: tuple[Posterior, ...] = get_args(Posterior)
FRAMES, COORDINATES = 3, 2


@dataclass(frozen=True)
class Scales:
    """Standard deviations of what stays (f), of a step of what moves (z) and of an observation (x), of one shape."""

    f: Tensor
    z: Tensor
    x: Tensor

    def sweep(self, name: Swept, grid: Tensor) -> Scales:
        """These with one of them set to each value of grid (G,)."""
        others = {other: getattr(self, other).expand(grid.shape) for other in get_args(Swept)}
        return Scales(**{**others, name: grid.to(self.f)})


def scales(f: float, z: float, x: float) -> Scales:
    """One setting. Raises UserError where one is not positive."""
    for name, value in (("f", f), ("z", z), ("x", x)):
        if not value > 0:
            raise UserError(f"a positive scale of {name}", str(value))
    return Scales(*(torch.tensor(value, dtype=torch.float64) for value in (f, z, x)))


def draw(world: Scales, sequences: int, generator: torch.Generator) -> Tensor:
    """Sequences (sequences, T, 2) of one setting."""
    noise = normal((sequences, 2 * FRAMES + 1, COORDINATES), generator, world.f)
    f, steps, rest = noise[:, :1], noise[:, 1 : FRAMES + 1], noise[:, FRAMES + 1 :]
    return world.f * f + world.z * steps.cumsum(1) + world.x * rest


def moments(x: Tensor) -> Tensor:
    """Mean of v v' over sequences (*, N, T, 2), where v = (1, first coordinate of x_1 ... x_T, second coordinate): (*, 7, 7)."""
    flat = x.double().transpose(-1, -2).flatten(-2)
    v = torch.cat([torch.ones_like(flat[..., :1]), flat], -1)
    return v.mT @ v / v.shape[-2]


def population(world: Scales) -> Tensor:
    """The moments of infinitely many sequences of one setting, (7, 7)."""
    return F.pad(_for_both(covariance(world)), (1, 0, 1, 0)) + F.pad(torch.ones(1, 1, dtype=torch.float64), (0, 6, 0, 6))


def covariance(world: Scales) -> Tensor:
    """Of (x_1 ... x_T) in one coordinate, (*, T, T)."""
    return _codes_covariance(world) + _diagonal(world.x.square(), FRAMES)


def log_likelihood(seen: Tensor, world: Scales) -> Tensor:
    """Mean of log p(x), from the moments of x."""
    spread = covariance(world)
    within = torch.stack([seen[..., None, k : k + FRAMES, k : k + FRAMES] for k in range(1, 1 + COORDINATES * FRAMES, FRAMES)]).sum(0)
    return -0.5 * (_trace(torch.linalg.inv(spread), within) + COORDINATES * (FRAMES * math.log(2 * math.pi) + torch.logdet(spread)))


def gap(posterior: Posterior, seen: Tensor, world: Scales) -> Tensor:
    """log p(x) - ELBO for the best posterior of a family, mean over sequences of these moments. The exact one has none.

    The means of all but dsa can be those of the exact posterior, so their gap is that of the covariance alone: for independent entries
    with the best variances 1 / L_ii it is half of sum log L_ii - log det L.
    """
    if posterior not in POSTERIORS:
        raise UserError(f"one of {', '.join(POSTERIORS)}", repr(posterior))
    L = precision(world)
    if posterior == "dsa":
        return amortised_gap(L, gain(world), _DSA_MEANS, seen, free=1)
    nothing = torch.zeros(seen.shape[:-2] + world.f.shape, dtype=torch.float64)
    if posterior == "exact":
        return nothing
    # given f the path is Gaussian with precision L without the row and column of f, and q(f | x) can be exact
    kept = L if posterior == "factorised" else L[..., 1:, 1:]
    return nothing + COORDINATES * 0.5 * (_variances(kept).log().sum(-1) - torch.logdet(kept))


def elbo(posterior: Posterior, seen: Tensor, world: Scales) -> Tensor:
    """The bound at the best posterior of a family: a mean over sequences of these moments."""
    return log_likelihood(seen, world) - gap(posterior, seen, world)


def precision(world: Scales) -> Tensor:
    """L, of (f, z_1 ... z_T) given x, (*, T + 1, T + 1)."""
    steps = torch.eye(FRAMES, dtype=torch.float64) - torch.diag(torch.ones(FRAMES - 1, dtype=torch.float64), -1)
    prior = steps.mT @ steps / world.z.square()[..., None, None]
    prior = F.pad(prior, (1, 0, 1, 0))
    prior[..., 0, 0] = world.f.square().reciprocal()
    emission: Tensor = _EMISSION.mT @ _EMISSION / world.x.square()[..., None, None]
    return prior + emission


def gain(world: Scales) -> Tensor:
    """K, the mean of (f, z_1 ... z_T) given x, (*, T + 1, T)."""
    mean: Tensor = torch.linalg.solve(precision(world), _EMISSION.mT / world.x.square()[..., None, None])
    return mean


def amortised_gap(L: Tensor, K: Tensor, means: Tensor, seen: Tensor, free: int) -> Tensor:
    """The gap where means are sums of `means` (P, 2 n, 7), linear maps of (1, x), and variances the best of their kind.

    L (*, n, n) and K (*, n, T) are of one coordinate. The first `free` latents have a variance each, the others share one.
    """
    own, shared = _variances(L)[..., :free], _variances(L)[..., free:]
    widths = own.log().sum(-1) + shared.shape[-1] * shared.mean(-1).log() - torch.logdet(L)
    L, K = _for_both(L), F.pad(_for_both(K), (1, 0))
    inner = torch.einsum("gij,pjk->gpik", L, means)
    aimed = torch.einsum("gpik,...kl,gil->...gp", inner, seen, K)
    gram = torch.einsum("gpik,...kl,qil->...gpq", inner, seen, means)
    reached = (aimed * torch.linalg.solve(gram, aimed[..., None])[..., 0]).sum(-1)
    missed: Tensor = _trace(L, K @ seen[..., None, :, :] @ K.mT) - reached
    return COORDINATES * 0.5 * widths + 0.5 * missed


def own_frame_means(free: int) -> Tensor:
    """Maps (P, 2 n, 7) from (1, x) to the means of n = free + T latents of each coordinate.

    The first `free` look at everything, the others at the frame they belong to, by one map for all frames.
    """
    n, columns = free + FRAMES, 1 + COORDINATES * FRAMES
    found = []
    for row in (coordinate * n + latent for coordinate in range(COORDINATES) for latent in range(free)):
        for column in range(columns):
            found.append(torch.zeros(COORDINATES * n, columns, dtype=torch.float64))
            found[-1][row, column] = 1
    for coordinate in range(COORDINATES):
        for source in range(-1, COORDINATES):
            found.append(torch.zeros(COORDINATES * n, columns, dtype=torch.float64))
            for frame in range(FRAMES):
                found[-1][coordinate * n + free + frame, 0 if source < 0 else 1 + source * FRAMES + frame] = 1
    return torch.stack(found)


def kalman_codes(share: float, world: Scales) -> tuple[Tensor, Tensor]:
    """L and K, both (*, T, T): codes a_t ~ N(f + z_t, (1 - share) s_x^2) behind x_t ~ N(a_t, share s_x^2) are N(K x, L^-1) given x.

    Raises UserError where the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UserError("a share of the noise between 0 and 1", str(share))
    pixels = share * world.x.square()
    codes = _codes_covariance(world) + _diagonal((1 - share) * world.x.square(), FRAMES)
    L = torch.linalg.inv(codes) + _diagonal(pixels.reciprocal(), FRAMES)
    return L, torch.linalg.inv(L) / pixels[..., None, None]


def kalman_gap(share: float, seen: Tensor, world: Scales) -> Tensor:
    """The gap of a Kalman VAE with these codes and the best linear q(a_t | x_t), one for all frames.

    Its states are integrated out exactly, and x has the distribution of this world for every share.
    """
    return amortised_gap(*kalman_codes(share, world), _KALMAN_MEANS, seen, free=0)


def peak(grid: Tensor, values: Tensor) -> Tensor:
    """Where curves (*, G) over a positive grid (G,) are highest, (*,), by a cubic spline over the logarithm of the grid."""
    from scipy.interpolate import CubicSpline

    logs = grid.double().log().numpy()
    mesh = np.linspace(logs[0], logs[-1], 20001)
    # as the spline wants it: the axis of the grid first
    curves = CubicSpline(logs, values.double().flatten(0, -2).mT.numpy() if values.ndim > 1 else values.double().numpy()[:, None])(mesh)
    return torch.from_numpy(np.exp(mesh[curves.argmax(0)])).reshape(values.shape[:-1])


def _codes_covariance(world: Scales) -> Tensor:
    """Of f + z_t in one coordinate, (*, T, T)."""
    order = torch.arange(1, FRAMES + 1, dtype=torch.float64)
    return world.f.square()[..., None, None] + torch.minimum(order, order[:, None]) * world.z.square()[..., None, None]


def _for_both(matrix: Tensor) -> Tensor:
    return torch.kron(torch.eye(COORDINATES, dtype=torch.float64), matrix.contiguous())


def _diagonal(value: Tensor, size: int) -> Tensor:
    return value[..., None, None] * torch.eye(size, dtype=torch.float64)


def _variances(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1)


def _trace(a: Tensor, b: Tensor) -> Tensor:
    """tr(a b) of symmetric matrices."""
    return (a * b).sum((-2, -1))


_EMISSION = torch.cat([torch.ones(FRAMES, 1), torch.eye(FRAMES)], 1).double()
_DSA_MEANS, _KALMAN_MEANS = own_frame_means(free=1), own_frame_means(free=0)
