"""What is done where the numbers would not hold: float32 gives way to float64, and float64 refuses.

What tells is how much of its variance an entry has to itself. Where an entry of a frame's residual, given all others, has none left, the
density does not exist. Where an entry of a predicted state, given those before it, has little left, as after a first covariance far
above all noise, filter and smoother take off large numbers from one another; with float64 even a singular state does no harm. The
limits for float32 were measured: they keep its errors below 1e-4.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.ssm.loop import Run
from stillmotion.ssm.problem import Problem, working_type
from stillmotion.ssm.small import pivots
from stillmotion.ssm.systems import System

Result = TypeVar("Result")
SMALLEST_SHARE = {torch.float32: 5e-3, torch.float64: 1e-12}
SMALLEST_STATE_SHARE = 1e-2
"""Of float32."""


class IllConditioned(UserError):
    """Numbers that the floating-point type in use cannot hold."""


def judge(problem: Problem, run: Run) -> None:
    """Raises IllConditioned where the results of a filter are not to be relied on."""
    dtype = run.mean.dtype
    share = run.share
    if not (share > SMALLEST_SHARE[dtype]).all():
        frame, clip = divmod(int(share.nan_to_num(-torch.inf).argmin()), share.shape[1])
        got = f"{float(share[frame, clip]):.2g} in {_place(problem, frame, clip)}"
        _refuse(f"residuals whose entries have a share of more than {SMALLEST_SHARE[dtype]} of their variance to themselves", got, dtype)
    if dtype == torch.float32:
        state = run.predicted_covariance.detach()
        smallest = (pivots(state)[1] / state.diagonal(dim1=0, dim2=1).movedim(-1, 0)).amin()
        if not smallest > SMALLEST_STATE_SHARE:
            expected = f"predicted states whose entries have a share of more than {SMALLEST_STATE_SHARE} of their variance to themselves"
            _refuse(expected, f"{float(smallest):.2g}", dtype)
    if not bool(run.mean.isfinite().all() & run.covariance.isfinite().all()):
        _refuse("states within the range of the type", "NaN or infinity", dtype)


def with_enough_digits(work: Callable[[System, Tensor], Result], system: System, y: Tensor) -> Result:
    """work(system, y), in float64 where float32 turns out to be too little; results are in float32 again, and a warning says why.

    Raises IllConditioned where float64 is too little.
    """
    dtype = working_type(system, y)
    try:
        return work(system.to(dtype), y.to(dtype))
    except IllConditioned as strain:
        if dtype == torch.float64:
            raise
        # without the number that came, so that one line in a program says it once and not at every step
        warnings.warn(f"computed in float64 because float32 is too little, which needs {strain.expected}", stacklevel=3)
    return in_type(work(system.to(torch.float64), y.to(torch.float64)), dtype)


def in_type(result: Result, dtype: torch.dtype) -> Result:
    """The same results, tensors and containers of tensors, in another floating-point type."""
    changed: Any = result
    if isinstance(result, Tensor):
        changed = result.to(dtype)
    elif is_dataclass(result) and not isinstance(result, type):
        changed = replace(result, **{field.name: in_type(getattr(result, field.name), dtype) for field in fields(result)})
    return cast(Result, changed)


def _refuse(expected: str, got: str, dtype: torch.dtype) -> None:
    raise IllConditioned(
        expected, f"{got} ({dtype})".replace("torch.", ""),
        "Give float64, raise the noise of observation R, lower the first covariance, or leave redundant entries out by the mask.",
    )  # fmt: skip


def _place(problem: Problem, frame: int, clip: int) -> str:
    return f"frame {frame}" + (f" of clip {clip}" if problem.shape.numel() > 1 else "")
