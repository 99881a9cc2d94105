"""Words for what theory says of the samples in `testing/metric_samples.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stillmotion.testing.metric_laws import Expected, chance, near
from stillmotion.testing.metric_samples import CLASSES

BEST, NOTHING = near(1.0), near(0.0)
BOTH_GUESSED = chance((1 / 4 + 1 / 3) / 2)
"""The mean over both factors of what is right as often as a guess."""


def each(name: str, expected: Callable[[int], Expected]) -> dict[str, Expected]:
    """A figure for each factor, by the number of its classes."""
    return {name.format(factor): expected(count) for factor, count in CLASSES.items()}


def guessed(name: str, **known: Expected) -> dict[str, Expected]:
    """A figure for each factor, right as often as a guess, but for those that are known."""
    return each(name, lambda classes: chance(1 / classes)) | {name.format(factor): value for factor, value in known.items()}


def alike(expected: Mapping[str, Expected], *situations: str) -> dict[str, Mapping[str, Expected]]:
    """The same figures in several situations."""
    return dict.fromkeys(situations, expected)
