"""What is hidden of the clips of a world, and how well trained models find it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from stillmotion.core.abilities import Imputes, require
from stillmotion.data.base import ClipSet
from stillmotion.recipes.imputation import MOST_CLIPS, whole_clips
from stillmotion.recipes.kvae_curves import Filler, clip_errors, masks
from stillmotion.recipes.kvae_references import REFERENCES
from stillmotion.recipes.lab import fingerprint, load
from stillmotion.recipes.reproduce import measured_once


@dataclass(frozen=True)
class Hidden:
    """The clips of a world that are measured, and what is hidden of them by name, each (N, T) bool."""

    clips: ClipSet
    masks: Mapping[str, Tensor]

    @classmethod
    def of(cls, clips: ClipSet, points: Sequence[str] = ()) -> Hidden:
        """All points of figures 3a and 3b that fit into the clips, or those that are named."""
        whole = whole_clips(clips, MOST_CLIPS)
        every = masks(len(whole), whole.steps)
        return cls(whole, {name: mask for name, mask in every.items() if not points or name in points})

    def fill(self, key: str, label: str, folders: Sequence[Path], *, past_only: bool) -> Filler:
        """Errors of a trained model of each seed; measured once for each run."""
        way = "filtering" if past_only else "smoothing"
        told = f"imputation errors by {way} at {', '.join(self.masks)} of clips {fingerprint(self.clips, *self.masks.values())}"
        return Filler(key, label, tuple(measured_once(folder, told, partial(self._errors, folder, past_only)) for folder in folders))

    def _errors(self, folder: Path, past_only: bool) -> dict[str, list[float]]:
        impute = require(load(folder), Imputes).impute
        return clip_errors(partial(impute, past_only=past_only), self.clips, self.masks)

    def references(self) -> list[Filler]:
        """What needs no model."""
        return [Filler(key, label, (clip_errors(fill, self.clips, self.masks),)) for key, (label, fill) in REFERENCES.items()]
