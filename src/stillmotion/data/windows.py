"""Windows of equal length from clips of any length, and which of them train, validate and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from stillmotion.core.errors import UserError
from stillmotion.data.labels import Labels


@dataclass(frozen=True)
class HoldOut:
    """What is kept from training.

    validation, test: fractions of the clips, whole clips chosen by seed.
    tail: instead of whole clips for validation, this last fraction of the frames of every training clip.
    clip_per: instead of a fraction for test, one clip of each class of this factor, chosen by seed.
    pairs: instead of a fraction for test, the clips with all labels of one of these, as {"person": "3", "action": "bend"}.
    Raises UserError for a fraction out of range.
    """

    validation: float = 0.1
    test: float = 0.1
    tail: float = 0.0
    clip_per: str | None = None
    pairs: Sequence[Mapping[str, str]] = ()

    def __post_init__(self) -> None:
        for name in ("validation", "test", "tail"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"a {name} fraction of at least 0 and below 1", f"{getattr(self, name)}")
        if self.validation + self.test >= 1:
            raise UserError("validation and test fractions that sum to less than 1", f"{self.validation} + {self.test}")


def parse_pairs(text: str) -> dict[str, str]:
    """The labels in a text such as "person=3,action=bend". Raises UserError for a text of another form."""
    parts = [part.split("=", 1) for part in text.split(",")]
    if not all(len(part) == 2 and part[0].strip() and part[1].strip() for part in parts):
        raise UserError("factor=class, several joined by commas", repr(text), "For example: person=3,action=bend")
    return {factor.strip(): name.strip() for factor, name in parts}


class Window(NamedTuple):
    """Frames [start, start + length) of clip number `source`, counted within the clip."""

    source: int
    start: int
    length: int


@dataclass
class Plan:
    """Windows by split, and remarks on how they were chosen."""

    train: list[Window] = field(default_factory=list)
    validation: list[Window] = field(default_factory=list)
    test: list[Window] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def cut(length: int, steps: int, hop: int) -> list[tuple[int, int]]:
    """(start, length) of windows that cover a stretch of `length` frames: every `hop` frames, the last one flush with the end.

    A stretch no longer than `steps` is one window.
    """
    if length <= steps:
        return [(0, length)] if length else []
    starts = list(range(0, length - steps + 1, hop))
    if starts[-1] != length - steps:
        starts.append(length - steps)
    return [(start, steps) for start in starts]


def plan(lengths: Sequence[int], labels: Labels, steps: int, hop: int, hold_out: HoldOut, seed: int = 0) -> Plan:
    """Windows of clips with `lengths` frames: every `hop` frames to train, every half window in what is held out.

    No frame is in windows of two splits, and every frame is in a window. Where there are too few clips to hold out whole ones,
    the ends of all clips are held out instead, and `notes` says so.
    Raises UserError for a window or hop out of range, for factors and classes that are not there, and where nothing is left to train.
    """
    if steps < 2:
        raise UserError("windows of 2 frames or more", f"{steps}", "A clip of one frame has no movement.")
    if not 1 <= hop <= steps:
        raise UserError(f"a hop from 1 to the window's {steps} frames", f"{hop}")
    result = Plan()
    generator = torch.Generator().manual_seed(seed)
    tests = _chosen(len(lengths), labels, hold_out, generator)
    rest = [source for source in torch.randperm(len(lengths), generator=generator).tolist() if source not in tests]
    if not rest:
        raise UserError("a clip left to train on", "all clips held out", "Hold out fewer.")
    by_clip = {
        "test": 0.0 if hold_out.clip_per or hold_out.pairs else hold_out.test,
        "validation": 0.0 if hold_out.tail else hold_out.validation,
    }  # fmt: skip
    tails = {"validation": hold_out.tail, "test": 0.0}
    if len(rest) < 1 + sum(fraction > 0 for fraction in by_clip.values()):
        tails = {name: fraction + by_clip[name] for name, fraction in tails.items()}
        by_clip = dict.fromkeys(by_clip, 0.0)
        result.notes.append(f"too few clips ({len(rest)}) to hold out whole ones: the last frames of each are held out instead")
    held = {"test": tests, "validation": set[int]()}
    for name, fraction in by_clip.items():
        count = max(1, round(fraction * len(rest))) if fraction else 0
        held[name] = held[name] | set(rest[:count])
        rest = rest[count:]
    for source, length in enumerate(lengths):
        _place(result, source, length, held, tails, steps, hop)
    return result


def _place(result: Plan, source: int, length: int, held: dict[str, set[int]], tails: dict[str, float], steps: int, hop: int) -> None:
    half = max(1, steps // 2)
    whole = next((name for name, sources in held.items() if source in sources), None)
    if whole:
        getattr(result, whole).extend(Window(source, *window) for window in cut(length, steps, half))
        return
    ends = {name: _tail(length, fraction) for name, fraction in tails.items()}
    if length - sum(ends.values()) < 2:
        ends = dict.fromkeys(ends, 0)
    start = length - sum(ends.values())
    result.train.extend(Window(source, *window) for window in cut(start, steps, hop))
    for name, end in ends.items():
        getattr(result, name).extend(Window(source, start + first, size) for first, size in cut(end, steps, half))
        start += end


def _tail(length: int, fraction: float) -> int:
    """Frames held out at the end: none rather than a single one, which would show no movement."""
    frames = round(length * fraction)
    return frames if frames > 1 else 0


def _chosen(count: int, labels: Labels, hold_out: HoldOut, generator: torch.Generator) -> set[int]:
    """The clips that are held out by their labels."""
    chosen = {source for pair in hold_out.pairs for source in _with_labels(count, labels, pair)}
    if hold_out.clip_per:
        values = _values(labels, hold_out.clip_per)
        for number in range(len(labels.classes[hold_out.clip_per])):
            members = [source for source in range(count) if values[source] == number]
            chosen.add(members[int(torch.randint(len(members), (1,), generator=generator))])
    return chosen


def _with_labels(count: int, labels: Labels, pair: Mapping[str, str]) -> list[int]:
    wanted = {factor: _class(labels, factor, name) for factor, name in pair.items()}
    found = [source for source in range(count) if all(labels.values[factor][source] == number for factor, number in wanted.items())]
    if not found:
        got = ", ".join(f"{factor}={name}" for factor, name in pair.items())
        raise UserError("labels that some clip has, to hold it out", got, "No clip has them all.")
    return found


def _values(labels: Labels, factor: str) -> tuple[int, ...]:
    if factor not in labels.values:
        known = ", ".join(labels.values) or "none: give a pattern, or take labels from folders"
        raise UserError("a factor that the clips have labels for", repr(factor), f"Known: {known}.")
    return labels.values[factor]


def _class(labels: Labels, factor: str, name: str) -> int:
    _values(labels, factor)
    if name not in labels.classes[factor]:
        raise UserError(f"a class of {factor}", repr(name), f"Known: {', '.join(labels.classes[factor])}.")
    return labels.classes[factor].index(name)
