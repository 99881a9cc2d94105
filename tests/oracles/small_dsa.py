"""A DSA that is small and says something, and clips for it."""

from __future__ import annotations

from typing import Any

import torch

from oracles.small_vdsm import noise
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.models.dsa import DSA, DSAConfig

SMALL: dict[str, Any] = {"size": 8, "static": 4, "path": 3, "backbone": "report", "width": 1 / 32, "rnn": 6, "pixel_scale": 0.3}
POSTERIORS = ("factorised", "full")
WHOLE, PADDED, GAP, LATE = [1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 1, 0, 1]


def dsa(**changes: Any) -> DSA:
    """A small DSA whose states say something, so that nothing is true by accident."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DSA(DSAConfig.model_validate(SMALL | changes))
        for head in (model.static_head, model.path_head, model.prior_head):
            torch.nn.init.normal_(head.weight, std=0.5)
    return model.eval()


def clips(*masks: list[int], seed: int = 0) -> Clips:
    mask = torch.tensor(masks).bool()
    return Clips(torch.rand(*mask.shape, 3, 8, 8, generator=noise(seed)), mask)


def posteriors(codes: Codes) -> tuple[Gaussian, Gaussian]:
    assert codes.static_posterior is not None
    assert codes.path_posterior is not None
    return codes.static_posterior, codes.path_posterior
