"""results.json of a run folder: read and checked, its figures sorted by protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stillmotion.core.errors import FileRefused
from stillmotion.metrics.protocols import PROTOCOLS, protocol_of

RESULTS = "results.json"
Entry = dict[str, Any]
"""A figure as it is written: {"value", "low", "high", "clips", ...}; all but the value may be lacking."""


def read_results(folder: Path) -> dict[str, Any]:
    """What results.json of the folder holds. Raises FileRefused where it is missing or no such file."""
    path = folder / RESULTS
    if not path.is_file():
        raise FileRefused(f"a finished run with {RESULTS}", f"{folder}, which has none", f"Go on with `stillmotion resume {folder}`.")
    results = read_object(path)
    figures = results.get("figures")
    if not isinstance(figures, dict) or not all(_is_figure(figure) for figure in figures.values()):
        raise FileRefused("figures by name, each with a value", f"{path}, which holds something else", _again(path))
    return results


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run folder. Raises FileRefused for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileRefused("a JSON file", f"{path}, which cannot be read: {error}", _again(path)) from error
    if not isinstance(content, dict):
        raise FileRefused("a JSON object", f"{path}, which holds something else", _again(path))
    return content


def by_protocol(results: dict[str, Any]) -> dict[str, dict[str, Entry]]:
    """Protocol -> figures, in the order of PROTOCOLS. Figures that do not name theirs, as those of older runs, go by their names."""
    judged = results.get("judge") is not None
    found: dict[str, dict[str, Entry]] = {protocol: {} for protocol in PROTOCOLS}
    for name, figure in results["figures"].items():
        found.setdefault(figure.get("protocol") or protocol_of(name, judged=judged), {})[name] = figure
    return {protocol: figures for protocol, figures in found.items() if figures}


def _is_figure(figure: Any) -> bool:
    return isinstance(figure, dict) and isinstance(figure.get("value"), int | float)


def _again(path: Path) -> str:
    return f"Remove it and run `stillmotion resume {path.parent}`, which writes it anew."
