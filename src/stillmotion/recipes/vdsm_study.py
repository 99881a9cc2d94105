"""The tables and figures of the VDSM paper (Vowels, Camgoz and Bowden, CVPR 2021): of Sprites, in either version, and of faces.

What the paper shows is here with what it leaves open: a judge that never saw a test clip or a reconstruction, leaks on samples
beside those on means, swaps both ways, and the two-factor protocol of the methods that it is compared with.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from stillmotion.core.abilities import Model
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Exhibit, Page
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.published import data_of
from stillmotion.recipes.judged_lab import CHARACTER, identity_of
from stillmotion.recipes.lab import load, over_seeds
from stillmotion.recipes.own_judge import doubt
from stillmotion.recipes.reproduce import Plan, Reproduced
from stillmotion.recipes.vdsm_annealing import annealing
from stillmotion.recipes.vdsm_lab import Lab
from stillmotion.recipes.vdsm_pictures import all_actions, new_clips, pose_swaps, reconstructions, transfer_grid, transfers
from stillmotion.recipes.vdsm_tables import (
    leak_table,
    pooled_table,
    published_here,
    quality_table,
    swap_table,
    table_1,
    table_2,
    table_3,
    two_factor_table,
)
from stillmotion.training.settings import Part

PAPERS_OWN = Part(name="sprites", options={"version": "vdsm"})
STANDARD = Part(name="sprites")
FACES = Part(name="mug")


def sprites(folder: Path, plan: Plan) -> Reproduced:
    """VDSM on the Sprites of its paper: tables 1, 2 and 3, figures 1 and 5 to 8, and the annealing of the supplement."""
    return _study(Lab(folder, plan, source=PAPERS_OWN), "VDSM on the Sprites of its paper")


def standard(folder: Path, plan: Plan) -> Reproduced:
    """VDSM on the standard Sprites: two factors and swaps beside the other methods, and all that vdsm/sprites shows."""
    return _study(Lab(folder, plan, source=STANDARD), "VDSM on standard Sprites")


def mug(folder: Path, plan: Plan) -> Reproduced:
    """VDSM on the faces of its paper (MUG, from your own copy): tables 1, 2 and 3, figures 1 and 5 to 8, and the annealing."""
    return _study(Lab(folder, plan, source=FACES, strict=False), "VDSM on the faces of its paper")


def _study(lab: Lab, title: str) -> Reproduced:
    judge = lab.told_of_judge  # before anything is trained: without a good one nothing can be measured
    runs = [lab.train(f"main_{seed}", lab.run(seed)) for seed in range(lab.plan.seeds)]
    figures = over_seeds([lab.measure(run, lab.asked) for run in runs])
    exhibits = [*_tables(lab, figures), *_figures(lab, load(runs[0])), *annealing(lab.run(0)), lab.runs_table("runs")]
    page = Page(title, _summary(lab), tuple(exhibits))
    return Reproduced(page, figures, published_here(data_of(lab.source.name, lab.source.options), figures), judge)


def _tables(lab: Lab, figures: Figures) -> list[Exhibit]:
    data = data_of(lab.source.name, lab.source.options)
    classes = lab.judge.judge.classes
    ceiling = sum(math.log(len(names)) for names in classes.values()) / len(classes)
    tables = [
        table_1(figures, data), pooled_table(figures, data), leak_table(figures, data), table_2(figures, data, ceiling),
        two_factor_table(figures, data), swap_table(figures, data), table_3(figures), quality_table(figures),
    ]  # fmt: skip
    return [table for table in tables if table is not None]


def _figures(lab: Lab, model: Model) -> list[Exhibit]:
    clips = lab.splits.test
    return [
        reconstructions(model, clips), transfers(model, clips), transfer_grid(model, clips), new_clips(model, clips.steps),
        all_actions(model, clips), pose_swaps(model, clips),
    ]  # fmt: skip


def _summary(lab: Lab) -> str:
    seeds = "one seed" if lab.plan.seeds == 1 else f"{lab.plan.seeds} seeds"
    counts = [_seen(part) for part in lab.splits]
    return (
        f"A static code s for who is seen, a code d for the action, a path of poses: {counts[0]} to train on, {counts[1]} set aside for "
        f"validation, and {counts[2]} that no model and no judge was trained on. Tables are of {seeds}, pictures of the first."
        + ("" if lab.strict else doubt(lab.told_of_judge))
    )


def _seen(clips: ClipSet) -> str:
    """Of how many is seen what: of characters that one split has alone, and of clips of people who are in all splits."""
    people = len(torch.unique(clips.labels[identity_of(clips)]))
    return f"{people:,} characters" if CHARACTER in clips.labels else f"{len(clips):,} clips of {people} people"
