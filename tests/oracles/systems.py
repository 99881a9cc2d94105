"""Random linear-Gaussian systems with clips that they made."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.ssm.systems import System


class Case(NamedTuple):
    """A system with observations (B, T, p), a mask (B, T, p) and controls (B, T, m) where the system has an effect of them."""

    system: System
    y: Tensor
    mask: Tensor
    controls: Tensor | None


def case(
    seed: int, clips: int = 1, frames: int = 6, n: int = 3, p: int = 2, controls: int = 0, seen: float = 0.7,
    noise: float = 0.1, varying: bool = True, constants: bool = True, singular: str = "no",
) -> Case:  # fmt: skip
    """Transitions near a rotation, so that long clips neither explode nor die; `noise` is the variance scale of R; float64.

    singular: "axis" where the noise of the transition and the first covariance are zero in the first entry of the state, "rotated" where
    each of them is zero in some direction.
    """
    g = torch.Generator().manual_seed(seed)
    lead = (clips, frames) if varying else ()

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def covariance(size: int, scale: float, *lead: int) -> Tensor:
        factor = draw(*lead, size, size) / size**0.5
        if singular == "rotated":
            return scale * factor[..., 1:] @ factor[..., 1:].mT
        keep = torch.ones(size, dtype=torch.float64)
        keep[0] = 0 if singular == "axis" else 1
        return scale * (factor @ factor.mT + 0.3 * torch.eye(size, dtype=torch.float64)) * keep[:, None] * keep

    A = 0.95 * torch.linalg.qr(draw(*lead, n, n))[0] + 0.02 * draw(*lead, n, n)
    R_factor = draw(*lead, p, p)
    system = System(
        A=A, C=draw(*lead, p, n), Q=covariance(n, 0.2, *lead), R=noise * (R_factor @ R_factor.mT / p + torch.eye(p, dtype=torch.float64)),
        mean=draw(*lead[:1], n), covariance=covariance(n, 2.0, *lead[:1]),
        B=draw(*lead, n, controls) if controls else None, b=draw(*lead, n) if constants else None, d=draw(*lead, p) if constants else None,
    )  # fmt: skip
    u = draw(clips, frames, controls) if controls else None
    y = draw(clips, frames, p) * 2
    mask = torch.rand(clips, frames, p, generator=g) < seen
    return Case(system, y, mask, u)


def clip_of(system: System, k: int) -> System:
    """The system of clip k of one that varies over clips."""
    parts = {part.name: getattr(system, part.name) for part in fields(system)}
    return System(**{name: None if value is None else value[k] for name, value in parts.items()})
