"""Divergences between diagonal Gaussians, in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stillmotion.core.codes import Gaussian


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) summed over the last axis, in closed form."""
    ratio = q.scale / p.scale
    distance = (q.mean - p.mean) / p.scale
    return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(-1)


def kl_to_prior(q: Gaussian, scale: float = 1.0) -> Tensor:
    """KL(q || N(0, scale^2)) summed over the last axis."""
    return kl(q, Gaussian(torch.zeros_like(q.mean), torch.full_like(q.scale, scale)))


def kl_to_mixture(q: Gaussian, logits: Tensor, p: Gaussian) -> Tensor:
    """An upper bound of KL(q || sum_k w_k p_k) in closed form: -log sum_k w_k exp(-KL(q || p_k)), (B,).

    q: (B, Z). logits: (K,), w is their softmax. p: (K, Z). It is exact where the p_k are one, and comes close where all but one are far
    from q; it is never too small, so that a bound of the likelihood stays one (Hershey and Olsen, ICASSP 2007: their variational
    approximation, for one Gaussian against a mixture).
    """
    apart = kl(Gaussian(q.mean[:, None], q.scale[:, None]), p)
    return -torch.logsumexp(logits.log_softmax(0) - apart, 1)


def log_density(x: Tensor, p: Gaussian) -> Tensor:
    """log p(x) summed over the last axis."""
    return (-0.5 * ((x - p.mean) / p.scale).square() - p.scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
