"""One training step of VDSM at the paper's Sprites size, against the same step computed clip by clip in float32.

    python -m benchmarks.vdsm_step [--json] [--quick]

Both variants have the same weights, noise and losses (a test proves it) and live in this process; their steps alternate, and the
median of the repeats counts. Ours runs as the trainer runs it: bfloat16 where the machine multiplies it natively, fused Adam, freed
memory kept. The other runs as plain PyTorch does: float32, Adam's default form, the C library's default memory; so before each of its
steps what ours kept is given back, and after each of them ours takes one step that is not timed. Much of the ratio can be memory that
need not be fetched from the system again: `ratio_memory_kept` lets the other keep its freed memory as ours does. Peak memory is the
largest resident set (ru_maxrss) of a process of its own for each variant, which takes two pretraining steps; they are spawned first,
while this process is small, because on Linux a child inherits the mark of its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.clip_by_clip import clip_by_clip
from benchmarks.profile import profile
from stillmotion.core.clips import Clips
from stillmotion.core.random import Noise
from stillmotion.models.vdsm import VDSM, VDSMConfig
from stillmotion.training.machine import has_bfloat16, keep_freed_memory

TRAINS = {"poses": ("encoder", "decoder", "heads"), "sequence": ("heads", "sequence")}
WEIGHTS = {"temperature": 5.0, "static_kl": 1.0, "path_kl": 1.0, "dynamic_kl": 1.0}
SEED = 1


@dataclass(frozen=True)
class Size:
    """The size of the steps: groups per step, and frames per group in the pretraining step and in the sequence step."""

    config: VDSMConfig
    batch: int
    frames: dict[str, int]


PAPER = Size(VDSMConfig(), 20, {"poses": 16, "sequence": 8})


class Times(NamedTuple):
    """Median seconds per step. kept: of the other variant, when it keeps freed memory as ours does. shares: profile of ours, per cent."""

    ours: float
    other: float
    kept: float
    shares: dict[str, float]


class Stepper:
    """Takes training steps of one objective, forward, backward and Adam, always with the same clips and noise."""

    def __init__(self, model: VDSM, size: Size, objective: str, *, ours: bool) -> None:
        self.model, self.objective, self.ours = model, objective, ours
        groups = model.parameter_groups()
        self.parameters = [parameter for name in TRAINS[objective] for parameter in groups[name]]
        self.optimiser = torch.optim.Adam(self.parameters, lr=1e-4, fused=True if ours else None)
        self.low = ours and has_bfloat16(torch.device("cpu"))
        generator = torch.Generator().manual_seed(SEED)
        self.clips = Clips.of(torch.rand(size.batch, size.frames[objective], *model.frame_shape, generator=generator))

    def __call__(self) -> float:
        """The loss."""
        noise = Noise()
        noise.manual_seed(SEED)
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.low):
            terms = self.model(self.clips, WEIGHTS, noise, self.objective)
        self.optimiser.zero_grad(set_to_none=True)
        terms.total.backward()
        self.optimiser.step()
        return float(terms.total.detach())

    def take_over(self) -> None:
        """Only what this step trains takes gradients, and the memory is managed the way this variant manages it."""
        thaw(self.model, self.parameters)
        if self.ours:
            keep_freed_memory()
        else:
            give_back_freed_memory()


def thaw(model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    chosen = {id(parameter) for parameter in parameters}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
        parameter.grad = None


def give_back_freed_memory() -> None:
    """What keep_freed_memory has set and kept is undone: glibc's thresholds as they are after its first large blocks."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    threshold, top_pad, trim = -3, -2, -1
    for option, value in ((threshold, 32 << 20), (trim, 64 << 20), (top_pad, 128 << 10)):
        libc.mallopt(option, value)
    libc.malloc_trim(0)


def build(size: Size, *, ours: bool) -> VDSM:
    """The model in one of the variants, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = VDSM(size.config)
    return model if ours else clip_by_clip(model)


def peak(size: Size, ours: bool, threads: int) -> float:
    """Largest resident set of this process, in MB, after two pretraining steps. To be called in a fresh process."""
    torch.set_num_threads(threads)
    step = Stepper(build(size, ours=ours), size, "poses", ours=ours)
    step.take_over()
    step()
    step()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def peaks(size: Size) -> dict[str, float]:
    """Peak memory of both variants, each in its own spawned process."""
    found = {}
    for name, ours in (("peak_mb", True), ("baseline_peak_mb", False)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = round(pool.apply(peak, (size, ours, torch.get_num_threads())), 1)
    return found


def seconds(step: Callable[[], float]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare(size: Size, objective: str, repeats: int, models: tuple[VDSM, VDSM]) -> Times:
    """Steps of ours and of the other, taken in turns after a warm-up."""
    ours, other = (Stepper(model, size, objective, ours=k == 0) for k, model in enumerate(models))
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for step, taken in zip((ours, other), times, strict=True):
            step.take_over()
            if step.ours:
                step()
            elapsed = seconds(step)
            if repeat:
                taken.append(elapsed)
    other.take_over()
    keep_freed_memory()
    other()
    kept = [seconds(other) for _ in range(repeats)]
    ours.take_over()
    ours()
    shares = profile(ours.model, ours)
    for step in (ours, other):
        thaw(step.model, [])
    return Times(statistics.median(times[0]), statistics.median(times[1]), statistics.median(kept), shares)


def measure(size: Size, repeats: int) -> dict[str, Any]:
    """All figures of the benchmark by name."""
    figures: dict[str, Any] = {}
    memory = peaks(size)
    models = build(size, ours=True), build(size, ours=False)
    for objective, suffix in (("poses", ""), ("sequence", "_sequence")):
        fast, slow, kept, shares = compare(size, objective, repeats, models)
        figures[f"ratio{suffix}"], figures[f"ratio_memory_kept{suffix}"] = round(slow / fast, 2), round(kept / fast, 2)
        figures[f"frames_per_second{suffix}"] = round(size.batch * size.frames[objective] / fast, 1)
        figures[f"seconds{suffix}"], figures[f"baseline_seconds{suffix}"] = round(fast, 4), round(slow, 4)
        figures[f"profile{suffix}"] = shares
    precision = "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
    return figures | memory | {"threads": torch.get_num_threads(), "precision": precision, "torch": torch.__version__}


def show(figures: dict[str, Any], console: Console) -> None:
    table = Table("where the time goes", "pretraining step, %", "sequence step, %", title="our step")
    for name, share in figures["profile"].items():
        table.add_row(name, f"{share:.1f}", f"{figures['profile_sequence'][name]:.1f}")
    console.print(table)
    for name, suffix in (("pretraining", ""), ("sequence", "_sequence")):
        ours, other = figures[f"seconds{suffix}"], figures[f"baseline_seconds{suffix}"]
        console.print(f"{name} step: {ours:.3f} s, clip by clip {other:.3f} s, {figures[f'ratio{suffix}']} times faster")
        console.print(f"  {figures[f'ratio_memory_kept{suffix}']} times where the other keeps freed memory too")
    console.print(f"peak memory: {figures['peak_mb']:.0f} MB, clip by clip {figures['baseline_peak_mb']:.0f} MB")


def main(arguments: Sequence[str] | None = None, size: Size = PAPER) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vdsm_step", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--quick", action="store_true", help="one repeat instead of five")
    options = parser.parse_args(arguments)
    figures = measure(size, 1 if options.quick else 5)
    if not options.json:
        show(figures, Console())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
