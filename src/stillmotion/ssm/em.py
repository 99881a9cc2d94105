"""Fitting a system whose matrices are the same in all frames, by expectation maximisation (Shumway and Stoffer 1982).

Each step smooths with the parameters so far, and then sets each to what maximises the expected log density of states and observations. The
likelihood never falls. Entries that are missing from a partly observed frame are hidden variables like the states; frames that are wholly
missing say nothing of C, d and R.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.ssm.inference import log_likelihood, smooth
from stillmotion.ssm.systems import Smoothed, System

STATIC = {"A": 2, "C": 2, "Q": 2, "R": 2, "mean": 1, "covariance": 2, "B": 2, "b": 1, "d": 1}


@dataclass(frozen=True)
class Fitted:
    """The system after the last step, and log_likelihood (steps + 1,): of all clips, before each step and after the last."""

    system: System
    log_likelihood: Tensor


class Sums(NamedTuple):
    """Of a regression of y on x over all frames that count: expectations of y y', y x' and x x', and the number of frames."""

    yy: Tensor
    yx: Tensor
    xx: Tensor
    frames: Tensor


def fit(
    system: System, y: Tensor, steps: int, mask: Tensor | None = None, controls: Tensor | None = None, learn: Collection[str] | None = None
) -> Fitted:
    """`steps` steps from `system` on clips y (*, T, p), with mask and controls as in `inference`.

    learn: which of A, B, b, C, d, Q, R, mean, covariance; the others stay. All that the system has where it is None.
    Raises UserError where a matrix varies over frames or clips, or a name to learn is not in the system.
    """
    present = [name for name in STATIC if getattr(system, name) is not None]
    _check(system, present, learn)
    chosen, found = present if learn is None else list(learn), []
    with torch.no_grad():
        for _ in range(steps):
            smoothed = smooth(system, y, mask, controls)
            found.append(smoothed.filtered.log_likelihood.sum())
            system = maximise(system, smoothed, y, mask, controls, chosen)
        found.append(log_likelihood(system, y, mask, controls).sum())
    return Fitted(system, torch.stack(found))


def maximise(
    system: System, smoothed: Smoothed, y: Tensor, mask: Tensor | None, controls: Tensor | None, learn: Collection[str]
) -> System:
    """One step: the parameters `learn` that fit best what `smoothed` expects of the states under the others."""
    columns = _columns(system)
    new = dict[str, Tensor]()
    for target, noise, sums in (
        ("transition", "Q", _transition_sums(system, smoothed, controls)), ("emission", "R", _emission_sums(system, smoothed, y, mask)),
    ):  # fmt: skip
        names, sizes = zip(*columns[target], strict=True)
        if bool(sums.frames == 0):
            continue
        W = _regress(sums, _side_by_side(system, names), [name in learn for name in names for _ in range(sizes[names.index(name)])])
        parts = torch.split(W, list(sizes), 1)
        new |= {name: part[:, 0] if name in ("b", "d") else part for name, part in zip(names, parts, strict=True)}
        cross = W @ sums.yx.mT
        new[noise] = (sums.yy - cross - cross.mT + W @ sums.xx @ W.mT) / sums.frames
    mean = smoothed.mean[..., 0, :].reshape(-1, system.mean.shape[-1])
    new["mean"] = mean.mean(0)
    apart = mean - (new["mean"] if "mean" in learn else system.mean)
    new["covariance"] = smoothed.covariance[..., 0, :, :].reshape(-1, *system.covariance.shape).mean(0) + apart.mT @ apart / len(apart)
    new |= {name: (new[name] + new[name].mT) / 2 for name in ("Q", "R", "covariance") if name in new}
    return replace(system, **{name: value for name, value in new.items() if name in learn})


def _transition_sums(system: System, smoothed: Smoothed, controls: Tensor | None) -> Sums:
    """z_t on x_t = [z_{t-1}, u_t, 1]."""
    n = system.A.shape[-1]
    m, P = smoothed.mean.reshape(-1, *smoothed.mean.shape[-2:]), smoothed.covariance.reshape(-1, *smoothed.covariance.shape[-3:])
    u = None if controls is None else controls.expand(*smoothed.mean.shape[:-1], -1).reshape(*m.shape[:2], -1)[:, 1:]
    x = torch.cat([m[:, :-1], *([] if u is None else [u.to(m.dtype)]), *([] if system.b is None else [torch.ones_like(m[:, 1:, :1])])], -1)
    after, xx = m[:, 1:].flatten(0, 1), x.flatten(0, 1).mT @ x.flatten(0, 1)
    xx[:n, :n] += P[:, :-1].sum((0, 1))
    yx = after.mT @ x.flatten(0, 1)
    yx[:, :n] += smoothed.lag_one.reshape(-1, n, n).sum(0)
    return Sums(after.mT @ after + P[:, 1:].sum((0, 1)), yx, xx, torch.tensor(len(after)))


def _emission_sums(system: System, smoothed: Smoothed, y: Tensor, mask: Tensor | None) -> Sums:
    """y_t on x_t = [z_t, 1], where y_t given z_t is N(left x_t + known, rest): what is missing follows from what is observed by R."""
    n, p = system.A.shape[-1], y.shape[-1]
    m, P = smoothed.mean.reshape(-1, n), smoothed.covariance.reshape(-1, n, n)
    seen = torch.ones_like(y, dtype=torch.bool) if mask is None else (mask if mask.shape == y.shape else mask[..., None]).expand(y.shape)
    y, seen = torch.where(seen, y, 0).to(m.dtype).expand(*smoothed.mean.shape[:-1], p).reshape(-1, p), seen.reshape(-1, p)
    used = seen.any(-1)
    m, P, y, seen = m[used], P[used], y[used], seen[used].to(m.dtype)
    x = m if system.d is None else torch.cat([m, torch.ones_like(m[:, :1])], -1)
    xx = x[:, :, None] * x[:, None]
    xx[:, :n, :n] += P
    gain = torch.linalg.solve(system.R * seen[:, :, None] * seen[:, None] + torch.diag_embed(1 - seen), system.R * seen[:, :, None]).mT
    gain = gain * seen[:, None]
    left = (torch.eye(p, dtype=m.dtype, device=m.device) - gain) @ _side_by_side(system, ("C",) if system.d is None else ("C", "d"))
    known, rest = (gain @ y[..., None]), system.R - gain @ system.R
    both = left @ x[..., None] @ known.mT
    yy = rest + left @ xx @ left.mT + both + both.mT + known @ known.mT
    return Sums(yy.sum(0), (left @ xx + known @ x[:, None]).sum(0), xx.sum(0), used.sum())


def _regress(sums: Sums, W: Tensor, free: list[bool]) -> Tensor:
    """W with its free columns such that W x is nearest to y."""
    at, fixed = torch.tensor(free), ~torch.tensor(free)
    best = W.clone()
    best[:, at] = torch.linalg.solve(sums.xx[at][:, at], (sums.yx[:, at] - W[:, fixed] @ sums.xx[fixed][:, at]).mT).mT
    return best


def _columns(system: System) -> dict[str, list[tuple[str, int]]]:
    """What multiplies x in each regression: names and numbers of columns."""
    n = system.A.shape[-1]
    transition = [("A", n)] + ([] if system.B is None else [("B", system.B.shape[-1])]) + ([] if system.b is None else [("b", 1)])
    return {"transition": transition, "emission": [("C", n)] + ([] if system.d is None else [("d", 1)])}


def _side_by_side(system: System, names: tuple[str, ...]) -> Tensor:
    return torch.cat([value[:, None] if value.ndim == 1 else value for value in (getattr(system, name) for name in names)], 1)


def _check(system: System, present: list[str], learn: Collection[str] | None) -> None:
    for name in present:
        if getattr(system, name).ndim != STATIC[name]:
            shape = tuple(getattr(system, name).shape)
            raise UserError(f"{name} with {STATIC[name]} axes, the same in all frames and clips", f"shape {shape}")
    if unknown := sorted(set(learn or ()) - set(present)):
        raise UserError(f"names to learn among {', '.join(present)}", ", ".join(unknown))
