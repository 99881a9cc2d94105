"""What the reproduction of the DSA report works with: the judge of standard Sprites, and what it measures beyond what others do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch

from stillmotion.core.abilities import Model
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.figure import Figures, mean
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.dsa import Size
from stillmotion.recipes.judged_lab import JudgedLab

DIRECTION = "direction"
CLIPS_OF_ONE = 9
WHOLE = (
    "reconstruction", "swaps", "two factors", "two factors, aggregate posterior", "resampling", "leakage of means", "leakage of samples",
    "entropies", "entropies, aggregate posterior", "disagreement",
)  # fmt: skip
SHORT = ("reconstruction", "swaps", "two factors", "disagreement")
"""What is measured of models that are only compared with one another."""
BOTH_WAYS = ("swaps", "two factors", "disagreement")
"""In which it matters whether the direction is counted to what moves."""


class Lab(JudgedLab):
    """Of standard Sprites."""

    @property
    def size(self) -> Size:
        """Of the runs."""
        return cast(Size, super().size)

    def taken(self, bench: Bench, names: Sequence[str]) -> Figures:
        """The figures of all measures that can be taken, and those of `divergences`.

        The direction is counted to what moves; figures that count it to what stays, too, have `_as_static` in their names.
        """
        found = super().taken(bench, names)
        # on the same bench, as the judge's verdicts on most clips are there already, and do not depend on what is said to move
        bench.moving = tuple(factor for factor in bench.moving if factor != DIRECTION)
        again = super().taken(bench, [name for name in names if name in BOTH_WAYS])
        found |= {as_static(name): figure for name, figure in again.items() if DIRECTION in name and "action" not in name}
        return {**found, **divergences(bench.model, bench.held)}


def as_static(name: str) -> str:
    """The name of a figure of the direction, where that is counted to what stays: `swap_direction_as_static_accuracy`."""
    return name.replace(DIRECTION, f"{DIRECTION}_as_static")


@torch.inference_mode()
def divergences(model: Model, clips: ClipSet) -> Figures:
    """How much the codes say of a clip, in nats: `kl_static` of f, and `kl_path` of z over all frames. Clips lie character by character."""
    noise, device = torch.Generator().manual_seed(seed_of("divergences")), next(model.parameters()).device
    parts = torch.split(torch.arange(len(clips)), CLIPS_OF_ONE)
    terms = [model.loss(clips.clips(part).to(device), {}, noise).values for part in parts]
    values = {name: torch.stack([each[f"{name}_kl"] for each in terms]).cpu() for name in ("static", "path")}
    return {f"kl_{name}": replace(mean(value, noise), clips=len(clips)) for name, value in values.items()}
