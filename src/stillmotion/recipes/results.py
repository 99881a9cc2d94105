"""The figures of a finished run: results.json, in the one format that all recipes share."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillmotion import __version__
from stillmotion.core.abilities import Model
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.borders import border_colour, nearer_to_first
from stillmotion.metrics.probes import linear_probe
from stillmotion.metrics.quality import psnr
from stillmotion.tasks.clips import swap
from stillmotion.tasks.codes import decode, encode
from stillmotion.training.checkpoints import write_text
from stillmotion.training.settings import Run

RESULTS = "results.json"
MOST_CLIPS = 600
SWAPS = 500
BORDERS_DIFFER = 0.04
Figure = dict[str, Any]


def write_results(folder: Path, run: Run, model: Model, data: Splits, seconds: float) -> Path:
    """Computes the figures that the data allows, on clips that were not trained on, and writes them with how they came about."""
    begun = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    results = {
        "recipe": run.recipe, "command": begun["command"], "commit": begun["commit"],
        "minutes": round(seconds / 60, 2), "machine": machine(),
        "seeds": [run.seed], "judge": None, "figures": figures(run, model, data),
    }
    write_text(folder / RESULTS, json.dumps(results, indent=1))
    return folder / RESULTS


def figures(run: Run, model: Model, data: Splits) -> dict[str, Figure]:
    """Every figure by name, each {"value", "low", "high", "clips", "paper"}; low and high bound a 95 % interval."""
    found = dict(_reconstruction(model, data))
    held = data.test if len(data.test) else data.validation
    if not len(held):
        return found
    found |= dict(_probes(model, data.train.spread(MOST_CLIPS), held.spread(MOST_CLIPS), run.seed))
    if run.data.name == "pendula":
        found |= dict(_pendula(model, held, run.seed))
    if run.data.name == "videos":
        found |= dict(_borders(model, data.validation if len(data.validation) else held))
    return found


def _reconstruction(model: Model, data: Splits) -> Iterator[tuple[str, Figure]]:
    """PSNR in dB of validation and test clips, through the poses of single frames and through the whole sequence model."""
    for split, clips in (("validation", data.validation.spread(MOST_CLIPS)), ("test", data.test.spread(MOST_CLIPS))):
        if not len(clips):
            continue
        real = clips.clips()
        for way in ("sequence", "poses"):
            decoded = decode(model, encode(model, clips, poses=way == "poses"))
            yield f"psnr_{way}_{split}", average(psnr(decoded, real.frames, real.mask))


def _probes(model: Model, train: ClipSet, held: ClipSet, seed: int) -> Iterator[tuple[str, Figure]]:
    """Linear probes of both codes for every factor, on posterior means and on posterior samples, and the share of the largest class."""
    fitted, judged = encode(model, train), encode(model, held)
    for factor in held.labels:
        labels = train.labels[factor]
        # nothing can be told of classes that no training clip has, such as a character that is held out as a whole
        held_labels = torch.where(torch.isin(held.labels[factor], labels), held.labels[factor], -1)
        known = held_labels[held_labels >= 0]
        if len(torch.unique(labels[labels >= 0])) < 2 or not len(known):
            continue
        yield f"chance_{factor}", proportion(known == known.mode().values)
        for code, way in product(("static", "dynamic"), ("mean", "sample")):
            pair = [_code(codes, code, way, seed + k) for k, codes in enumerate((fitted, judged))]
            if pair[0] is not None and pair[1] is not None:
                probe = linear_probe(pair[0], labels, pair[1], held_labels)
                yield f"probe_{code}_{factor}_{way}", proportion(torch.arange(probe.clips) < round(probe.accuracy * probe.clips))


def _pendula(model: Model, clips: ClipSet, seed: int) -> Iterator[tuple[str, Figure]]:
    """Swapped pairs that differ in both factors, judged from pixels: the colour must be the identity's, the frequency the motion's."""
    from stillmotion.data.pendula import read_colour, read_frequency, read_speed

    colour, speed = clips.labels["colour"], clips.labels["speed"]
    differ = ((colour[:, None] != colour) & (speed[:, None] != speed)).nonzero()
    pick = torch.randint(len(differ), (SWAPS,), generator=torch.Generator().manual_seed(seed))
    identity, motion = differ[pick].unbind(1)
    codes = encode(model, clips)
    swapped = swap(model, codes[identity], codes[motion])
    truth = read_frequency(clips.clips(motion).frames)
    yield "swap_static_accuracy", proportion(read_colour(swapped) == colour[identity])
    yield "swap_action_accuracy", proportion(read_speed(swapped) == speed[motion])
    yield "swap_frequency_within_5_percent", proportion((read_frequency(swapped) / truth - 1).abs() < 0.05)


def _borders(model: Model, clips: ClipSet) -> Iterator[tuple[str, Figure]]:
    """Ordered pairs of clips whose borders differ: is the border of the swapped clip nearer to the identity's?

    One window of each clip. `swap_border`: all pairs of clips; `swap_border_<factor>`: pairs that differ in the factor.
    """
    assert clips.source is not None
    firsts = torch.tensor([int((clips.source == source).nonzero()[0]) for source in torch.unique(clips.source)])
    chosen = clips.subset(firsts)
    real, codes = chosen.clips(), encode(model, chosen)
    colours = border_colour(real.frames, real.mask)
    apart = (colours[:, None] - colours[None]).norm(dim=2) > BORDERS_DIFFER
    pairs = apart.nonzero()
    if not len(pairs):
        return
    hits = []
    for part in pairs.split(64):
        identity, motion = part.unbind(1)
        swapped = border_colour(swap(model, codes[identity], codes[motion]), real.mask[motion])
        hits.append(nearer_to_first(swapped, colours[identity], colours[motion]))
    hit = torch.cat(hits)
    yield "swap_border", proportion(hit)
    for factor, labels in chosen.labels.items():
        differ = (labels[pairs[:, 0]] != labels[pairs[:, 1]]) & (labels[pairs] >= 0).all(1)
        if differ.any():
            yield f"swap_border_{factor}", proportion(hit[differ])


def _code(codes: Codes, name: str, way: str, seed: int) -> Tensor | None:
    posterior: Gaussian | None = getattr(codes, f"{name}_posterior")
    if posterior is None:
        return None
    return posterior.mean if way == "mean" else posterior.sample(torch.Generator().manual_seed(seed))


def proportion(hits: Tensor) -> Figure:
    """Share of true entries with its Wilson interval."""
    n, share, z = len(hits), float(hits.float().mean()), 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return _figure(share, max(0.0, centre - spread), min(1.0, centre + spread), n)


def average(values: Tensor) -> Figure:
    """Mean with its normal interval."""
    mean = float(values.mean())
    spread = 1.96 * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return _figure(mean, mean - spread, mean + spread, len(values))


def _figure(value: float, low: float, high: float, clips: int) -> Figure:
    return {"value": round(value, 5), "low": round(low, 5), "high": round(high, 5), "clips": clips, "paper": None}


def machine() -> dict[str, Any]:
    """What the figures were computed on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"stillmotion": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"cores": os.cpu_count(), "gpu": gpu, "versions": versions}


def commit() -> str | None:
    """The commit of the checkout that runs, None outside one."""
    command: Sequence[str] = ("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
