"""The figures of a finished run: results.json, in the one format that all recipes share."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stillmotion import __version__
from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Model, Swaps
from stillmotion.data.base import Splits
from stillmotion.metrics.figure import Figure, Figures, mean
from stillmotion.metrics.protocols import READERS
from stillmotion.metrics.published import data_of, published
from stillmotion.metrics.quality import psnr
from stillmotion.metrics.results import RESULTS, Entry, read_results
from stillmotion.recipes.bench import Bench, some
from stillmotion.recipes.held_out import clips_sha256, clusters_of, held_out
from stillmotion.recipes.measures import MEASURES
from stillmotion.recipes.readers import readers
from stillmotion.tasks.codes import decode, encode
from stillmotion.training.checkpoints import write_text
from stillmotion.training.settings import Run

MOST_CLIPS = 600


def write_results(folder: Path, run: Run, model: Model, data: Splits, seconds: float) -> Path:
    """Computes the figures that need no judge, on clips that were not trained on, and writes them with how they came about.

    What `stillmotion evaluate` has found of this model stays, and so does the hash of the clips that were held out first: where they
    are others now it warns. Raises FileRefused for a results.json that cannot be read.
    """
    begun = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    before = read_results(folder) if (folder / RESULTS).is_file() else {}
    measured = before["figures"] if before.get("evaluation") else {}
    clips = clips_sha256(data)
    warn_of_other_clips(folder, before.get("clips_sha256"), clips)
    results = {
        "recipe": run.recipe,
        "command": begun["command"],
        "commit": begun.get("commit"),
        "minutes": round(seconds / 60, 2),
        "machine": machine(),
        "seeds": [run.seed],
        "clips_sha256": before.get("clips_sha256") or clips,
        "judge": before.get("judge"),
        "evaluation": before.get("evaluation"),
        "figures": {**figures(run, model, data), **measured},
    }
    return write(folder, results)


def warn_of_other_clips(folder: Path, then: str | None, now: str) -> None:
    """Warns where the hash of the held-out clips is known and no longer the same."""
    if then is not None and then != now:
        said = f"the held-out clips of {folder} are not those of its training: their files, lengths or labels have changed since"
        warnings.warn(f"{said}. The model may have been trained on some of them.", stacklevel=3)


def write(folder: Path, results: dict[str, Any]) -> Path:
    """Writes results.json, whole or not at all."""
    write_text(folder / RESULTS, json.dumps(results, indent=1))
    return folder / RESULTS


def figures(run: Run, model: Model, data: Splits) -> dict[str, Entry]:
    """Every figure that needs no judge, by name."""
    found = entries(dict(_reconstruction(model, data, run.seed)), run, "reconstruction")
    if not len(data.test) and not len(data.validation):
        return found
    bench = Bench(model, small(data, run.seed), moving=data.train.moving, seed=run.seed)
    for name in ("leakage of means", "leakage of samples"):
        if not MEASURES[name].lacking(bench):
            found |= entries(MEASURES[name].take(bench), run, MEASURES[name].protocol)
    return found | (_read(run, model, data) if isinstance(model, Swaps) else {})


def _read(run: Run, model: Model, data: Splits) -> dict[str, Entry]:
    """What pixels tell; of another split than the figures beside it, each entry names it."""
    split, found = readers(run, model, data)
    told = {} if split == held_out(data).split else {"split": split}
    return {name: entry | told for name, entry in entries(found, run, READERS).items()}


def small(data: Splits, seed: int) -> Splits:
    """At most 600 clips of each split, drawn."""
    draw = torch.Generator().manual_seed(seed)
    return Splits(*(some(part, MOST_CLIPS, draw) for part in data))


def entries(found: Figures, run: Run, protocol: str) -> dict[str, Entry]:
    """Figures as they are written: {"value", "low", "high", "clips", "paper", "protocol"}.

    paper: what was published of the same model under the same protocol on the same data.
    """
    rows = published(protocol, data_of(run.data.name, run.data.options))
    papers = [row.figures for row in rows if row.method.lower() == run.model.name]
    return {
        name: entry(figure) | {"paper": next((paper[name] for paper in papers if name in paper), None), "protocol": protocol}
        for name, figure in found.items()
    }


def entry(figure: Figure) -> Entry:
    """A figure as it is written, rounded: {"value", "low", "high", "clips"}."""
    rounded = {name: round(value, 5) for name, value in asdict(figure).items() if name != "clips"}
    return {**rounded, "clips": figure.clips}


def _reconstruction(model: Model, data: Splits, seed: int) -> Iterator[tuple[str, Figure]]:
    """PSNR in dB of validation and test clips, through the poses of single frames and through the whole sequence model."""
    noise = torch.Generator().manual_seed(seed)
    able = {"sequence": Encodes, "poses": EncodesFrames}
    ways = [way for way, ability in able.items() if isinstance(model, ability) and isinstance(model, Decodes)]
    for split, clips in (("validation", data.validation.spread(MOST_CLIPS)), ("test", data.test.spread(MOST_CLIPS))):
        for way in ways if len(clips) else ():
            codes = encode(model, clips, poses=way == "poses")
            parts = torch.split(torch.arange(len(clips)), 64)
            values = torch.cat([psnr(decode(model, codes[k]), clips.clips(k).frames, clips.clips(k).mask) for k in parts])
            yield f"psnr_{way}_{split}", mean(values, noise, clusters_of(data.train, clips, data.train.moving))


def machine() -> dict[str, Any]:
    """What the figures were computed on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"stillmotion": __version__, "torch": torch.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("numpy", "scipy", "scikit-learn")}
    return {"cores": os.cpu_count(), "gpu": gpu, "versions": versions}


def commit() -> str | None:
    """The commit of the checkout that runs, None outside one."""
    command: Sequence[str] = ("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
