"""The named terms of a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """A loss as named scalars, each a mean per clip in nats, to be minimised, and their weights in the sum.

    values: name -> scalar, unweighted. weights: name -> factor in the total (1 where it is not named).
    watched: further figures that are logged and never trained on.
    """

    values: Mapping[str, Tensor]
    weights: Mapping[str, float] = field(default_factory=dict)
    watched: Mapping[str, Tensor | float] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """The weighted sum, the one number that is minimised."""
        return torch.stack([self.weights.get(name, 1.0) * value for name, value in self.values.items()]).sum()

    @property
    def elbo(self) -> Tensor:
        """Minus the unweighted sum: the evidence lower bound where all terms are its own."""
        return -torch.stack(list(self.values.values())).sum()

    def not_finite(self) -> list[str]:
        """Names of the terms that are NaN or infinite."""
        return [name for name, value in self.values.items() if not bool(value.isfinite())]
