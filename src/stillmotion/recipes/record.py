"""What results.json keeps of earlier evaluations beside a new one, and under which circumstances each protocol was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stillmotion.metrics.protocols import READERS, needs_judge
from stillmotion.metrics.results import Entry, by_protocol

ALWAYS = (READERS, "reconstruction")
"""Protocols whose figures are the same whoever judges and whatever is said to move."""
RENAMED = tuple(map(re.compile, (r"probe_|chance_|leak_", r"frechet_judge_(\w+_)?floor$", r"frechet_kinetics_(\w+_)?floor$")))
"""Kinds of figures that are always measured all together: beside new ones an old one tells of the same under a wrong name."""


class Circumstances(NamedTuple):
    """What figures depend on.

    moving: the factors that are said to move. by_nature: those that the data set says move, by which figures of the training are named.
    judge: its hash, None without one. clips: the hash of those measured.
    """

    moving: tuple[str, ...]
    by_nature: tuple[str, ...]
    judge: str | None
    clips: str


class Kept(NamedTuple):
    """dropped: reason -> names."""

    figures: dict[str, Entry]
    dropped: dict[str, list[str]]


def still_true(before: Mapping[str, Any], now: Circumstances, found: Mapping[str, Entry]) -> Kept:
    """The figures from before that may stand beside those found now, each with its protocol, and why others may not."""
    kept = Kept({}, {})
    for protocol, figures in by_protocol(dict(before)).items():
        for name, figure in figures.items():
            reason = _outdated(before, now, protocol, name) or _renamed(name, found)
            if not reason:
                kept.figures[name] = {**figure, "protocol": protocol}
            elif name not in found:
                kept.dropped.setdefault(reason, []).append(name)
    return kept


def _outdated(before: Mapping[str, Any], now: Circumstances, protocol: str, name: str) -> str:
    last = before["evaluation"] or {}
    moved = last.get("moving", now.by_nature)
    if protocol in ALWAYS:
        return ""
    if set(moved) != set(now.moving):
        return f"measured when {', '.join(moved) or 'nothing'} was said to move"
    if (last.get("data") or {}).get("clips_sha256", now.clips) != now.clips:
        return "measured of other clips"
    if now.judge is not None and needs_judge(name) and (before["judge"] or {}).get("sha256") != now.judge:
        return "seen by another judge"
    return ""


def _renamed(name: str, found: Mapping[str, Entry]) -> str:
    kinds = [kind for kind in RENAMED if kind.match(name)]
    new = any(kind.match(other) for kind in kinds for other in found)
    return "measured anew under another name" if new and name not in found else ""


def records(before: Mapping[str, Any], kept: Kept, new: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Protocol -> how it was last measured; of the protocols not measured now, those of which a figure or a reason is left."""
    had, has = by_protocol(dict(before)), {figure["protocol"] for figure in kept.figures.values()}
    old = (before["evaluation"] or {}).get("protocols") or {}
    return {**{protocol: told for protocol, told in old.items() if protocol in has or protocol not in had}, **new}


def left_out(told: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Why measures were not taken, of all protocols."""
    return {name: reason for record in told.values() for name, reason in record["skipped"].items()}


def tables_of(before: Mapping[str, Any], kept: Iterable[str]) -> dict[str, Any]:
    """The tables from before of whose figures one is left."""
    tables = (before["evaluation"] or {}).get("tables") or {}
    return {name: table for name, table in tables.items() if f"{name}_accuracy" in kept}
