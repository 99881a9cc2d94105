"""What every measure of pooled codes needs: the clips that count, the dimensions that carry something, and mutual information."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import finite

BINS = 20
"""Of equal width between a dimension's least and greatest value, as in the usual implementations of the benchmark."""
ROUNDING = 1e-6
"""A spread below this share of a dimension's magnitude is rounding of float32."""


class Pool(NamedTuple):
    """N clips with at least one known label. codes: (N, D) float64. factors: name -> (N,) int64, -1 unknown. clusters: (N,) or none."""

    codes: Tensor
    factors: dict[str, Tensor]
    clusters: Tensor | None


def pool(codes: Tensor, factors: Mapping[str, Tensor], clusters: Tensor | None = None, dimensions: int = 1, least_factors: int = 1) -> Pool:
    """The clips of (N, D) codes that have a label, checked.

    Raises UserError for codes that are not a table of finite numbers with `dimensions` columns or more, for fewer factors than
    `least_factors`, for labels or clusters of another number of clips, and for a factor with fewer than two known classes.
    """
    if codes.ndim != 2 or codes.shape[1] < dimensions:
        raise UserError(f"codes (clips, dimensions) of at least {dimensions} dimensions", f"{tuple(codes.shape)}", "Pool codes over time.")
    if len(factors) < least_factors:
        raise UserError(f"at least {least_factors} labelled factors", ", ".join(factors) or "none", "Choose data with more labels.")
    for name, values in {**factors, **({} if clusters is None else {"clusters": clusters})}.items():
        if values.shape != codes.shape[:1]:
            raise UserError(f"{name} of {len(codes)} clips", f"{tuple(values.shape)}", "Give one entry per clip.")
    for name, labels in factors.items():
        _check_classes(name, labels)
    there = torch.stack([labels >= 0 for labels in factors.values()]).any(0)
    kept = {name: labels[there] for name, labels in factors.items()}
    return Pool(finite(codes[there], "codes").double(), kept, None if clusters is None else clusters[there])


def both_pools(
    codes: Tensor,
    factors: Mapping[str, Tensor],
    held_out: Tensor,
    held_out_factors: Mapping[str, Tensor],
    clusters: Tensor | None = None,
    dimensions: int = 1,
    least_factors: int = 1,
) -> tuple[Pool, Pool]:
    """Training clips and held-out clips (to which `clusters` belongs), checked as in `pool`.

    Raises UserError where their code dimensions or their factors differ as well.
    """
    if codes.shape[1:] != held_out.shape[1:]:
        raise UserError(f"held-out codes of the shape (clips, {codes.shape[-1]})", f"{tuple(held_out.shape)}", "Use one model for both.")
    if factors.keys() != held_out_factors.keys():
        raise UserError(f"held-out labels of {', '.join(factors)}", ", ".join(held_out_factors) or "none", "Label both parts alike.")
    held = {name: held_out_factors[name] for name in factors}
    return pool(codes, factors, None, dimensions, least_factors), pool(held_out, held, clusters, dimensions, least_factors)


def active(codes: Tensor) -> Tensor:
    """Which dimensions of (N, D) codes differ between clips by more than rounding: (D,) bool. Others have collapsed."""
    spread = codes.amax(0) - codes.amin(0)
    moving: Tensor = spread > ROUNDING * codes.abs().amax(0)
    return moving


def levels(codes: Tensor) -> Tensor:
    """(N, D) codes as the number of the bin of each, 0 to BINS - 1, int64; collapsed dimensions are all in bin 0."""
    low, high = codes.amin(0), codes.amax(0)
    width = (high - low).clamp(min=torch.finfo(codes.dtype).tiny)
    binned = ((codes - low) / width * BINS).long().clamp(max=BINS - 1)
    return binned * active(codes)


def entropy(labels: Tensor) -> float:
    """Plug-in entropy in nats of (N,) int64, without the unknown (-1)."""
    return float(_entropies(torch.bincount(labels[labels >= 0])[None])[0])


def mutual_information(binned: Tensor, labels: Tensor) -> Tensor:
    """Plug-in mutual information in nats between each dimension of (N, D) `levels` and (N,) int64 labels: (D,) float64.

    Clips of unknown label (-1) are left out. For independent variables the plug-in estimate is not 0 but, on average, about
    (BINS - 1) * (classes - 1) / (2 N) (Miller 1955).
    """
    binned, labels = binned[labels >= 0], labels[labels >= 0]
    dimensions, classes = binned.shape[1], int(labels.max()) + 1 if len(labels) else 1
    cell = (torch.arange(dimensions) * BINS + binned) * classes + labels[:, None]
    joint = torch.bincount(cell.flatten(), minlength=dimensions * BINS * classes).view(dimensions, BINS, classes)
    shared = _entropies(joint.sum(2)) + _entropies(joint.sum(1)) - _entropies(joint.flatten(1))
    return shared.clamp(min=0)


def _entropies(counts: Tensor) -> Tensor:
    share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    summed: Tensor = torch.special.entr(share).sum(1)
    return summed


def _check_classes(name: str, labels: Tensor) -> None:
    classes = len(labels[labels >= 0].unique())  # type: ignore[no-untyped-call]
    if classes < 2:
        remedy = "Use more clips, or leave this factor out."
        raise UserError(f"clips of at least two classes of {name}", f"{classes} in {len(labels)} clips", remedy)
