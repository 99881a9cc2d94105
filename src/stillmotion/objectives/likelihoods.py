"""How well decoded frames explain the real ones, in nats."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def bernoulli_nll(logits: Tensor, frames: Tensor) -> Tensor:
    """-log p(x) under Bernoulli pixels, summed over the axes after the first two: (B, T, ...) to (B, T).

    Frames in [0, 1] that are not binary are taken as probabilities, as all papers here do; it is then no density of the pixels.
    """
    # softplus(a) - a x: half the time of torch's cross-entropy, its sums but for the last digits; linear from 40 on, where float64 ends
    return (F.softplus(logits, threshold=40) - logits * frames).flatten(2).sum(-1)


def gaussian_nll(mean: Tensor, frames: Tensor, scale: float | Tensor) -> Tensor:
    """-log p(x) under Gaussian pixels of one standard deviation, summed over the axes after the first two: (B, T, ...) to (B, T)."""
    log_scale = scale.log() if isinstance(scale, Tensor) else math.log(scale)
    nll: Tensor = ((frames - mean) / scale).square() / 2 + (log_scale + 0.5 * math.log(2 * math.pi))
    return nll.flatten(2).sum(-1)
