"""Swaps: the identity of one clip with the movement of another, and what the judge sees in the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.accuracy import judged, right
from stillmotion.metrics.figure import Figure, Figures, bootstrap, share
from stillmotion.metrics.judge import Verdicts


def plan_pairs(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Ordered pairs (identity clip, movement clip) of `count` clips, (P, 2) int64: all of them where they are at most `most`.

    Otherwise whole rounds, as many as fit. The clips stand on a ring in random order, and one round pairs each with those at one
    distance on either side, every round at another distance. So no pair comes twice, none is of a clip with itself, each comes in
    both orders, and every clip lends its identity as often as its movement. A round has 2 * count pairs, and count where the
    distance is half the ring. At least one round is made, the shortest one, even where that is more than `most`: no clip is left
    out. Raises UserError for fewer than two clips.
    """
    if count < 2 or most < 1:
        raise UserError("at least two clips to swap, and at least one pair", f"{count} clips and {most} pairs")
    if count * (count - 1) <= most:
        return (~torch.eye(count, dtype=torch.bool)).nonzero()
    ring = torch.randperm(count, generator=generator)
    distances = 1 + torch.randperm((count - 1) // 2, generator=generator)[: max(most // (2 * count), count % 2)]
    pairs = torch.cat([torch.empty(0, 2, dtype=torch.long), *(_at(ring, int(distance)) for distance in distances)])
    pairs = torch.cat([pairs, pairs.flip(1)])
    if count % 2 == 0 and (not len(pairs) or most - len(pairs) >= count):
        pairs = torch.cat([pairs, _at(ring, count // 2)])
    return pairs


def swap_accuracy(
    verdicts: Verdicts,
    identity_labels: Mapping[str, Tensor],
    motion_labels: Mapping[str, Tensor],
    moving: tuple[str, ...],
    generator: torch.Generator,
    clusters: Tensor,
) -> Figures:
    """Share of swapped clips that show the identity's class of each static factor, and the movement's of each moving one.

    verdicts: on P swapped clips. identity_labels, motion_labels: factor -> (P,) int64 of the two clips of each pair; a pair whose
    class is unknown (-1) is left out. clusters: (P, 2) int64, the clip (the pairs themselves) or the cluster that identity and
    movement come from. Beside each factor: all static ones right at once, all moving ones, and both; those that lack a factor are
    left out. `clips` of a figure counts pairs.

    The interval resamples clips (clusters), not pairs, as every clip takes part in many: where a clip is drawn m times and another n
    times, their pair counts m * n. It is on the wide side: errors that belong to single pairs count up to 3 times in its variance.
    Raises UserError where no factor is both judged and labelled, and for verdicts that are not numbers.
    """
    if clusters.shape != (len(verdicts), 2):
        raise UserError(f"the two clips of each of {len(verdicts)} swapped ones, (P, 2)", f"shape {tuple(clusters.shape)}")
    truth = _truth(identity_labels, motion_labels, moving)
    factors = judged(verdicts, truth, [factor for factor in verdicts.logits if factor in truth])
    static, dynamic = [f for f in factors if f not in moving], [f for f in factors if f in moving]
    asked = {factor: [factor] for factor in factors}
    asked |= {"static": static} if static else {}
    asked |= {"dynamic": dynamic} if dynamic else {}
    asked |= {"both": factors} if static and dynamic else {}
    found = {}
    for name, these in asked.items():
        known = torch.stack([truth[factor] >= 0 for factor in these]).all(0)
        hits = torch.stack([right(verdicts, truth, factor) for factor in these]).all(0)
        if bool(known.any()):
            found[f"swap_{name}_accuracy"] = share_of_pairs(hits[known], clusters[known], generator)
    return found


def by_classes(
    verdicts: Verdicts, identity_labels: Mapping[str, Tensor], motion_labels: Mapping[str, Tensor], factor: str, moving: tuple[str, ...]
) -> Tensor:
    """Accuracy of `factor` for every ordered pair of classes, (K, K) float64: row = the movement's class, column = the identity's.

    As in `swap_accuracy` the movement's class is the right one for a moving factor, the identity's for a static one. NaN where there
    is no pair. Raises UserError where the factor is not both judged and labelled.
    """
    truth = _truth(identity_labels, motion_labels, moving)
    judged(verdicts, truth, [factor])
    classes = verdicts.logits[factor].shape[1]
    identity, motion = identity_labels[factor], motion_labels[factor]
    both = (identity >= 0) & (motion >= 0)
    cell = (motion * classes + identity)[both]
    hits = right(verdicts, truth, factor)[both].double()
    found: Tensor = torch.bincount(cell, hits, classes**2) / torch.bincount(cell, minlength=classes**2)
    return found.view(classes, classes)


def _at(ring: Tensor, distance: int) -> Tensor:
    """Each clip with the one that stands `distance` further on, (N, 2)."""
    return torch.stack([ring, ring.roll(-distance)], 1)


def _truth(identity: Mapping[str, Tensor], motion: Mapping[str, Tensor], moving: tuple[str, ...]) -> dict[str, Tensor]:
    """What a perfect swap shows, factor by factor."""
    static = {factor: labels for factor, labels in identity.items() if factor not in moving}
    return static | {factor: labels for factor, labels in motion.items() if factor in moving}


def share_of_pairs(hits: Tensor, clusters: Tensor, generator: torch.Generator) -> Figure:
    units, which = torch.unique(clusters, return_inverse=True)
    first, second = which.unbind(1)
    if bool(hits.all()) or not bool(hits.any()):
        # every resample says the same: the open end is for as many clips as there are on the side that has fewer
        return share(hits, generator, min(first, second, key=lambda side: len(set(side.tolist()))))

    def weighted(index: Tensor) -> float:
        times = torch.bincount(index, minlength=len(units)).double()
        # two clips of one cluster are drawn together, once each time that the cluster is
        weights = torch.where(first == second, times[first], times[first] * times[second])
        return float((weights @ hits.double()) / weights.sum())

    return replace(bootstrap(weighted, len(units), generator), clips=len(hits))
