"""A measured value, how sure it is, and of how many clips: what every metric returns, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stillmotion.core.errors import UserError

ROUNDS = 1000
LEVEL = 0.95
CHUNK = 1 << 22
Z = 1.96


@dataclass(frozen=True)
class Figure:
    """value: over all clips. low, high: a 95 % bootstrap interval. clips: how many were measured."""

    value: float
    low: float
    high: float
    clips: int


Figures = dict[str, Figure]


def share(hits: Tensor, generator: torch.Generator, clusters: Tensor | None = None) -> Figure:
    """Share of true entries of (N,) bool.

    Where all or none are hits every resample says so too: the interval is then that of Wilson, for as many clips as there are
    clusters. Raises UserError where there are no clips.
    """
    figure = mean(hits.float(), generator, clusters)
    if 0 < figure.value < 1:
        return figure
    units = len(hits) if clusters is None else len(clusters.unique())  # type: ignore[no-untyped-call]
    open_end = Z**2 / (units + Z**2)
    return Figure(figure.value, max(0.0, figure.value - open_end), min(1.0, figure.value + open_end), figure.clips)


def mean(values: Tensor, generator: torch.Generator, clusters: Tensor | None = None) -> Figure:
    """Mean of (N,) with its interval, from as many draws of whole clusters as there are. Raises UserError for none and for NaN."""
    if not len(values):
        raise UserError("at least one clip to measure", "none")
    values = finite(values, "values").double()
    which = _units(len(values), clusters)
    count = int(which.max()) + 1
    sums = torch.zeros(count, dtype=torch.double).index_add_(0, which, values)
    sizes = torch.bincount(which, minlength=count).double()
    found = []
    rounds = max(1, CHUNK // count)
    for first in range(0, ROUNDS, rounds):
        draw = torch.randint(count, (min(rounds, ROUNDS - first), count), generator=generator)
        found.append(sums[draw].sum(1) / sizes[draw].sum(1))
    return _figure(float(values.mean()), torch.cat(found), len(values))


def bootstrap(
    statistic: Callable[[Tensor], float], clips: int, generator: torch.Generator, clusters: Tensor | None = None, rounds: int = 200
) -> Figure:
    """Any statistic of an index (N,) int64 into the clips, over all of them and over `rounds` resamples with replacement.

    clusters: (N,) int64; clips of one cluster (windows of one file, clips of one person) are drawn together, as they are not
    independent. A resample on which the statistic is not finite, because a class is lacking, is left out.
    Raises UserError where there are no clips, or where the statistic of all of them is not finite.
    """
    if not clips:
        raise UserError("at least one clip to measure", "none")
    value = statistic(torch.arange(clips))
    if not math.isfinite(value):
        raise UserError("a finite value", f"{value}", "Are there clips whose codes or frames are not numbers?")
    found = torch.tensor([statistic(resample(clips, generator, clusters)) for _ in range(rounds)], dtype=torch.double)
    return _figure(value, found[found.isfinite()], clips)


def resample(clips: int, generator: torch.Generator, clusters: Tensor | None = None) -> Tensor:
    """Positions of a resample with replacement: of clips, or of whole clusters; of clips, too, where there is but one cluster."""
    which = _units(clips, clusters)
    if int(which.max()) + 1 == clips:
        return torch.randint(clips, (clips,), generator=generator)
    order, sizes = which.argsort(stable=True), torch.bincount(which)
    members = torch.split(order, sizes.tolist())
    return torch.cat([members[k] for k in torch.randint(len(members), (len(members),), generator=generator).tolist()])


def finite(values: Tensor, what: str) -> Tensor:
    """The same values. Raises UserError, which names them, where one is not a number."""
    if not bool(values.isfinite().all()):
        bad = int((~values.isfinite()).flatten(1).any(1).sum()) if values.ndim > 1 else int((~values.isfinite()).sum())
        raise UserError(f"finite {what}", f"{bad} of {len(values)} clips with NaN or infinite ones", "Check frames and model for NaN.")
    return values


def _units(clips: int, clusters: Tensor | None) -> Tensor:
    """What is drawn together, by number (clips,): each clip by itself, or whole clusters if there are two.

    Of a single cluster nothing is known of how clusters vary; its clips then give an interval that is too narrow, but not of width 0.
    """
    units: Tensor = torch.arange(clips) if clusters is None else torch.unique(clusters, return_inverse=True)[1]
    return units if int(units.max()) else torch.arange(clips)


def _figure(value: float, resampled: Tensor, clips: int) -> Figure:
    if not len(resampled):
        return Figure(value, value, value, clips)
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.double)
    low, high = resampled.quantile(ends).tolist()
    return Figure(value, min(low, value), max(high, value), clips)
