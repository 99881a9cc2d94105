"""Fréchet distance between the features of made and of real clips, each taken for a Gaussian (Heusel et al. 2017; Dowson and Landau 1982).

    d = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

With X1, X2 the centred features over sqrt(clips - 1) the last trace is the sum of the singular values of X1 X2': exact for fewer
clips than features too, where S1 S2 is singular and its matrix square root is not to be had.

The distance grows as clips get fewer, and resampling with replacement adds that growth a second time: a bootstrap interval may not
even hold its own value. The interval here is the infinitesimal jackknife's: what each clip adds to the distance is known in closed
form from the singular vectors, and the spread of these contributions is the standard error. It tells how far another draw of as many
clips would move the figure; how far the figure lies above the distance of infinitely many clips is told by `frechet_floor` and
`frechet_infinity`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import LEVEL, Figure, Figures, Z, finite

SPLITS = 20


def frechet_figures(
    name: str, made: Tensor, real: Tensor, generator: torch.Generator, clusters: Tensor | None = None, paired: bool = False
) -> Figures:
    """`name` and, where both halves of the clips outnumber the features, `name`_infinity. Arguments as for `frechet`.

    The floor (`frechet_floor`) hangs on the real clips alone: it is told once for all that is measured beside them.
    """
    figures = {name: frechet(made, real, clusters, paired)}
    if min(len(made), len(real)) // 2 > real.shape[1]:
        figures[f"{name}_infinity"] = frechet_infinity(made, real, generator, clusters, paired)
    return figures


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Distance between features (N, F) and (M, F), in float64; never below zero.

    Raises UserError for fewer than two clips, other shapes, and features that are not finite.
    """
    x, y = map(_cloud, _checked(a, b))
    between = (x.mean - y.mean).square().sum()
    shared = torch.linalg.svdvals(x.root @ y.root.T).sum()
    return max(0.0, float(between + x.rows.square().sum() + y.rows.square().sum() - 2 * shared))


def frechet(made: Tensor, real: Tensor, clusters: Tensor | None = None, paired: bool = False) -> Figure:
    """The distance between (N, F) and (M, F), its 95 % interval for as many clips, and the smaller number of clips.

    clusters: (M,) int64, which real clips belong together. paired: made clip i was made of real clip i (a reconstruction), so that
    both move together from draw to draw and share the clusters; otherwise made clips are independent of one another and of the real.
    Raises UserError as `frechet_distance`, and for clusters or pairs that do not fit.
    """
    value = frechet_distance(made, real)
    margin = _margin(made, real, clusters, paired)
    return Figure(value, max(0.0, value - margin), value + margin, min(len(made), len(real)))


def frechet_floor(real: Tensor, made: int, generator: torch.Generator, clusters: Tensor | None = None) -> Figure:
    """What a perfect model would get: the distance between two parts of the real clips (M, F) that share none, mean of 20 splits.

    One part has as many clips as the model made or, where the other would then be the smaller, half of them; `clips` says how many.
    Two halves lie about twice as far apart as two full sets would, so a model of M clips can come out below. Clusters stay whole.
    low, high: what 95 % of the splits give. Raises UserError for fewer than four clips or two clusters.
    """
    size = min(made, len(real) // 2)
    splits = [_split(len(real), size, generator, clusters) for _ in range(SPLITS)]
    found = torch.tensor([frechet_distance(real[one], real[other]) for one, other in splits], dtype=torch.double)
    low, high = found.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.double)).tolist()
    return Figure(float(found.mean()), low, high, size)


def frechet_infinity(
    made: Tensor, real: Tensor, generator: torch.Generator, clusters: Tensor | None = None, paired: bool = False
) -> Figure:
    """The distance of infinitely many clips, by extrapolation (after Chong and Forsyth 2020): d(all) - (d(halves) - d(all)).

    Right where the excess falls as one over the number of clips, which needs more clips in a half than features: UserError with
    fewer. Free of the excess, it scatters around zero for a perfect model and may fall below. Arguments as for `frechet`.
    """
    size = min(len(made), len(real)) // 2
    if size <= real.shape[1]:
        raise UserError(f"more than {2 * real.shape[1]} clips to extrapolate {real.shape[1]} features", f"{2 * size}", "Use more clips.")
    halves = torch.tensor([_halved(made, real, generator, clusters, paired) for _ in range(SPLITS // 2)], dtype=torch.double)
    value = 2 * frechet_distance(made, real) - float(halves.mean())
    margin = math.hypot(_margin(made, real, clusters, paired), Z * float(halves.std()) / math.sqrt(len(halves)))
    return Figure(value, value - margin, value + margin, min(len(made), len(real)))


def _halved(made: Tensor, real: Tensor, generator: torch.Generator, clusters: Tensor | None, paired: bool) -> float:
    """Distance of one half and of the other, weighted with their shares: uneven halves then have the excess of even ones."""
    of_real = _split(len(real), len(real) // 2, generator, clusters)
    of_made = of_real if paired else _split(len(made), len(made) // 2, generator, None)
    return sum(len(j) / len(real) * frechet_distance(made[i], real[j]) for i, j in zip(of_made, of_real, strict=True))


def _split(clips: int, size: int, generator: torch.Generator, clusters: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positions of two parts, the first of about `size`, without cutting a cluster."""
    which = _which(clips, clusters)
    rank = torch.randperm(int(which.max()) + 1, generator=generator)[which]
    ends = torch.bincount(rank).cumsum(0)[:-1]
    if not len(ends) or clips < 4:
        raise UserError("at least four clips of two clusters, to split them", f"{clips} clips of {int(which.max()) + 1}")
    cut = int(ends[(ends - size).abs().argmin()])
    order = rank.argsort(stable=True)
    return order[:cut], order[cut:]


def _margin(made: Tensor, real: Tensor, clusters: Tensor | None, paired: bool) -> float:
    """Half of the 95 % interval: the jackknife's standard error times Student's quantile for the number of clusters."""
    from scipy.stats import t

    if paired and len(made) != len(real):
        raise UserError("as many made clips as real ones, in pairs", f"{len(made)} and {len(real)}")
    of_made, of_real = _influences(*_checked(made, real))
    which, alone = _which(len(real), clusters), _which(len(made), None)
    parts = [(of_made + of_real, which)] if paired else [(of_made, alone), (of_real, which)]
    units = min(int(units.max()) + 1 for _, units in parts)
    return math.sqrt(sum(_variance(*part) for part in parts)) * float(t.ppf((1 + LEVEL) / 2, units - 1))


def _influences(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the distance hangs on each clip: its change with the clip's weight, (N,) and (M,), each of mean zero."""
    x, y = _cloud(a), _cloud(b)
    u, shared, v = torch.linalg.svd(x.root @ y.root.T, full_matrices=False)
    between = x.mean - y.mean
    return _influence(x, u, shared, between), _influence(y, v.T, shared, -between)


def _influence(x: _Cloud, u: Tensor, shared: Tensor, between: Tensor) -> Tensor:
    # the singular values of D X1 X2' E, with the roots of the clips' weights in D and E, change with weight i by u_i^2 / 2 of each
    axes = u if x.basis is None else x.basis @ u
    change = 2 * (x.rows @ between) / math.sqrt(len(x.rows) - 1) + x.rows.square().sum(1) - axes.square() @ shared
    return change - change.mean()


def _variance(changes: Tensor, which: Tensor) -> float:
    units = int(which.max()) + 1
    if units < 2:
        raise UserError("at least two clusters of clips", "one")
    sums = torch.zeros(units, dtype=changes.dtype).index_add_(0, which, changes)
    return units / (units - 1) * float(sums.square().sum())


class _Cloud(NamedTuple):
    """rows: X with X' X = S, (N, F). root: the smaller of X and R, where X = Q R. basis: Q, (N, F), where R is the smaller."""

    mean: Tensor
    rows: Tensor
    root: Tensor
    basis: Tensor | None


def _cloud(features: Tensor) -> _Cloud:
    mean = features.mean(0)
    rows = (features - mean) / math.sqrt(len(features) - 1)
    if len(rows) <= rows.shape[1]:
        return _Cloud(mean, rows, rows, None)
    basis, root = torch.linalg.qr(rows)
    return _Cloud(mean, rows, root, basis)


def _which(clips: int, clusters: Tensor | None) -> Tensor:
    """The number of each clip's cluster, from 0 without a gap: (clips,) int64."""
    if clusters is None:
        return torch.arange(clips)
    if clusters.shape != (clips,):
        raise UserError(f"one cluster for each of {clips} real clips", f"shape {tuple(clusters.shape)}")
    which: Tensor = torch.unique(clusters, return_inverse=True)[1]
    return which


def _checked(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UserError("features (N, F) and (M, F)", f"shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if min(len(a), len(b)) < 2:
        raise UserError("at least two clips on either side", f"{len(a)} and {len(b)}")
    return finite(a, "features").double(), finite(b, "features").double()
