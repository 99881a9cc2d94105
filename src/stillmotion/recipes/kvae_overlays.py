"""Figure 5 of the Kalman VAE paper: whole clips as single pictures, in which what comes later is darker."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion.core.abilities import Decodes, Encodes, Generates, Model, Predicts, require
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Pictures
from stillmotion.recipes.imputation import SEEN_FIRST

EARLY, LATE = (0.80, 0.89, 0.97), (0.03, 0.16, 0.38)
"""Colours of the first and of the last frame, on white."""
WAYS = ("real", "rolled on", "drawn on", "drawn")
NOTE = (
    "Each picture is a whole clip: from pale to dark as time goes on. Real: test clips, in their order. Rolled on: the first four frames "
    "of the clip above, and then the mean path of the model. Drawn on: the same with the noise of the model. Drawn: all from the prior."
)


def overlay(frames: Tensor) -> Tensor:
    """One picture of each clip, (B, 3, H, W) uint8, of frames (B, T, 1, H, W) in [0, 1]; a later frame covers earlier ones."""
    early, late = (frames.new_tensor(colour)[:, None, None] for colour in (EARLY, LATE))
    picture, last = frames.new_ones(len(frames), 3, *frames.shape[-2:]), max(frames.shape[1] - 1, 1)
    for t, lit in enumerate(frames.unbind(1)):
        picture = picture * (1 - lit) + lit * (early + t / last * (late - early))
    return (255 * picture).round().to(torch.uint8)


def generations(models: Mapping[str, Model], clips: Mapping[str, ClipSet], count: int = 6) -> Pictures:
    """Real and generated clips of every world, a row for each way."""
    rows, labels = list[Tensor](), list[str]()
    for world, model in models.items():
        shown = clips[world].clips(slice(count))
        rows += [overlay(frames) for frames in _four(model, shown)]
        labels += [f"{world}, {way}" for way in WAYS]
    pictures = torch.stack(rows)[:, :, None].numpy()
    return Pictures("generations", "Generated clips", pictures, row_labels=tuple(labels), note=NOTE, scale=3)


@torch.inference_mode()
def _four(model: Model, clips: Clips) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frames of each of WAYS."""
    count, steps = clips.mask.shape
    noise = torch.Generator().manual_seed(seed_of("generations"))
    begun = beginning(model, clips)
    on, ways = require(model, Predicts), require(model, Decodes)
    codes = (on.predict(begun, steps), on.predict(begun, steps, noise), require(model, Generates).generate(count, steps, noise))
    rolled, drawn_on, drawn = (ways.decode(each).float() for each in codes)
    return clips.frames, rolled, drawn_on, drawn


def beginning(model: Model, clips: Clips) -> Codes:
    """Codes of the first four frames."""
    first = Clips(clips.frames[:, :SEEN_FIRST], clips.mask[:, :SEEN_FIRST], clips.controls)
    return require(model, Encodes).encode(first)
