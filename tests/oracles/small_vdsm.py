"""The smallest VDSM, for tests."""

from __future__ import annotations

import torch

from stillmotion.core.clips import Clips
from stillmotion.core.random import Noise
from stillmotion.models.vdsm import VDSM
from stillmotion.models.vdsm_config import VDSMConfig

SMALL = {
    "size": 8, "static": 4, "pose": 3, "dynamic": 5, "encoder_channels": (4, 6), "decoder_channels": (5,), "rnn_layers": 2, "rnn_size": 7,
    "transition_hidden": 6, "flow_hidden": 8,
}

TINY = {
    "static": 4, "pose": 3, "dynamic": 5, "encoder_channels": (4, 4, 4, 4, 8), "decoder_channels": (4, 4, 4, 4), "rnn_layers": 1,
    "rnn_size": 8,
}  # fmt: skip
"""Of frames of 64 x 64, for recipes."""


def small_config(**changes: object) -> VDSMConfig:
    return VDSMConfig.model_validate(SMALL | changes)


def small_vdsm(seed: int = 0, **changes: object) -> VDSM:
    """A VDSM of 8 x 8 frames in evaluation mode, its zero-initialised parts filled so that every part matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VDSM(small_config(**changes))
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.3)
            for flow in model.flows:
                flow.second.weight.normal_(std=0.5)  # type: ignore[union-attr, operator]
    return model.eval()


def some_clips(*lengths: int, seed: int = 0, channels: int = 3) -> Clips:
    """Clips of those lengths, padded with noise to the longest."""
    steps, g = max(lengths), torch.Generator().manual_seed(seed)
    frames = torch.rand(len(lengths), steps, channels, 8, 8, generator=g)
    return Clips(frames, torch.arange(steps) < torch.tensor(lengths)[:, None])


def noise(seed: int = 0) -> Noise:
    generator = Noise()
    generator.manual_seed(seed)
    return generator
