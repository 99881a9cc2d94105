"""What an evaluation found, as tables for the page: one per protocol, the judge that saw the clips, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stillmotion.metrics.protocols import OTHER, PROTOCOLS, needs_judge, shown, symbol
from stillmotion.metrics.published import Row, data_of, published, sources
from stillmotion.metrics.results import Entry, by_protocol

LONG = 24
MOST_CLASSES = 12


@dataclass(frozen=True)
class Line:
    """A figure: its texts, and those of the published methods, in the order of the table's `methods`."""

    name: str
    value: str
    unit: str
    interval: str
    clips: str
    published: tuple[str, ...]


@dataclass(frozen=True)
class ProtocolTable:
    """judged: whether the judge saw any of the clips. sources: where the published numbers are from."""

    title: str
    words: str
    judged: bool
    methods: tuple[str, ...]
    lines: tuple[Line, ...]
    sources: tuple[str, ...]

    @property
    def long(self) -> bool:
        """Whether the page shows it folded."""
        return len(self.lines) > LONG


@dataclass(frozen=True)
class Head:
    """How good the judge is at one factor on real clips that it never saw; texts, empty where not known."""

    factor: str
    accuracy: str
    interval: str
    clips: str
    ece: str
    nll: str


@dataclass(frozen=True)
class JudgeFacts:
    """sha256: the first letters of the hash of its weights. other_split: it may have been trained on clips that it judged here."""

    folder: str
    sha256: str
    data: str
    other_split: bool
    heads: tuple[Head, ...]


@dataclass(frozen=True)
class ClassTable:
    """Swaps of one factor by classes. rows: (the movement's class, (text, shade from 0 to 1) of each of the identity's classes)."""

    factor: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]


@dataclass(frozen=True)
class Evaluation:
    """facts: names and values. skipped: what was not measured, and why. judge: None where none was needed."""

    facts: tuple[tuple[str, str], ...]
    command: str
    judge: JudgeFacts | None
    tables: tuple[ProtocolTable, ...]
    skipped: tuple[tuple[str, str], ...]
    swaps: tuple[ClassTable, ...]


def evaluation(results: dict[str, Any] | None) -> Evaluation | None:
    """The evaluation in what results.json holds, None for a run that was never evaluated."""
    found = (results or {}).get("evaluation")
    if results is None or not found:
        return None
    data = found.get("data") or {}
    tables = tuple(_table(protocol, figures, data) for protocol, figures in by_protocol(results).items())
    skipped = tuple((name.replace("_", " "), str(reason)) for name, reason in (found.get("skipped") or {}).items())
    judge, command = judge_facts(results.get("judge")), str(found.get("command") or "")
    return Evaluation(tuple(_facts(found)), command, judge, tables, skipped, tuple(_class_tables(found.get("tables") or {})))


def judge_facts(judge: dict[str, Any] | None) -> JudgeFacts | None:
    """The judge's own record as texts."""
    if judge is None:
        return None
    calibration = judge.get("calibration") or {}
    heads = tuple(_head(factor, found, calibration.get(factor) or {}) for factor, found in (judge.get("accuracy") or {}).items())
    folder, sha256, data = str(judge.get("folder") or ""), str(judge.get("sha256") or "")[:12], _data_words(judge.get("data") or {})
    return JudgeFacts(folder, sha256, data, bool(judge.get("other_split")), heads)


def _class_tables(tables: dict[str, Any]) -> Iterator[ClassTable]:
    """The tables of swaps by classes; those of many classes are not for people."""
    for name, table in tables.items():
        classes = tuple(str(name) for name in table.get("classes") or ())
        if name.startswith("swap_") and 1 < len(classes) <= MOST_CLASSES:
            rows = (tuple(_cell(value) for value in row) for row in table["accuracy"])
            yield ClassTable(name.removeprefix("swap_").replace("_", " "), classes, tuple(zip(classes, rows, strict=True)))


def _cell(share: float | None) -> tuple[str, float]:
    return ("–", 0.0) if share is None else (f"{100 * share:.0f}", share)


def _table(protocol: str, figures: dict[str, Entry], data: dict[str, Any]) -> ProtocolTable:
    title, words = PROTOCOLS.get(protocol, PROTOCOLS[OTHER])
    theirs = published(protocol, data_of(str(data.get("name", "")) or "unknown", data.get("options") or {}))
    beside = [row for row in theirs if row.figures.keys() & figures.keys()]
    methods = tuple(dict.fromkeys(row.method for row in beside))
    lines = tuple(_line(name, figure, methods, beside) for name, figure in figures.items())
    return ProtocolTable(title, words, any(map(needs_judge, figures)), methods, lines, tuple(sources(beside)))


def _line(name: str, figure: Entry, methods: tuple[str, ...], rows: list[Row]) -> Line:
    values = {row.method: row.figures[name] for row in rows if name in row.figures}
    beside = tuple(shown(name, values.get(method), digits=2) for method in methods)
    return Line(name, shown(name, figure["value"]), symbol(name), _interval(name, figure), _count(figure), beside)


def _head(factor: str, accuracy: Entry, calibration: dict[str, Any]) -> Head:
    ece, nll = (calibration.get(key) for key in ("ece", "nll"))
    # two decimals: a judge worth asking is right in more than 99 %
    value, low, high = ("" if accuracy.get(key) is None else f"{100 * float(accuracy[key]):.2f}" for key in ("value", "low", "high"))
    return Head(
        factor.replace("_", " "), value, f"{low} – {high}" if low and high else "", _count(accuracy),
        "" if ece is None else f"{float(ece):.4f}", "" if nll is None else f"{float(nll):.4f}",
    )  # fmt: skip


def _interval(name: str, figure: Entry) -> str:
    low, high = figure.get("low"), figure.get("high")
    return "" if low is None or high is None else f"{shown(name, low)} – {shown(name, high)}"


def _count(figure: Entry) -> str:
    clips = figure.get("clips")
    return f"{clips:,}" if isinstance(clips, int) else ""


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the figures come from, for the line under the heading."""
    clips, minutes, commit = found.get("clips"), found.get("minutes"), found.get("commit")
    facts = [
        ("data", _data_words(found.get("data") or {})), ("split", str(found.get("split") or "")),
        ("clips", f"{clips:,}" if isinstance(clips, int) else ""), ("seed", "" if found.get("seed") is None else str(found["seed"])),
        ("minutes", f"{minutes:.1f}" if isinstance(minutes, int | float) else ""), ("commit", str(commit or "")[:12]),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def _data_words(data: dict[str, Any]) -> str:
    options = ", ".join(f"{name} {value}" for name, value in (data.get("options") or {}).items())
    name = str(data.get("name") or "")
    return f"{name}, {options}" if name and options else name
