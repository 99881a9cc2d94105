"""Judges at rest: a folder like a model's, with how good the judge is beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

from stillmotion.core.registry import JUDGES
from stillmotion.metrics.judge import Judge
from stillmotion.models.files import CONFIG, INNER, load


class LoadedJudge(NamedTuple):
    """judge: in evaluation mode, on the CPU. facts: accuracy and calibration by factor, data, seed, ... sha256: of its weights."""

    judge: Judge
    facts: dict[str, Any]
    sha256: str


def load_judge(folder: Path | str) -> LoadedJudge:
    """The judge of a folder that `stillmotion judge train` made. Raises FileRefused as `models.files.load` does, for a model too."""
    from json import loads

    loaded = load(folder, JUDGES)
    path = next(path for path in (Path(folder) / CONFIG, Path(folder) / INNER / CONFIG) if path.is_file())
    return LoadedJudge(cast(Judge, loaded.model), loaded.facts, loads(path.read_text(encoding="utf-8"))["sha256"])
