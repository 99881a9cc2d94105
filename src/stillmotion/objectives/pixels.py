"""The likelihood of the pixels as a part of a model."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import torch
from torch import Tensor, nn

from stillmotion.objectives.likelihoods import bernoulli_nll, gaussian_nll

Likelihood = Literal["bernoulli", "gaussian"]


class Pixels(nn.Module):
    """Bernoulli pixels, or Gaussian ones of one standard deviation, fixed or learned.

    A decoder gives logits either way: the mean of a pixel is their sigmoid, so that it stays in [0, 1]. Bernoulli pixels have no scale:
    asked to learn one, they warn.
    """

    log_scale: Tensor

    def __init__(self, likelihood: Likelihood = "bernoulli", scale: float = 0.1, learned: bool = False) -> None:
        super().__init__()
        self.likelihood = likelihood
        if learned and likelihood == "bernoulli":
            warnings.warn("learned_scale has no effect with the likelihood bernoulli, which has no scale", UserWarning, stacklevel=2)
        log_scale = torch.tensor(math.log(scale))
        if learned and likelihood == "gaussian":
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)

    def nll(self, logits: Tensor, frames: Tensor) -> Tensor:
        """-log p(x) of frames (B, T, C, H, W) in [0, 1], (B, T), nats."""
        if self.likelihood == "bernoulli":
            return bernoulli_nll(logits.float(), frames)
        return gaussian_nll(self.mean(logits), frames, self.log_scale.exp())

    def mean(self, logits: Tensor) -> Tensor:
        """Mean frames in [0, 1], float32."""
        return torch.sigmoid(logits.float())
