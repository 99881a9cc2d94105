"""Inverse autoregressive flows (Kingma et al. 2016)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AutoregressiveFlow(nn.Module):
    """One affine step z' = scale(z) * z + shift(z), the scale and shift of entry i functions of the entries before it alone.

    backwards: of those after it; flows that alternate let every entry depend on every other. Input (..., size); output the same
    shape and log |det dz'/dz| of shape (...). Starts close to the identity.
    """

    def __init__(self, size: int, hidden: int, *, backwards: bool = False) -> None:
        super().__init__()
        self.backwards = backwards
        self.first, self.second = nn.Linear(size, hidden), nn.Linear(hidden, 2 * size)
        inputs, degrees = torch.arange(1, size + 1), torch.arange(hidden) % max(size - 1, 1) + 1
        self.register_buffer("mask_in", (degrees[:, None] >= inputs).float(), persistent=False)
        self.register_buffer("mask_out", (inputs[:, None] > degrees).float().repeat(2, 1), persistent=False)
        nn.init.normal_(self.second.weight, std=1e-3)
        nn.init.zeros_(self.second.bias)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.flip(-1) if self.backwards else z
        hidden = F.elu(F.linear(z, self.first.weight * self.get_buffer("mask_in"), self.first.bias))
        shift, raw = F.linear(hidden, self.second.weight * self.get_buffer("mask_out"), self.second.bias).chunk(2, -1)
        # twice a sigmoid: bounded, so that a long path of flows cannot explode, and 1 at the start
        log_scale = F.logsigmoid(raw) + math.log(2)
        bent = z * log_scale.exp() + shift
        return bent.flip(-1) if self.backwards else bent, log_scale.sum(-1)
