"""Verdicts made by hand, for tests of metrics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion.metrics.judge import Verdicts


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def saying(classes: int = 4, /, **said: Tensor) -> Verdicts:
    """Of a judge that is sure, beyond the last digit of a float64, of the class given for each clip."""
    return of_logits(**{factor: 2000 * torch.nn.functional.one_hot(says, classes).float() for factor, says in said.items()})


def knowing_nothing(clips: int, classes: int = 4, factors: tuple[str, ...] = ("hair", "action")) -> Verdicts:
    """Of a judge that gives each class the same."""
    return of_logits(**{factor: torch.zeros(clips, classes) for factor in factors})


def at_random(clips: int, classes: int = 4, seed: int = 0, factors: tuple[str, ...] = ("hair", "action")) -> Verdicts:
    """Of a judge whose logits are noise."""
    generator = seeded(seed)
    return of_logits(**{factor: 2 * torch.randn(clips, classes, generator=generator) for factor in factors})


def of_logits(**logits: Tensor) -> Verdicts:
    return Verdicts(logits, torch.zeros(len(next(iter(logits.values()))), 2))


def drawn(clips: int, classes: int = 4, seed: int = 1) -> Tensor:
    """Random classes, (N,)."""
    return torch.randint(classes, (clips,), generator=seeded(seed))


def with_nan(verdicts: Verdicts, factor: str) -> Verdicts:
    """The same verdicts, but NaN of the first clip."""
    logits: Mapping[str, Tensor] = {name: value.clone() for name, value in verdicts.logits.items()}
    logits[factor][0, 0] = float("nan")
    return of_logits(**logits)
