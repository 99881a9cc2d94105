"""One step of a differential equation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def runge_kutta(slope: Callable[[Tensor], Tensor], state: Tensor, step: float) -> Tensor:
    """The state after one classical step of fourth order along `slope`."""
    first = slope(state)
    second = slope(state + step / 2 * first)
    third = slope(state + step / 2 * second)
    fourth = slope(state + step * third)
    return state + step / 6 * (first + 2 * second + 2 * third + fourth)
