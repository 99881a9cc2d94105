"""Comparing what a model says twice of the same clips."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Model, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes

TOLERANCE = 1e-4
"""Largest difference of two results that should agree but for rounding, relative to the largest value above 1."""


def readings(model: Model, clips: Clips) -> Iterator[tuple[str, Codes]]:
    """The codes of the clips, mean codes, in each way the model can read them."""
    if isinstance(model, Encodes):
        yield "encode", model.encode(clips)
    if isinstance(model, EncodesFrames):
        yield "encode_frames", model.encode_frames(clips)


def parts_of(codes: Codes) -> Iterator[tuple[str, Tensor]]:
    """The parts of the codes that are there, by name."""
    for part in ("static", "dynamic", "path"):
        value = getattr(codes, part)
        if value is not None:
            yield part, value


@torch.no_grad()
def compare_to_singles(model: Model, batch: Clips) -> None:
    """Losses, codes, frames and swaps of the batch against those of each clip by itself, cut to its length."""
    lengths = batch.lengths.tolist()
    singles = [Clips(batch.frames[row : row + 1, :length], batch.mask[row : row + 1, :length]) for row, length in enumerate(lengths)]
    for name in model.objectives():
        whole, parts = model(batch, {}, None, name).values, [model(single, {}, None, name).values for single in singles]
        for term, value in whole.items():
            same(f"{term} of {name}", value, torch.stack([part[term] for part in parts]).mean())
    for (name, codes), *others in zip(readings(model, batch), *(readings(model, single) for single in singles), strict=True):
        alone = [single for _, single in others]
        for row, single in enumerate(alone):
            for part, value in parts_of(codes):
                mine = value[row : row + 1]
                same(f"{part} of {name}", mine[:, : lengths[row]] if part == "path" else mine, getattr(single, part))
        if isinstance(model, Decodes):
            _compare_frames(model, codes, alone, lengths)


def _compare_frames(model: Decodes, codes: Codes, singles: list[Codes], lengths: list[int]) -> None:
    whole = model.decode(codes)
    for row, (single, length) in enumerate(zip(singles, lengths, strict=True)):
        same("decoded frames", whole[row : row + 1, :length], model.decode(single))
    if isinstance(model, Swaps):
        swapped = model.decode(model.swap(identity=codes[torch.arange(len(singles)).roll(1)], motion=codes))
        for row, (single, length) in enumerate(zip(singles, lengths, strict=True)):
            same("swapped frames", swapped[row : row + 1, :length], model.decode(model.swap(identity=singles[row - 1], motion=single)))


def same(what: str, got: Tensor | None, expected: Tensor | None, tolerance: float = TOLERANCE) -> None:
    """Raises AssertionError, naming `what`, where two tensors differ in presence, shape or values."""
    if got is None or expected is None:
        claim(got is expected, f"{what}: one is missing")
        return
    claim(got.shape == expected.shape, f"{what}: shape {tuple(got.shape)}, should be {tuple(expected.shape)}")
    off = float((got - expected).abs().max())
    claim(off <= tolerance * max(1.0, float(expected.abs().max())), f"{what}: off by {off:.3g}")


def claim(holds: bool, message: str) -> None:
    """Raises AssertionError where something does not hold; `assert` would be silent under python -O."""
    if not holds:
        raise AssertionError(message)
