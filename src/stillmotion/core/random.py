"""Noise from an explicit generator, drawn so that data-parallel ranks share one global draw."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import torch
from torch import Tensor


class Noise(torch.Generator):
    """A generator that may be one of several data-parallel ranks.

    Every draw is made for the whole global batch (first axis times `world`) and rank `rank` keeps its own slice, so that N
    processes with B clips each see exactly the noise that one process with N * B clips sees.
    """

    rank: int = 0
    world: int = 1


def seed_of(*parts: object) -> int:
    """A seed from anything with a stable text: (run seed, stage, step) gives every step its own noise, so nothing needs saving."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1


def noise_of(*parts: object) -> torch.Generator:
    """A generator on the CPU that always begins alike for the same parts."""
    return torch.Generator().manual_seed(seed_of(*parts))


def normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal noise of `shape` (first axis: clips), in the dtype and on the device of `like`."""
    return _slice(torch.randn, shape, generator).to(like)


def uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform noise in [0, 1) of `shape` (first axis: clips), in the dtype and on the device of `like`."""
    return _slice(torch.rand, shape, generator).to(like)


def _slice(draw: Callable[..., Tensor], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    world, rank = getattr(generator, "world", 1), getattr(generator, "rank", 0)
    everything = draw((shape[0] * world, *shape[1:]), generator=generator, device=generator.device)
    return everything[rank * shape[0] : (rank + 1) * shape[0]]
