"""Kalman filter + smoother + gradient: our scan and our loop, beside pykalman, statsmodels and simdkalman, which give no gradient.

    python -m benchmarks.ssm [--json] [--quick]

The systems are like those of a Kalman VAE: 4 states, 2 observed entries, A and C different in every frame of every clip, a fifth of the
frames missing. Ours works on all clips at once and includes the gradient of the likelihood and of all smoothed moments with respect to
A, C, Q, R and the observations; the others filter and smooth, pykalman and statsmodels clip by clip (in the grid one clip is timed and
counted for all), simdkalman all clips at once with the matrices of the first frame, for it knows no others. A test proves the results
equal. Times are processor seconds of one thread, the best of several repeats that alternate, so that what else runs on the machine
matters little. `ratio` is that of pykalman to our scan in float32, `ratio_float64` in its own precision, `ratio_loop` that of our
loop to our scan, all at the same size. Peak memory is the largest resident set of a process of its own, over that of one that does next
to nothing. Last comes one training step of a Kalman VAE of the published size, split into its VAE and its filter, with all frames there
and with a fifth of them missing, when the filter has to feed the dynamics network frame by frame.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stillmotion.core.clips import Clips as FrameClips
from stillmotion.models.kvae import KVAE, KVAEConfig
from stillmotion.ssm.inference import Form, smooth
from stillmotion.ssm.systems import Smoothed, System
from stillmotion.training.machine import has_bfloat16

N, P = 4, 2
LEARNED = ("A", "C", "Q", "R")


@dataclass(frozen=True)
class Size:
    """frames and clips: of the ratios. grid_frames x grid_clips: of the table, up to `largest` frames in all. memory_frames: three
    lengths whose peak memory is taken, the first next to nothing."""

    frames: int = 2000
    clips: int = 32
    grid_frames: tuple[int, ...] = (20, 200, 2000, 20000)
    grid_clips: tuple[int, ...] = (1, 32, 256)
    largest: int = 640_000
    memory_frames: tuple[int, int, int] = (2, 2000, 8000)
    kvae: KVAEConfig = field(default_factory=KVAEConfig)


PAPER = Size()


@dataclass(frozen=True)
class Clips:
    """Clips y (B, T, p) with a mask of frames (B, T), and the system of each."""

    system: System
    y: Tensor
    mask: Tensor


def make(frames: int, clips: int, dtype: torch.dtype) -> Clips:
    """Transitions that turn a little and never grow."""
    g = torch.Generator().manual_seed(0)
    A = torch.linalg.qr(torch.eye(N) + 0.1 * torch.randn(clips, frames, N, N, generator=g))[0] * 0.98
    C = torch.eye(P, N) + 0.2 * torch.randn(clips, frames, P, N, generator=g)
    system = System(A, C, 0.08 * torch.eye(N), 0.03 * torch.eye(P), torch.zeros(N), 20 * torch.eye(N)).to(dtype)
    return Clips(system, torch.randn(clips, frames, P, generator=g).to(dtype), torch.rand(clips, frames, generator=g) < 0.8)


def ours(clips: Clips, form: Form) -> Smoothed:
    """Filter, smoother, and the gradient of everything by everything, which is left in the tensors."""
    leaves = [getattr(clips.system, name).requires_grad_() for name in LEARNED] + [clips.y.requires_grad_()]
    found = smooth(clips.system, clips.y, clips.mask, form=form)
    torch.autograd.grad(found.filtered.log_likelihood.sum() + found.mean.sum() + found.covariance.sum() + found.lag_one.sum(), leaves)
    return found


def pykalman(clips: Clips, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from pykalman import KalmanFilter

    found, s = [], clips.system
    for k in range(count):
        y = np.ma.array(clips.y[k].detach().double().numpy())
        y[~clips.mask[k].numpy()] = np.ma.masked
        A, C, Q, R, mean, covariance = (value.detach().double().numpy() for value in (s.A[k, 1:], s.C[k], s.Q, s.R, s.mean, s.covariance))
        theirs = KalmanFilter(A, C, Q, R, initial_state_mean=mean, initial_state_covariance=covariance)
        found.append(theirs.smooth(y))
    return found


def statsmodels(clips: Clips, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    found, s = [], clips.system
    for k in range(count):
        theirs = KalmanSmoother(k_endog=P, k_states=N, k_posdef=N)
        y = torch.where(clips.mask[k, :, None], clips.y[k].detach().double(), torch.nan)
        theirs.bind(y.numpy().T.copy(order="F"))
        theirs["transition"] = np.moveaxis(np.roll(s.A[k].detach().double().numpy(), -1, 0), 0, -1)
        theirs["design"], theirs["selection"] = np.moveaxis(s.C[k].detach().double().numpy(), 0, -1), np.eye(N)
        theirs["state_cov"], theirs["obs_cov"] = (value.detach().double().numpy() for value in (s.Q, s.R))
        theirs.initialize_known(s.mean.double().numpy(), s.covariance.double().numpy())
        result = theirs.smooth()
        found.append((result.smoothed_state.T, np.moveaxis(result.smoothed_state_cov, -1, 0)))
    return found


def simdkalman(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    import simdkalman as library

    s = clips.system
    A, Q, C, R = (value.detach().double().numpy() for value in (s.A[0, 0], s.Q, s.C[0, 0], s.R))
    y = torch.where(clips.mask[..., None], clips.y.detach().double(), torch.nan).numpy()
    found = library.KalmanFilter(A, Q, C, R).compute(y, 0, s.mean.double().numpy(), s.covariance.double().numpy())
    return found.smoothed.states.mean, found.smoothed.states.cov


def best(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Processor seconds of each, the least of repeats that alternate."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: min(taken) for name, taken in times.items()}


def headline(size: Size, repeats: int) -> dict[str, float]:
    """The ratios, with every clip of every variant computed."""
    single, double = (make(size.frames, size.clips, dtype) for dtype in (torch.float32, torch.float64))
    seconds = best(
        {
            "scan": lambda: ours(single, "scan"), "loop": lambda: ours(single, "loop"), "scan_float64": lambda: ours(double, "scan"),
            "loop_float64": lambda: ours(double, "loop"), "pykalman": lambda: pykalman(double, size.clips),
            "statsmodels": lambda: statsmodels(double, size.clips),
        },
        repeats,
    )  # fmt: skip
    ratios = {
        "ratio": seconds["pykalman"] / seconds["scan"], "ratio_float64": seconds["pykalman"] / seconds["scan_float64"],
        "ratio_loop": seconds["loop"] / seconds["scan"], "ratio_loop_float64": seconds["loop_float64"] / seconds["scan_float64"],
        "ratio_statsmodels": seconds["statsmodels"] / seconds["scan"],
    }  # fmt: skip
    times = {f"seconds_{name}": round(value, 4) for name, value in seconds.items()}
    return {name: round(value, 2) for name, value in ratios.items()} | times


def grid(size: Size, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of each variant, by "frames x clips"."""
    found = {}
    for frames in size.grid_frames:
        for count in size.grid_clips:
            if frames * count > size.largest:
                continue
            clips = make(frames, count, torch.float32)
            seconds = best(
                {
                    "scan": lambda c=clips: ours(c, "scan"), "loop": lambda c=clips: ours(c, "loop"),
                    "pykalman": lambda c=clips: pykalman(c, 1), "statsmodels": lambda c=clips: statsmodels(c, 1),
                    "simdkalman": lambda c=clips: simdkalman(c),
                },
                repeats if frames * count < size.frames * size.clips else 1,
            )  # fmt: skip
            for name in ("pykalman", "statsmodels"):
                seconds[name] *= count
            found[f"{frames} x {count}"] = {name: float(f"{value:.3g}") for name, value in seconds.items()}
    return found


def growth(table: dict[str, dict[str, float]], size: Size, axis: int) -> float:
    """The power of T (axis 0) or of the number of clips (axis 1) with which the time of the scan grows, over the last step of the grid."""
    steps = (size.grid_frames, size.grid_clips)[axis]
    pairs = []
    for one, two in pairwise(steps):
        for other in (size.grid_clips, size.grid_frames)[axis]:
            keys = [f"{value} x {other}" if axis == 0 else f"{other} x {value}" for value in (one, two)]
            if all(key in table for key in keys):
                pairs.append(math.log(table[keys[1]]["scan"] / table[keys[0]]["scan"]) / math.log(two / one))
    return round(pairs[-1], 2)


def peak(frames: int, clips: int) -> float:
    """Largest resident set of this process, in MB, after one scan with gradient. To be called in a fresh process."""
    torch.set_num_threads(1)
    ours(make(frames, clips, torch.float32), "scan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def memory(size: Size) -> dict[str, float]:
    """Peak memory of the scan, and the power of T with which it grows."""
    found = []
    for frames in size.memory_frames:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(peak, (frames, size.clips)))
    nothing, less, more = found
    power = math.log(max(more - nothing, 1e-3) / max(less - nothing, 1e-3)) / math.log(size.memory_frames[2] / size.memory_frames[1])
    return {"peak_mb": round(less - nothing, 1), "peak_mb_longer": round(more - nothing, 1), "memory_power": round(power, 2)}


def kvae_step(config: KVAEConfig, frames: int = 20, clips: int = 32) -> dict[str, Callable[[], None]]:
    """Parts of a training step, each with its gradient, as the trainer runs it: bfloat16 where the machine multiplies it natively."""
    g = torch.Generator().manual_seed(0)
    model = KVAE(config).train()
    whole = FrameClips.of((torch.rand(clips, frames, *model.frame_shape, generator=g) < 0.05).float())
    lacking = replace(whole, mask=torch.rand(clips, frames, generator=g) < 0.8)
    codes = torch.randn(clips, frames, config.code, generator=g).requires_grad_()

    def step(of: FrameClips) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
            total = model.loss(of, {"reconstruction": 0.3}, g).total
        total.backward()

    def vae() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
            q = model.encode_frames(whole)
            decoded = model.decoder(q.path)
        model.pixels.nll(decoded, whole.frames).sum().backward()

    def log_prior(of: FrameClips) -> None:
        model._log_prior(codes, of, None).sum().backward()

    return {
        "kvae_step": lambda: step(whole), "kvae_vae": vae, "kvae_filter": lambda: log_prior(whole),
        "kvae_step_missing": lambda: step(lacking), "kvae_filter_missing": lambda: log_prior(lacking),
    }  # fmt: skip


def measure(size: Size, repeats: int) -> dict[str, Any]:
    """All figures of the benchmark by name."""
    used = memory(size)
    torch.set_num_threads(1)
    figures: dict[str, Any] = headline(size, repeats)
    table = grid(size, repeats)
    figures |= used | {"power_of_frames": growth(table, size, 0), "power_of_clips": growth(table, size, 1)}
    steps = best(kvae_step(size.kvae), 3 * repeats)
    figures |= {f"seconds_{name}": round(value, 4) for name, value in steps.items()}
    figures["share_of_filter"] = round(steps["kvae_filter"] / steps["kvae_step"], 3)
    return figures | {"frames": size.frames, "clips": size.clips, "grid": table, "threads": 1, "torch": torch.__version__}


def show(figures: dict[str, Any], console: Console) -> None:
    table = Table("frames x clips", *next(iter(figures["grid"].values())), title="processor seconds; only scan and loop include gradients")
    for place, seconds in figures["grid"].items():
        table.add_row(place, *(f"{value:.3g}" for value in seconds.values()))
    console.print(table)
    console.print(f"{figures['frames']} frames x {figures['clips']} clips, filter + smoother + gradient by our scan:")
    console.print(f"  {figures['ratio']} times faster than pykalman without gradient ({figures['ratio_float64']} in float64)")
    console.print(f"  {figures['ratio_loop']} times faster than our loop ({figures['ratio_loop_float64']} in float64)")
    console.print(f"  {figures['ratio_statsmodels']} times faster than statsmodels without gradient")
    console.print(f"peak memory {figures['peak_mb']:.0f} MB, growing with the power {figures['memory_power']} of T")
    console.print("a training step of a Kalman VAE, 20 frames x 32 clips, milliseconds:")
    for name in ("kvae_step", "kvae_vae", "kvae_filter", "kvae_step_missing", "kvae_filter_missing"):
        console.print(f"  {name.removeprefix('kvae_'):<16}{1000 * figures[f'seconds_{name}']:.0f}")


def main(arguments: Sequence[str] | None = None, size: Size = PAPER) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ssm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--quick", action="store_true", help="one repeat instead of three")
    options = parser.parse_args(arguments)
    figures = measure(size, 1 if options.quick else 3)
    if not options.json:
        show(figures, Console())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
