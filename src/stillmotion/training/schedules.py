"""Schedules: numbers that follow the progress of a stage, 0 at its first step and 1 at its last."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator
from scipy.interpolate import make_interp_spline


class Schedule(BaseModel):
    """A curve through points (progress, value), constant before the first and after the last.

    kind: how points are joined. `linear`; `half_cosine`, flat at both ends; `quadratic`, the interpolating quadratic spline that VDSM
    uses for lambda_z; `cyclic`, the linear curve repeated `cycles` times. A constant is one point.
    low, high: bounds on the value (the quadratic spline overshoots below zero).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear", "half_cosine", "quadratic", "cyclic"] = "linear"
    points: tuple[tuple[float, float], ...]
    low: float = -math.inf
    high: float = math.inf
    cycles: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> Schedule:
        places = [place for place, _ in self.points]
        if not places or any(a >= b for a, b in pairwise(places)):
            raise ValueError(f"a schedule needs points of rising progress, got {self.points}")
        if self.kind == "quadratic" and len(places) < 3:
            raise ValueError(f"a quadratic schedule needs at least 3 points, got {len(places)}")
        return self

    def __call__(self, progress: float) -> float:
        if self.kind == "cyclic":
            progress = progress * self.cycles % 1 if progress < 1 else 1.0
        return min(max(self._value(progress), self.low), self.high)

    def times(self, factor: float) -> Schedule:
        """This curve, everywhere so many times as high. Raises ValueError for a factor that is not above 0."""
        if factor <= 0:
            raise ValueError(f"a factor above 0, got {factor}")
        points = tuple((place, factor * value) for place, value in self.points)
        return self.model_copy(update={"points": points, "low": factor * self.low, "high": factor * self.high})

    def between(self, start: float, end: float) -> Schedule:
        """This linear curve from one progress to another, as a schedule of its own. Raises ValueError for a curve of another kind."""
        if self.kind != "linear":
            raise ValueError(f"only a linear schedule can be cut, got a {self.kind} one")
        inside = [((place - start) / (end - start), value) for place, value in self.points if start < place < end]
        return self.model_copy(update={"points": ((0.0, self(start)), *inside, (1.0, self(end)))})

    def _value(self, progress: float) -> float:
        first, last = self.points[0], self.points[-1]
        if progress <= first[0]:
            return first[1]
        if progress >= last[0]:
            return last[1]
        if self.kind == "quadratic":
            places, values = zip(*self.points, strict=True)
            return float(make_interp_spline(places, values, k=2)(progress))
        before, after = next((a, b) for a, b in pairwise(self.points) if progress < b[0])
        share = (progress - before[0]) / (after[0] - before[0])
        if self.kind == "half_cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return before[1] + share * (after[1] - before[1])


def constant(value: float) -> Schedule:
    """The same value throughout."""
    return Schedule(points=((0, value),))


def half_cosine(start: float, end: float, until: float = 1.0) -> Schedule:
    """From `start` to `end` by half a cosine, reached at progress `until`."""
    return Schedule(kind="half_cosine", points=((0, start), (until, end)))
