"""Where the time of the small recipe of VDSM for Sprites goes: seconds of a step of each stage, and the parts of the model they go to.

    python -m benchmarks.vdsm_recipe [--json] [--repeats N]

Frames are noise, of the number and size of the recipe's; weights are those of the middle of each stage, in which half of a stage is over.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.profile import GROUPS, profile
from benchmarks.vdsm_step import thaw
from stillmotion.core.clips import Clips
from stillmotion.core.random import Noise
from stillmotion.models.vdsm import VDSM
from stillmotion.models.vdsm_config import VDSMConfig
from stillmotion.recipes.vdsm import sprites
from stillmotion.training.loop import optimiser_of
from stillmotion.training.machine import has_bfloat16, keep_freed_memory
from stillmotion.training.settings import Run, Stage

MIDDLE = 0.5
FRAMES = 8
"""Of a clip of Sprites."""


def batch_of(stage: Stage, model: VDSM) -> Clips:
    """Noise in the form that the stage reads: groups of clips, or what the pose head says of each frame."""
    clips, frames = stage.feed.clips_per_group, stage.feed.frames or FRAMES
    if stage.objective == "paths":
        return Clips(torch.randn(stage.feed.batch, frames, 2 * model.config.pose), torch.ones(stage.feed.batch, frames, dtype=torch.bool))
    pixels = torch.rand(stage.feed.batch, clips * frames, *model.frame_shape)
    return Clips(pixels, torch.ones(pixels.shape[:2], dtype=torch.bool), joined=clips)


def stepper(run: Run, stage: Stage) -> tuple[VDSM, Callable[[], None]]:
    """The model of the run, and what takes one step of the stage as the trainer takes it."""
    torch.manual_seed(run.seed)
    model = VDSM(VDSMConfig.model_validate(run.model.options)).train()
    groups = model.parameter_groups()
    chosen = {id(value) for name in stage.trains for value in groups[name]}
    named = [(name, value) for name, value in model.named_parameters() if id(value) in chosen]
    thaw(model, [value for _, value in named])
    optimiser, clips, noise = optimiser_of(stage, named), batch_of(stage, model), Noise()
    noise.manual_seed(run.seed)
    weights = {name: schedule(MIDDLE) for name, schedule in stage.schedules.items()}

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
            terms = model(clips, weights, noise, stage.objective)
        optimiser.zero_grad(set_to_none=True)
        terms.total.backward()
        optimiser.step()

    return model, step


def measure(run: Run, repeats: int) -> dict[str, dict[str, float]]:
    """Stage -> seconds of a step (median), minutes of all its steps, and the share of each part in one step, in per cent."""
    keep_freed_memory()
    found = {}
    for stage in run.stages:
        model, step = stepper(run, stage)
        step()
        seconds = statistics.median(_timed(step) for _ in range(repeats))
        shares = profile(model, step)
        found[stage.name] = {"seconds": round(seconds, 4), "minutes": round(stage.steps * seconds / 60, 2), **shares}
    return found


def _timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None, run: Run | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vdsm_recipe", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--repeats", type=int, default=9, help="timed steps of each stage")
    options = parser.parse_args(arguments)
    found = measure(run or sprites("laptop", data={"version": "vdsm"}), options.repeats)
    if not options.json:
        table = Table("", *found, title="a step of each stage")
        for name in ("seconds", "minutes", *GROUPS):
            table.add_row(name if name in ("seconds", "minutes") else f"{name}, %", *(str(figures[name]) for figures in found.values()))
        Console().print(table)
    print(json.dumps({"stages": found, "threads": torch.get_num_threads(), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
