"""Frames filled in without any model: what a curve of imputation errors has to be below to be worth anything."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.gaps import bridge, hold
from stillmotion.recipes.imputation import Fill


def black(clips: Clips) -> Tensor:
    """Nothing at all."""
    return clips.frames * clips.mask[:, :, None, None, None]


def last_seen(clips: Clips) -> Tensor:
    """The last frame before each that is there; black before the first."""
    return hold(clips.frames, clips.mask)


def cross_fade(clips: Clips) -> Tensor:
    """From the last frame that is there to the next one, in a line through time; where there is but one of them, that one."""
    return bridge(clips.frames, clips.mask)


REFERENCES: Mapping[str, tuple[str, Fill]] = {
    "black": ("all black", black), "last_seen": ("last frame seen", last_seen), "cross_fade": ("cross-fade", cross_fade),
}  # fmt: skip
"""Key in the names of figures -> label and filler."""
