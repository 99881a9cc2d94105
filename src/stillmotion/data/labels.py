"""Factor labels of clips from the names of their folders or files. For metrics, and for the grouping that a user asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from stillmotion.core.errors import UserError
from stillmotion.data.clipfiles import MEANT
from stillmotion.data.decode import natural


@dataclass(frozen=True)
class Labels:
    """values: factor -> class index of each clip, -1 where unknown. classes: factor -> names. unmatched: clips the pattern missed."""

    values: Mapping[str, tuple[int, ...]]
    classes: Mapping[str, tuple[str, ...]]
    unmatched: tuple[str, ...] = ()


def label(names: Sequence[str], pattern: str | None = None, labels_from: str | None = None) -> Labels:
    """Labels of the clips `names` (paths relative to the searched folder).

    pattern: regular expression with named groups, searched for in the file name without its ending; each group is a factor.
    labels_from: "folders" makes each level of parent folders a factor (`folder`, or `folder_1`, `folder_2`, ... outermost first).
    Raises UserError for a pattern that is broken, has no named group or fits no clip, and for clips without parent folders.
    """
    found: list[dict[str, str]] = [{} for _ in names]
    unmatched: tuple[str, ...] = ()
    if labels_from is not None:
        _check_source(labels_from)
        found = _from_folders(names)
    if pattern is not None:
        matches = _from_pattern(names, pattern)
        unmatched = tuple(name for name, match in zip(names, matches, strict=True) if match is None)
        found = [{**old, **(match or {})} for old, match in zip(found, matches, strict=True)]
    return _number(found, unmatched)


def _check_source(labels_from: str) -> None:
    if labels_from != "folders":
        raise UserError('labels from "folders"', repr(labels_from), "For labels from file names, give a pattern.")


def _from_folders(names: Sequence[str]) -> list[dict[str, str]]:
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    depth = max((len(parts) for parts in parents), default=0)
    if not depth:
        raise UserError("clips in sub-folders, to take labels from", "all clips in one folder", "Sort them into folders or give a pattern.")
    factors = ["folder"] if depth == 1 else [f"folder_{level + 1}" for level in range(depth)]
    return [dict(zip(factors, parts, strict=False)) for parts in parents]


def _from_pattern(names: Sequence[str], pattern: str) -> list[dict[str, str] | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError("a regular expression", f"{pattern!r} ({error})", r"For example: person-(?P<person>\d+)_(?P<action>.+)") from error
    if not compiled.groupindex:
        raise UserError("a pattern with named groups", repr(pattern), r"Name what it finds: (?P<person>\d+) instead of (\d+).")
    matches = [compiled.search(_stem(name)) for name in names]
    if names and not any(matches):
        raise UserError("a pattern that fits the file names", f"{pattern!r}, which fits none", f"The first is {_stem(names[0])!r}.")
    return [{k: v for k, v in match.groupdict().items() if v is not None} if match else None for match in matches]


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in MEANT else path.name


def _number(found: list[dict[str, str]], unmatched: tuple[str, ...]) -> Labels:
    factors = list(dict.fromkeys(factor for one in found for factor in one))
    classes = {factor: tuple(sorted({one[factor] for one in found if factor in one}, key=natural)) for factor in factors}
    values = {
        factor: tuple(classes[factor].index(one[factor]) if factor in one else -1 for one in found) for factor in factors
    }  # fmt: skip
    return Labels(values, classes, unmatched)
