"""VDSM's two made worlds: coloured pendula that are rolled on beyond the clips of the training, and moving digits that are swapped.

The paper shows pictures of both and no numbers, so that no published value stands beside ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from stillmotion.core.abilities import Model, Swaps, require
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Cell, Curves, Exhibit, Line, Mark, Page, Pictures, Table
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.metrics.judge_files import LoadedJudge
from stillmotion.recipes import vdsm_digits, vdsm_rollouts
from stillmotion.recipes.cells import told as cell
from stillmotion.recipes.gallery import pictures
from stillmotion.recipes.lab import Lab, fingerprint, over_seeds
from stillmotion.recipes.own_judge import accuracy, doubt, facts_of, lessons_for, ready, taught
from stillmotion.recipes.reproduce import Plan, Reproduced, measured_once
from stillmotion.recipes.vdsm import Size, digits, pendula
from stillmotion.recipes.vdsm_digits import DIGIT, Seen
from stillmotion.recipes.vdsm_grids import long_strip, mixed
from stillmotion.recipes.vdsm_rollouts import BOUNDS, LENGTHS, LONGEST, Known, roll, spans, within
from stillmotion.tasks.clips import swap
from stillmotion.tasks.codes import encode
from stillmotion.training.runs import load_part
from stillmotion.training.settings import Part

PENDULA_QUICK = {"clips": 140, "validation": 28, "test": 28}
CLIPS = {"quick": 28, "laptop": 200, "paper": 200}
"""Pendula that are rolled on: both speeds in all seven colours."""
SHOWN = 3
"""Clips in each picture of a rollout."""

MIXED = 6
"""Clips in each picture of swapped digits."""
DIGITS = {"clips": 8000, "validation": 400, "test": 800}
DIGITS_QUICK = {"clips": 400, "validation": 20, "test": 40}
JUDGED = {"quick": 1, "laptop": 2, "paper": 2}
"""Clips that the judge of digits learns from, as a multiple of those of the model: in the same proportion, so that each image stays in
the split that it is in for the model."""
SWAPPED = {"quick": 40, "laptop": 400, "paper": 800}
"""Test clips that are swapped."""


def reproduce_pendula(folder: Path, plan: Plan) -> Reproduced:
    """VDSM on coloured pendula: rolled on to 40 and 60 frames from 16, and with swapped dynamics."""
    lab = Lab(folder, plan, PENDULA_QUICK)
    runs = [lab.train(f"pendula_{seed}", pendula(cast(Size, lab.size), seed=seed)) for seed in range(plan.seeds)]
    train = lab.data(pendula(cast(Size, lab.size))).train
    known = Known.of(CLIPS[lab.size], train.steps, train.frame_shape[-1])
    found = [_rolled(run, known) for run in runs]
    figures = over_seeds([_figures(each["figures"]) for each in found])
    tables = _frequencies(figures, known), _astray(found[0]["astray"], known)
    strips = _strips(ready(runs[0]), known, torch.tensor(found[0]["worst"][:SHOWN]))
    exhibits: tuple[Exhibit, ...] = (*tables, *strips, lab.runs_table("runs"))
    return Reproduced(Page("VDSM: coloured pendula", _told_of_pendula(known, plan), exhibits), figures)


def reproduce_digits(folder: Path, plan: Plan) -> Reproduced:
    """VDSM on moving digits: which digit swapped clips show, and whether they follow the trajectory of the other clip."""
    lab = Lab(folder, plan, DIGITS_QUICK)
    judge, told = _digit_judge(lab)
    runs = [lab.train(f"digits_{seed}", digits(cast(Size, lab.size), seed=seed)) for seed in range(plan.seeds)]
    test = lab.data(digits(cast(Size, lab.size))).test
    measured = test.spread(SWAPPED[lab.size])
    found = [_swapped(run, judge, measured) for run in runs]
    figures = over_seeds([_figures(each["figures"]) for each in found])
    grids = _grids(ready(runs[0]), measured, found[0]["failures"])
    exhibits: tuple[Exhibit, ...] = (_swaps(figures), *grids, lab.runs_table("runs"))
    return Reproduced(Page("VDSM: moving digits", _told_of_digits(told, plan), exhibits), figures, judge=told)


# Pendula


def _rolled(run: Path, known: Known) -> dict[str, Any]:
    """What JSON holds of `vdsm_rollouts.Measured`."""

    def measure() -> dict[str, Any]:
        found = vdsm_rollouts.measured(ready(run), known)
        return {**found._asdict(), "figures": _plain(found.figures)}

    bounds = " and ".join(map(str, BOUNDS))
    key = f"rollouts of {known.begun.steps} frames of {fingerprint(known.whole)}, within {bounds} %"
    return cast(dict[str, Any], measured_once(run, key, measure))


def _frequencies(figures: Figures, known: Known) -> Table:
    rows = list[tuple[Cell, ...]]()
    for bound in BOUNDS:
        alone = cell(figures, f"rollout_by_speed_alone_within_{bound}_percent")
        for name in spans(known.begun.steps):
            label = f"frequency within {bound} %, frames {_words(name)}"
            rows.append((label, *_ways(figures, f"{within(bound)}_{name}"), alone))
    rows.append((f"colour, frames 1 to {LONGEST}", *_ways(figures, "colour_accuracy"), None))
    rows.append((f"frequency within {BOUNDS[0]} % and colour", *_ways(figures, "both_accuracy"), None))
    note = (
        "Share of clips in per cent, with the 95 % interval. Frequency: less than so much from the true one, which is known, as read off "
        "the stretch of frames. Rolled on: the clip goes on. Swapped: the motion of a clip on the identity of another one in another "
        "colour and at another speed; the frequency must be the motion's, the colour the identity's. Real: what the readers make of real "
        "clips. By speed alone: the most that can be right where each speed has one frequency, whatever the amplitude. Wide swings are "
        f"slower by less than a tenth, so that {BOUNDS[0]} % tells slow from fast and no more; {BOUNDS[1]} % also asks for the amplitude."
    )
    head = ("", "rolled on", "swapped", "real", "by speed alone")
    return Table("frequencies", "Frequency and colour of rolled-on pendula", head, tuple(rows), note)


def _ways(figures: Figures, key: str) -> list[Cell]:
    return [cell(figures, f"{way}_{key}") for way in ("rollout", "swap", "real")]


def _words(span: str) -> str:
    return span.replace("_to_", " to ") if "_to_" in span else f"1 to {span}"


def _astray(lines: dict[str, list[float]], known: Known) -> Curves:
    places = tuple(float(t + 1) for t in range(LONGEST))
    drawn = tuple(Line(label, places, tuple(values)) for label, values in lines.items())
    mark = Mark("last frame that was seen", float(known.begun.steps))
    note = "Mean over clips, first seed. A small error of the frequency adds up: the phase goes before the swing does."
    return Curves("astray", "How far the bob is from where it should be", "frame", "angle, radians", drawn, (mark,), note)


def _strips(model: Model, known: Known, bad: Tensor) -> list[Pictures]:
    """Clips rolled on and swapped, at both lengths, and the rollouts that went worst."""
    found = []
    for place, steps in enumerate(LENGTHS):
        shown = known.some(SHOWN, place)
        found.append(_rollouts(f"rolled_{steps}", f"Rolled on to {steps} frames", model, known, shown, steps))
        found.append(_exchanges(f"swapped_{steps}", f"Swapped dynamics over {steps} frames", model, known, shown, steps))
    return [*found, _rollouts("worst", "The rollouts whose frequency is farthest off", model, known, bad, LONGEST)]


def _rollouts(name: str, title: str, model: Model, known: Known, shown: Tensor, steps: int) -> Pictures:
    rolled, real = roll(model, encode(model, known.begun.subset(shown)), steps), known.whole.clips(shown).frames
    rows = [clip[:steps] for pair in zip(real, rolled, strict=True) for clip in pair]
    note = f"Of each real clip the model saw the first {known.begun.steps} frames."
    return long_strip(name, title, rows, ("real", "rolled on") * len(shown), note)


def _exchanges(name: str, title: str, model: Model, known: Known, shown: Tensor, steps: int) -> Pictures:
    other = known.strangers()[shown]
    codes = [encode(model, known.begun.subset(part)) for part in (other, shown)]
    swapped = roll(model, require(model, Swaps).swap(*codes), steps)
    identity, motion = (known.whole.clips(part).frames for part in (other, shown))
    rows = [clip[:steps] for three in zip(identity, motion, swapped, strict=True) for clip in three]
    note = f"Identity and motion are real clips, of which the model saw the first {known.begun.steps} frames."
    return long_strip(name, title, rows, ("identity of", "motion of", "swapped") * len(shown), note)


def _told_of_pendula(known: Known, plan: Plan) -> str:
    return (
        f"Seven colours, two speeds, true physics. The model is trained on clips of {known.begun.steps} frames, and sees as many of "
        f"each of {len(known.begun)} new clips; then it goes on by itself. Frequencies and colours are read off the pixels, no judge "
        f"is needed. {_seeds(plan)} The paper shows such clips and prints no numbers of them."
    )


# Digits


def _digit_judge(lab: Lab) -> tuple[LoadedJudge, dict[str, Any]]:
    """A judge of the digit alone, trained on more clips of the images that the model is trained on, and what is told of it."""
    counts, times = DIGITS_QUICK if lab.plan.quick else DIGITS, JUDGED[lab.size]
    plain = digits(cast(Size, lab.size)).data
    data = Part(name=plain.name, options={**plain.options, **{name: times * count for name, count in counts.items()}})
    splits = vdsm_digits.digits_alone(load_part(data, show=False))
    lessons = lessons_for(data, splits, lab.plan, centred=True)
    folder = lab.folder / "judge"
    judge = taught(lessons, lambda: vdsm_digits.handwritten(splits), folder, lab.plan)
    return judge, facts_of(judge, lessons, splits, folder)


def _swaps(figures: Figures) -> Table:
    columns = {
        "digit": "{}_digit_accuracy", "trajectory followed": "{}_path_followed", "both": "{}_digit_and_path_followed",
    }  # fmt: skip
    rows = []
    for label, way in (("swapped", "swap"), ("rebuilt", "rebuilt"), ("real", "real")):
        names = [*(name.format(way) for name in columns.values()), f"path_correlation_{way}", f"path_reach_{way}"]
        rows.append((label, *(cell(figures, name) for name in names)))
    note = (
        "Per cent with 95 % intervals. Digit: what the judge sees is the digit of the identity; in rebuilt and real clips, their own. "
        "Followed: the centres of light go with those of the motion's clip, a correlation of 0.9 or more over both axes and all frames. "
        "Correlation: its mean. Reach: how far the digit wanders, as a share of how far it should. The two clips of a swap show different "
        "digits, and each test clip lends its motion once."
    )
    return Table("swaps", "Swapped digits", ("", *columns, "correlation", "reach"), tuple(rows), note)


def _swapped(run: Path, judge: LoadedJudge, clips: ClipSet) -> dict[str, Any]:
    """Figures and failures, as JSON holds them."""

    def measure() -> dict[str, Any]:
        seen = Seen.of(ready(run), judge.judge, clips)
        return {"figures": _plain(vdsm_digits.measured(seen, clips)), "failures": vdsm_digits.failures(seen, clips, MIXED)}

    return cast(dict[str, Any], measured_once(run, f"swaps of {fingerprint(clips)}, judge {judge.sha256[:12]}", measure))


def _grids(model: Model, clips: ClipSet, failures: Sequence[Mapping[str, Any]]) -> list[Pictures]:
    """Everything mixed, and the swaps that went worst."""
    shown = vdsm_digits.one_of_each(clips, MIXED)
    grid = mixed("mixed", "Every digit on every trajectory", model, shown, _digits(shown, range(len(shown))))
    identity, motion = (clips.subset(torch.tensor([bad[which] for bad in failures])) for which in ("identity", "motion"))
    swapped = swap(model, encode(model, identity), encode(model, motion))
    rows = torch.stack([identity.clips().frames, motion.clips().frames, swapped])
    names = _digits(clips, [bad["identity"] for bad in failures])
    told = [f"{name}, seen as {bad['seen']}, r {bad['correlation']:.2f}" for name, bad in zip(names, failures, strict=True)]
    note = "Above each column: the identity's digit, what the judge sees, and the correlation of the trajectories."
    return [grid, pictures("worst", "The swaps that went worst", rows, ("identity of", "motion of", "swapped"), told, note)]


def _digits(clips: ClipSet, places: Iterable[int]) -> list[str]:
    return [clips.classes[DIGIT][int(clips.labels[DIGIT][k])] for k in places]


def _told_of_digits(told: Mapping[str, Any], plan: Plan) -> str:
    return (
        "One digit that bounces about; test clips show images that neither model nor judge was trained on. The judge learned from real "
        f"clips alone, with the digits bent a little, and is right on {accuracy(told, DIGIT)} of {told['clips']:,} real clips of other "
        f"images.{doubt(told)} Trajectories are read off the pixels. {_seeds(plan)} The paper shows such clips and prints no numbers of "
        "them."
    )


# Figures


def _seeds(plan: Plan) -> str:
    return "One seed." if plan.seeds == 1 else f"Means of {plan.seeds} seeds; pictures of the first."


def _plain(figures: Figures) -> dict[str, Any]:
    return {name: asdict(figure) for name, figure in figures.items()}


def _figures(found: Mapping[str, Any]) -> Figures:
    return {name: Figure(**figure) for name, figure in found.items()}
