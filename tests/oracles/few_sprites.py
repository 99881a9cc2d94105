"""Sixteen characters from real sheets, each in nine clips, in the place of all of them: `oracles.few_sprites:load`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.roots import data_root
from stillmotion.data.sprites import compose

PLACE = "oracles.few_sprites:load"
SIZES = (9, 2, 5)


def load(*, root: Path | None = None, version: str = "standard") -> Splits:
    """Nine characters to train on, two for validation, five to test; each part of the clothing in two variants, in either version."""
    everything = _everything(data_root(root))
    who = everything.labels["character"]
    return Splits(*(everything.subset(torch.isin(who, part)) for part in torch.split(torch.randperm(16, generator=_order()), SIZES)))


def _order() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@cache
def _everything(root: Path) -> ClipSet:
    return compose(root / "lpc-sprites", (2, 2, 2, 2))
