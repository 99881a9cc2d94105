"""What people do with a trained model: reconstruct, swap, generate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillmotion.core.abilities import Generates, Remembers, Swaps, require
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.tasks.codes import decode, encode, encode_long

SOURCES = ("prior", "aggregate")


def reconstruct(model: nn.Module, clips: Clips | ClipSet, *, poses: bool = False) -> Tensor:
    """The clips as the model sees them, (B, T, C, H, W)."""
    return decode(model, encode(model, clips, poses=poses))


def swap(model: nn.Module, identity: Codes, motion: Codes) -> Tensor:
    """Clips with the identity of one and the movement of the other, (B, T, C, H, W)."""
    return decode(model, require(model, Swaps).swap(identity, motion))


def swap_grid(model: nn.Module, codes: list[Codes]) -> Tensor:
    """Every movement on every identity, (rows, columns, T, C, H, W): row = whose movement, column = whose identity (VDSM, figure 5).

    codes: one per clip, each of a single clip. Paths of different length are cut to the shortest.
    """
    if not codes:
        raise UserError("at least one clip", "none")
    steps = min(code.path.shape[1] for code in codes if code.path is not None)
    rows = []
    for motion in codes:
        assert motion.path is not None
        short = Codes(motion.static, motion.dynamic, motion.path[:, :steps])
        rows.append(torch.cat([swap(model, identity, short) for identity in codes]))
    return torch.stack(rows)


def generate(model: nn.Module, count: int, steps: int, seed: int, *, source: str | None = None) -> Tensor:
    """New clips, (count, steps, C, H, W), of any number of steps.

    source: "prior", or "aggregate", the aggregate posterior of training clips; by default that where the model keeps one. Raises
    MissingAbility.
    """
    source = source or default_source(model)
    if source not in SOURCES:
        raise UserError(f"a source of {' or '.join(SOURCES)}", repr(source))
    if count < 1 or steps < 1:
        raise UserError("at least one clip of at least one frame", f"{count} clips of {steps} frames")
    draw = require(model, Generates).generate if source == "prior" else require(model, Remembers).recombine
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    with torch.inference_mode():
        codes = draw(count, steps, generator)
    return decode(model, codes)


def default_source(model: nn.Module) -> str:
    """Where new clips are drawn from unless someone says otherwise."""
    return "aggregate" if isinstance(model, Remembers) and model.remembers else "prior"


def codes_of(model: nn.Module, clips: list[Clips], steps: int, *, poses: bool = False) -> list[Codes]:
    """Codes of whole clips of any length, one by one, read in windows of the `steps` frames that the model was trained on."""
    return [encode_long(model, clip, steps, poses=poses) for clip in clips]
