"""A system and its observations, checked and brought into the one layout that the algorithms work on."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.ssm.small import pivots, product, symmetric, transpose
from stillmotion.ssm.systems import System

ROUNDING = 1e-6
"""What a correlation may be off by: a covariance that was rounded to float32 is still one."""


class Problem(NamedTuple):
    """All tensors have the axes (rows, columns, T, B), the last two of length one where nothing varies along them.

    A, Q: (n, n). b: (n, 1), constants and the effect of controls. C: (p, n) and y: (p, 1), zero in the rows that are not observed;
    constants are taken off y. R: (p, p), in those rows that of an independent entry of variance one: it changes neither state nor
    likelihood.
    mean: (n, 1) and covariance: (n, n) of the first state, with T = 1. seen: (p, 1), one in the rows that are observed, zero in the others.
    shape: the axes of clips that B stands for.
    """

    A: Tensor
    b: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor
    y: Tensor
    mean: Tensor
    covariance: Tensor
    seen: Tensor
    shape: torch.Size

    @property
    def observed(self) -> Tensor:
        """How many entries of each frame are observed, (T, B)."""
        return self.seen.sum((0, 1))


def formulate(system: System, y: Tensor, mask: Tensor | None, controls: Tensor | None) -> Problem:
    """The problem of T frames y (*, T, p), with mask (*, T) or (*, T, p), true where observed, and controls (*, T, m).

    What stands in y where nothing is observed has no effect; it may be NaN.
    Raises UserError for shapes that do not fit together, observed values that are not finite and covariances that are none.
    """
    if y.ndim < 2 or 0 in y.shape:
        raise UserError("observations of shape (clips, frames, entries), none of them zero", f"{tuple(y.shape)}")
    dtype = working_type(system, y)
    y, system = y.to(dtype), system.to(dtype)
    seen = _seen(mask, y)
    shape = _clips(system, y, controls)
    n, p = system.mean.shape[-1], y.shape[-1]
    _check_shapes(system, n, p)
    return _problem(system, torch.where(seen, y, 0), seen, effect(system, controls), shape)


def working_type(system: System, y: Tensor) -> torch.dtype:
    """float64 where anything is, float32 for all else: half precision has too few digits for any of this."""
    parts = [getattr(system, field.name) for field in fields(system)]
    return torch.float64 if torch.float64 in {y.dtype, *(part.dtype for part in parts if part is not None)} else torch.float32


def effect(system: System, controls: Tensor | None) -> Tensor:
    """B_t u_t + b_t, (*, T, n). Raises UserError where B comes without controls, or controls without B or of another size."""
    constant = system.mean.new_zeros(1, system.mean.shape[-1]) if system.b is None else system.b
    if (controls is None) != (system.B is None):
        raise UserError("controls and their effect B together", "only one of them", "Give both or neither.")
    if controls is None or system.B is None:
        return constant
    if controls.shape[-1] != system.B.shape[-1]:
        raise UserError(f"{system.B.shape[-1]} controls per frame, as many as B has columns", f"{controls.shape[-1]}")
    return constant + (system.B @ controls.to(system.B.dtype)[..., None])[..., 0]


def covariance(matrix: Tensor, name: str) -> Tensor:
    """Covariances (k, k, ...) without what rounding has made uneven in them, or negative where they are singular.

    Raises UserError unless each is finite, symmetric and has no negative eigenvalue beyond rounding.
    """
    value = matrix.detach()
    if not value.isfinite().all():
        raise UserError(f"finite numbers in {name}", "NaN or infinity")
    lower, found = pivots(value)
    variance = value.diagonal(dim1=0, dim2=1).movedim(-1, 0)
    allowed = ROUNDING * (variance[:, None] * variance[None]).abs().sqrt()
    doubtful = (found < ROUNDING * variance).any(0) | ((product(lower, transpose(lower)) - value).abs() > allowed).flatten(0, 1).any(0)
    matrix = symmetric(matrix)
    if not doubtful.any():
        return matrix
    # the root of a singular covariance may be lost in rounding; eigenvalues are sure, and slow
    correction = torch.zeros_like(value)
    correction[:, :, doubtful] = _nearest_covariance(value[:, :, doubtful], name) - matrix.detach()[:, :, doubtful]
    return matrix + correction


def _nearest_covariance(matrix: Tensor, name: str) -> Tensor:
    """Of (k, k, N). Correlations are judged, so that no entry hides behind a larger one."""
    variance = matrix.diagonal(dim1=0, dim2=1).mT
    scale = torch.where(variance > 0, variance, 1).sqrt()[:, None]
    correlation = (matrix / (scale * scale.movedim(0, 1))).movedim(-1, 0)
    values, vectors = torch.linalg.eigh((correlation + correlation.mT) / 2)
    allowed = ROUNDING * len(matrix)
    if ((correlation - correlation.mT).abs() > allowed).any() or (values < -allowed).any() or (variance < 0).any():
        raise UserError(
            f"{name} to be a covariance (symmetric, no negative eigenvalue)", "one that is not",
            "Build it as F F' or, where entries are independent, as a diagonal of positive variances.",
        )  # fmt: skip
    nearest: Tensor = (vectors * values.clamp(min=0)[:, None]) @ vectors.mT
    return scale * scale.movedim(0, 1) * nearest.movedim(0, -1)


def last(value: Tensor, matrix: int, shape: torch.Size) -> Tensor:
    """(*, T, matrix axes), where * broadcasts to `shape`, to (matrix axes, T, B). Axes of length one stay; one matrix axis is a column."""
    if matrix == 1:
        value = value[..., None]
    value = value.reshape(*(1,) * (len(shape) + 3 - value.ndim), *value.shape)
    clips = value.shape[:-3]
    if clips.numel() > 1:
        value = value.expand(*shape, *value.shape[-3:])
    return value.reshape(-1, *value.shape[-3:]).permute(2, 3, 1, 0).contiguous()


def first(value: Tensor, matrix: int, shape: torch.Size) -> Tensor:
    """The other way: (rows, columns, T, B) to (*, T, rows, columns), or (*, T, rows) for one matrix axis."""
    clips = shape.numel()
    value = value.expand(*value.shape[:3], clips).permute(3, 2, 0, 1).contiguous()
    value = value.reshape(*shape, *value.shape[1:])
    return value[..., 0] if matrix == 1 else value


def begin(start: Tensor, rest: Tensor) -> Tensor:
    """One frame and then the rest, (rows, columns, T, B), after an expansion of the clips that either lacks."""
    lanes = max(start.shape[3], rest.shape[3])
    return torch.cat([value.expand(*value.shape[:3], lanes) for value in (start, rest)], 2)


def _seen(mask: Tensor | None, y: Tensor) -> Tensor:
    """The mask for each entry, (*, T, p) or broadcastable to it."""
    if mask is None:
        mask = torch.ones_like(y[..., :1], dtype=torch.bool)
    elif mask.dtype != torch.bool:
        raise UserError("a mask of truth values, true where observed", f"{mask.dtype}", "Compare it first, e.g. mask > 0.")
    elif mask.shape == y.shape[:-1]:
        mask = mask[..., None]
    elif mask.shape != y.shape:
        raise UserError(f"a mask of shape {tuple(y.shape[:-1])} or {tuple(y.shape)}", f"{tuple(mask.shape)}")
    mask = mask.expand(y.shape)
    if not torch.where(mask, y, 0).isfinite().all():
        raise UserError("finite observations", "NaN or infinity where the mask says observed", "Leave them out by the mask.")
    return mask


def _clips(system: System, y: Tensor, controls: Tensor | None) -> torch.Size:
    """The axes of clips, after a check that all parameters broadcast to them and to T frames."""
    frames, shapes = y.shape[-2], [y.shape[:-2], system.mean.shape[:-1], system.covariance.shape[:-2]]
    parts = {name: getattr(system, name) for name in "ACQRB"} | {"b": system.b, "d": system.d, "controls": controls}
    for name, value in parts.items():
        axes = 1 if name in ("b", "d", "controls") else 2
        leading = torch.Size() if value is None else value.shape[:-axes]
        allowed = (frames,) if name == "controls" else (1, frames)
        if leading and leading[-1] not in allowed:
            raise UserError(f"{frames} frames in {name}, as in the observations", f"{leading[-1]}")
        shapes.append(leading[:-1])
    try:
        shape: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise UserError("axes of clips that broadcast", ", ".join(str(tuple(shape)) for shape in shapes)) from error
    return shape


def _check_shapes(system: System, n: int, p: int) -> None:
    expected = {"A": (n, n), "C": (p, n), "Q": (n, n), "R": (p, p), "covariance": (n, n), "mean": (n,), "b": (n,), "d": (p,)}
    for name, shape in expected.items():
        value = getattr(system, name)
        if value is not None and tuple(value.shape[-len(shape) :]) != shape:
            raise UserError(f"{name} of shape {shape} in its last axes", f"{tuple(value.shape)}")
    if system.B is not None and (system.B.ndim < 2 or system.B.shape[-2] != n):
        raise UserError(f"B with {n} rows, as many as the state has entries", f"{tuple(system.B.shape)}")


def _problem(system: System, y: Tensor, seen: Tensor, b: Tensor, shape: torch.Size) -> Problem:
    p = y.shape[-1]
    if system.d is not None:
        y = torch.where(seen, y - system.d, 0)
    C, R = system.C, system.R
    if not seen.all():
        column = seen[..., None].to(y.dtype)
        C = C * column
        # rows that are not observed: no covariance with any other, variance one
        R = R * column * column.mT + torch.diag_embed(1 - column[..., 0])
    Q, R, first_one = (last(value, 2, shape) for value in (system.Q, R, system.covariance[..., None, :, :]))
    return Problem(
        A=last(system.A, 2, shape), b=last(b, 1, shape), Q=covariance(Q, "Q"), C=last(C, 2, shape), R=covariance(R, "R"),
        y=last(y.expand(*shape, -1, p), 1, shape), mean=last(system.mean[..., None, :], 1, shape),
        covariance=covariance(first_one, "the first covariance"),
        seen=last(seen.expand(*shape, -1, p).to(y.dtype), 1, shape), shape=shape,
    )  # fmt: skip
