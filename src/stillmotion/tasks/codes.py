"""Clips to codes and back, in batches, for any model with the abilities."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, require
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.data.base import ClipSet

BATCH = 32


def encode(model: nn.Module, clips: Clips | ClipSet, *, poses: bool = False, generator: torch.Generator | None = None) -> Codes:
    """Codes of all clips, on the CPU: posterior means, or samples where a generator is given.

    poses: read the pose of each frame off it alone instead of through the sequence model. Raises MissingAbility.
    """
    run = require(model, EncodesFrames).encode_frames if poses else require(model, Encodes).encode
    with torch.inference_mode():
        return Codes.cat([run(batch.to(_device(model)), generator).to("cpu") for batch in _batches(clips)])


def decode(model: nn.Module, codes: Codes) -> Tensor:
    """Mean frames (B, T, C, H, W) in [0, 1], on the CPU. Raises MissingAbility."""
    decoder, device = require(model, Decodes), _device(model)
    assert codes.path is not None
    with torch.inference_mode():
        parts = [codes[k : k + BATCH] for k in range(0, codes.path.shape[0], BATCH)]
        return torch.cat([decoder.decode(part.to(device)).float().cpu() for part in parts])


def encode_long(model: nn.Module, clip: Clips, steps: int, *, poses: bool = False) -> Codes:
    """Codes of one clip of any length L, read in windows of `steps` frames: its path is (1, L, Z), its static code the windows' mean.

    The last window ends with the clip; what it shares with the one before is read once.
    """
    length = int(clip.lengths[0])
    starts = [*range(0, max(length - steps, 0), steps), max(length - steps, 0)]
    codes = [encode(model, clip_part(clip, start, min(start + steps, length)), poses=poses) for start in starts]
    paths, seen = [], 0
    for start, part in zip(starts, codes, strict=True):
        assert part.path is not None
        paths.append(part.path[:, seen - start :])
        seen = start + part.path.shape[1]
    statics = [part.static for part in codes if part.static is not None]
    static = torch.stack(statics).mean(0) if statics else None
    mask = torch.ones(1, length, dtype=torch.bool)
    return Codes(static, path=torch.cat(paths, 1), mask=mask, controls=clip.controls)


def clip_part(clip: Clips, first: int, last: int) -> Clips:
    """Frames `first` to `last` of clips, the last one left out."""
    controls = None if clip.controls is None else clip.controls[:, first:last]
    return Clips(clip.frames[:, first:last], clip.mask[:, first:last], controls)


def _batches(clips: Clips | ClipSet) -> Iterator[Clips]:
    for k in range(0, len(clips), BATCH):
        part = torch.arange(k, min(k + BATCH, len(clips)))
        yield clips.clips(part) if isinstance(clips, ClipSet) else clips[part]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
