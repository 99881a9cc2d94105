"""Which parts of a model run in low precision.

The training loop opens a bfloat16 autocast where the machine has it; frame encoders and decoders live in it. Everything else
(recurrent nets, divergences, likelihoods, linear algebra) is wrapped in `full_precision`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """A context in which autocast is off on the device of `like`."""
    return torch.autocast(like.device.type, enabled=False)


def working_dtype(like: Tensor) -> torch.dtype:
    """The dtype that autocast asks for on the device of `like`, or the dtype of `like` itself."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
