"""A tiny finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stillmotion.models import files

MODEL = {
    "size": 16, "static": 4, "pose": 4, "dynamic": 4, "encoder_channels": (4, 4, 16), "decoder_channels": (8, 8), "rnn_layers": 1,
    "rnn_size": 8,
}  # fmt: skip
RUN = {
    "recipe": "vdsm/pendula", "seed": 3, "precision": "float32",
    "data": {"name": "pendula", "options": {"clips": 28, "validation": 14, "test": 14, "size": 16, "steps": 6}},
    "model": {"name": "vdsm", "options": MODEL},
    "stages": [
        {"name": "poses", "objective": "poses", "trains": ["encoder", "decoder", "heads"], "steps": 30},
        {"name": "sequence", "trains": ["sequence"], "steps": 20},
    ],
}  # fmt: skip
COMMAND = "stillmotion train pendula --frame-size 16"


def rows() -> list[dict[str, Any]]:
    """Two stages; the second has a term of its own, the first a schedule that weighs none."""
    found: list[dict[str, Any]] = []
    for step in (10, 20, 30, 40, 50):
        first = step <= 30
        terms = {"reconstruction": 4000.0 / step, "static_kl": 1.0 + step / 10, "total": 4000.0 / step + 1 + step / 10}
        extra = {} if first else {"dynamic_kl": 7.5}
        weights = {"static_kl": step / 50, **({"temperature": 2.0} if first else {"dynamic_kl": 0.5})}
        row = {"step": step, "stage": "poses" if first else "sequence", "split": "train", "terms": terms | extra, "weights": weights}
        found.append(row | {"lr": 0.01 / step, "seconds": float(step), "clips": 8})
        if step in (30, 50):
            found.append(row | {"split": "validation", "terms": {name: value + 1 for name, value in (terms | extra).items()}})
    return found


def figure(value: float, low: float, high: float, clips: int = 14) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "clips": clips, "paper": None}


RESULTS: dict[str, Any] = {
    "recipe": "vdsm/pendula", "command": COMMAND, "commit": None, "minutes": 6.2, "seeds": [3], "judge": None,
    "machine": {"cores": 2, "gpu": None, "versions": {}},
    "figures": {
        "psnr_sequence_test": figure(26.5, 26.1, 26.9), "psnr_poses_test": figure(27.0, 26.8, 27.2),
        "swap_static_accuracy": figure(0.98, 0.96, 0.99, 500), "swap_action_accuracy": figure(0.5, 0.45, 0.55, 500),
        "chance_colour": figure(0.14, 0.1, 0.2),
        "probe_static_colour_mean": figure(0.97, 0.9, 0.99), "probe_static_colour_sample": figure(0.9, 0.8, 0.95),
        "probe_dynamic_colour_mean": figure(0.2, 0.1, 0.3), "probe_dynamic_colour_sample": figure(0.15, 0.1, 0.2),
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that tests only read."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"command": COMMAND, "run": RUN}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    files.save(files.build("vdsm", MODEL, seed=3), folder / files.INNER, steps=6)
    return folder


@pytest.fixture
def run_folder(finished_folder: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(finished_folder, tmp_path / "tiny"))
