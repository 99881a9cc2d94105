"""How the state of a frame follows from the one before: the gated transition and the combiner of deep Markov models."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.codes import Gaussian

SMALLEST_SCALE = 1e-4
"""Added to every scale: softplus underflows to zero, and log 0 is the end of a run."""


def positive(x: Tensor) -> Tensor:
    """A standard deviation from an unbounded number."""
    return F.softplus(x) + SMALLEST_SCALE


class GatedTransition(nn.Module):
    """p(z_t | z_{t-1}, d): a gate between a linear and a non-linear step (Krishnan et al. 2017, section 5; VDSM, equation 6).

    The linear path sees z alone and starts as the identity. The paper feeds it [z, d]; the released code builds the identity and then
    overwrites it by a later initialisation.
    """

    def __init__(self, state: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(state + condition, hidden), nn.ReLU(), nn.Linear(hidden, state), nn.Sigmoid())
        self.proposal = nn.Sequential(nn.Linear(state + condition, hidden), nn.ReLU(), nn.Linear(hidden, state))
        self.linear = nn.Linear(state, state)
        self.scale = nn.Linear(state, state)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, state: Tensor, condition: Tensor) -> Gaussian:
        both = torch.cat([state, condition], -1)
        gate, proposal = self.gate(both), self.proposal(both)
        mean = gate * proposal + (1 - gate) * self.linear(state)
        return Gaussian(mean, positive(self.scale(F.relu(proposal))))


class Combiner(nn.Module):
    """q(z_t | z_{t-1}, h_t, d): what the sequence decoder says of frame t and the state before it (VDSM, equation 5).

    The equation adds vectors of different length; as in the released code, a linear layer first brings [h_t, d] to one width.
    """

    def __init__(self, state: int, sequence: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.evidence = nn.Linear(sequence + condition, hidden)
        self.before = nn.Linear(state, hidden)
        self.mean, self.scale = nn.Linear(hidden, state), nn.Linear(hidden, state)

    def prepare(self, outputs: Tensor, condition: Tensor) -> Tensor:
        """What does not depend on the states, for all frames at once: (B, T, sequence) and (B, condition) to (B, T, hidden)."""
        steps = outputs.shape[1]
        return F.leaky_relu(self.evidence(torch.cat([outputs, condition[:, None].expand(-1, steps, -1)], -1)), 0.01)

    def forward(self, before: Tensor, prepared: Tensor) -> Gaussian:
        both = (torch.tanh(self.before(before)) + prepared) / 2
        return Gaussian(self.mean(both), positive(self.scale(both)))
