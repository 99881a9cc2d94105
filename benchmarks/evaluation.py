"""A full evaluation of 2,664 clips: how long each measure takes, and how much memory all of them need.

    python -m benchmarks.evaluation [--json] [--quick] [--data-root FOLDER]

Everything that `stillmotion evaluate` measures unasked is measured, the way it measures it: of the test clips of Sprites, standard
version, of a VDSM of the laptop size for Sprites, by a judge of the published size. Model and judge have random weights; what they say
is worth nothing, what it costs is the same. Where the sheets of Sprites are not found, the clips are as many random ones of the same
shape and labels.

Peak memory is the largest resident set (ru_maxrss) of this process: clips, model and judge, and all else that Python has loaded. What
is resident at most once all these are there is told beside it, and so is what the frames would take if they were held as floats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stillmotion.core.abilities import Remembers, require
from stillmotion.core.codes import Codes
from stillmotion.core.errors import FileRefused
from stillmotion.core.registry import JUDGES
from stillmotion.data import sprites
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.judge import CHANNELS, Judge, Verdicts
from stillmotion.models import files
from stillmotion.recipes import vdsm
from stillmotion.recipes.bench import Bench, Rebuilt
from stillmotion.recipes.execute import REMEMBERED
from stillmotion.recipes.judge import judgeable
from stillmotion.recipes.measures import MEASURES
from stillmotion.tasks.codes import encode
from stillmotion.training.machine import has_bfloat16, keep_freed_memory

SEED = 1
CLASSES, VARIANTS = 9, 6
"""Clips of each character, and variants of each part of it."""
ENVIRONMENT = "STILLMOTION_TEST_DATA"


@dataclass(frozen=True)
class Size:
    """characters: of the training, validation and test clips, 9 clips each. model: options of a VDSM. channels: of the judge."""

    characters: tuple[int, int, int]
    model: dict[str, Any]
    channels: tuple[int, ...] = CHANNELS


FULL = Size((900, 100, 296), vdsm.sprites("laptop").model.options)
QUICK = Size((40, 6, 6), FULL.model)


class Made(NamedTuple):
    """Clips that were decoded for one purpose. judged: and read by the judge, with nothing else done."""

    clips: int
    seconds: float
    judged: bool


class Timed(Bench):
    """A bench that notes how many clips are decoded, and how long it takes."""

    @property
    def made(self) -> list[Made]:
        notes: list[Made] = self.__dict__.setdefault("notes", [])
        return notes

    def shown(self, codes: Codes) -> Verdicts:
        started = time.perf_counter()
        verdicts = super().shown(codes)
        self.made.append(Made(len(verdicts), time.perf_counter() - started, True))
        return verdicts

    def swapped(self, pairs: Tensor) -> Verdicts:
        started = time.perf_counter()
        verdicts = super().swapped(pairs)
        self.made.append(Made(len(verdicts), time.perf_counter() - started, True))
        return verdicts

    def rebuild(self, codes: Codes, *, judged: bool = True) -> Rebuilt:
        started = time.perf_counter()
        rebuilt = super().rebuild(codes, judged=judged)
        self.made.append(Made(len(rebuilt.psnr), time.perf_counter() - started, False))
        return rebuilt


def real_clips(root: Path | None) -> Splits | None:
    """Sprites, standard version; None where the sheets are not there."""
    try:
        return sprites.load(root=root)
    except FileRefused:
        return None


def random_clips(characters: Sequence[int]) -> Splits:
    """Clips of the shape and with the labels of Sprites that show nothing, in one store as theirs."""
    generator = torch.Generator().manual_seed(SEED)
    person = torch.randperm(VARIANTS**4, generator=generator)[: sum(characters)].repeat_interleave(CLASSES)
    action = torch.arange(CLASSES).repeat(sum(characters))
    labels = {"action_direction": action, "action": action // 3, "direction": action % 3, "character": person}
    labels |= {part: person // VARIANTS**place % VARIANTS for place, part in enumerate(sprites.PARTS)}
    classes = {factor: tuple(str(number) for number in range(int(values.max()) + 1)) for factor, values in labels.items()}
    shape = (len(person), sprites.STEPS, 3, sprites.CELL, sprites.CELL)
    frames = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    everything = ClipSet.whole(frames, labels, classes, moving=("action_direction", "action", "direction"))
    parts = torch.split(torch.arange(len(person)), [CLASSES * people for people in characters])
    return Splits(*(everything.subset(part) for part in parts))


def build(size: Size, splits: Splits) -> Timed:
    """The bench with model and judge, both of random weights, as `stillmotion evaluate` sets it up on a CPU."""
    model = files.build("vdsm", size.model, SEED).eval()
    require(model, Remembers).remember(encode(model, splits.train.spread(REMEMBERED)))
    colours, side, _ = splits.train.frame_shape
    options = {"classes": judgeable(splits), "size": side, "colours": colours, "channels": size.channels}
    judge = cast(Judge, files.build("judge", options, SEED, JUDGES).eval())
    return Timed(model, splits, judge, splits.train.moving, SEED, has_bfloat16(torch.device("cpu")))


def measure(size: Size, root: Path | None = None, *, real: bool = True) -> dict[str, Any]:
    """All figures of the benchmark by name. real: take the clips of Sprites where their sheets are found."""
    keep_freed_memory()
    found = real_clips(root) if real else None
    splits = found or random_clips(size.characters)
    bench = build(size, splits)
    ready, started = peak(), time.perf_counter()
    minutes, raised, figures = _measured(bench)
    seconds = time.perf_counter() - started
    return {
        "seconds": round(seconds, 1),
        "clips": len(bench.held),
        "figures": figures,
        **rates(bench),
        "peak_mb": round(peak(), 1),
        "ready_mb": round(ready, 1),
        "store_mb": round(splits.test.frames.nbytes / 1e6, 1),
        "float_frames_mb_if_held": round(float_frames(bench) / 1e6, 1),
        "measures": minutes,
        "raised_mb": raised,
        "data": "random" if found is None else "sprites",
        "threads": torch.get_num_threads(),
        "precision": "bfloat16" if bench.low else "float32",
        "torch": torch.__version__,
    }


def _measured(bench: Bench) -> tuple[dict[str, float], dict[str, float], int]:
    """Minutes of each measure and by how many MB it raised the peak, in the order in which they are taken; and how many figures they gave.

    What several measures share (codes, reconstructions, drawn clips) is counted to the first of them.
    """
    minutes, raised, figures = {}, {}, 0
    for name, one in MEASURES.items():
        if not isinstance(bench.model, one.abilities[0]):
            continue
        reason = one.lacking(bench)
        if reason:
            raise RuntimeError(f"{name} is not measured: {reason}")
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        before, started = peak(), time.perf_counter()
        figures += len(one.take(bench))
        minutes[name], raised[name] = round((time.perf_counter() - started) / 60, 3), round(peak() - before, 1)
    return minutes, raised, figures


def rates(bench: Timed) -> dict[str, float]:
    """How many clips were decoded in all, and how many a second where they were decoded and judged and nothing else."""
    judged = [made for made in bench.made if made.judged]
    per_second = sum(made.clips for made in judged) / sum(made.seconds for made in judged)
    return {"decoded_clips": sum(made.clips for made in bench.made), "decoded_and_judged_per_second": round(per_second, 1)}


def float_frames(bench: Timed) -> int:
    """Bytes of the measured clips and of all that were decoded for them, as float32."""
    values = bench.held.steps * int(torch.tensor(bench.held.frame_shape).prod())
    return 4 * values * (len(bench.held) + sum(made.clips for made in bench.made))


def peak() -> float:
    """Largest resident set of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def show(figures: dict[str, Any], console: Console) -> None:
    table = Table("measure", "minutes", "raised the peak by, MB", title=f"{figures['clips']:,} clips ({figures['data']})")
    for name, minutes in figures["measures"].items():
        table.add_row(name, f"{minutes:.2f}", f"{figures['raised_mb'][name]:.0f}")
    console.print(table)
    console.print(f"all: {figures['seconds']:.0f} s, {figures['figures']} figures")
    console.print(f"decoded: {figures['decoded_clips']:,} clips, {figures['decoded_and_judged_per_second']:.0f} a second with the judge")
    console.print(f"peak memory: {figures['peak_mb']:.0f} MB, of which {figures['ready_mb']:.0f} MB were there before the first measure")
    console.print(f"the clips as bytes: {figures['store_mb']:.0f} MB; floats if held: {figures['float_frames_mb_if_held']:.0f} MB")


def main(arguments: Sequence[str] | None = None, size: Size | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--quick", action="store_true", help="54 random clips instead of 2,664")
    parser.add_argument("--data-root", type=Path, help=f"where the sheets of Sprites lie (default: ${ENVIRONMENT}, else as for commands)")
    options = parser.parse_args(arguments)
    given = os.environ.get(ENVIRONMENT)
    root = options.data_root or (Path(given) if given else None)
    figures = measure(size or (QUICK if options.quick else FULL), root, real=not options.quick)
    if not options.json:
        show(figures, Console())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
