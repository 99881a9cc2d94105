"""VDSM on real video: actions transferred onto persons who were never seen at them, beside the real clips (Weizmann).

Of nine persons and four actions nine (person, action) pairs are held out. Every pair is made from what is left, the person of one clip
and the action of another person's, and compared with the clip that was kept away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from stillmotion.data.base import Splits
from stillmotion.metrics.exhibits import Cell, Page, Pictures, Table
from stillmotion.metrics.figure import Figures
from stillmotion.recipes.cells import told as cell
from stillmotion.recipes.gallery import pictures
from stillmotion.recipes.judge import NARROW
from stillmotion.recipes.lab import Lab, fingerprint, over_seeds
from stillmotion.recipes.own_judge import accuracy, doubt, facts_of, lessons_for, ready, taught
from stillmotion.recipes.reproduce import Plan, Reproduced, measured_once
from stillmotion.recipes.vdsm import Size, videos
from stillmotion.recipes.vdsm_pairs import HELD_OUT, LOOKS, PATTERN, Transfer, aligned, film, footage, told, transfers
from stillmotion.recipes.vdsm_witness import FACTORS, KINDS, Maker, Record, Witness, evidence, figures, lessons_of
from stillmotion.training.runs import load_part
from stillmotion.training.settings import Run

LESSONS: dict[str, Any] = {"channels": NARROW.channels, "steps": 1000, "changes": ("action",)}
"""A judge that saw who does it would know actions by persons: each has but three."""
MOST = {"quick": 1, "laptop": None, "paper": None}
"""Motions for each identity; None for those of all other persons."""
WORST = 8
"""Failures that are shown."""


class Group(NamedTuple):
    """A trained run, its splits, and what is made in the place of the pairs that it was trained without."""

    run: Path
    splits: Splits
    found: list[Transfer]


class Case(NamedTuple):
    """A transfer, what was found of it, and the group that it belongs to."""

    transfer: Transfer
    record: Record
    group: Group


def reproduce(folder: Path, plan: Plan) -> Reproduced:
    """VDSM on real video (Weizmann): actions on persons never seen at them, against the real clips."""
    lab = Lab(folder, plan)
    witness, facts = _witness(lab)
    seeds = [_groups(lab, seed) for seed in range(plan.seeds)]
    testified = [_testified(each, witness, facts["sha256"]) for each in seeds]
    found = over_seeds([figures(each) for each in testified])
    first = testified[0]
    transfers_made = [(transfer, group) for group in seeds[0] for transfer in group.found]
    cases = [Case(transfer, record, group) for (transfer, group), record in zip(transfers_made, first["transfer"], strict=True)]
    exhibits = (_table(found), _by_pair(cases, first["real"]), _typical(cases), _worst(cases), lab.runs_table("runs"))
    return Reproduced(Page("VDSM: actions transferred in real video", _summary(lab, facts), exhibits), found, judge=facts)


def pairs_of_runs(size: str) -> dict[str, dict[str, str]]:
    """What each run is trained without, by its name: all nine pairs at once, at size paper one pair each.

    At once costs a ninth of the time, and is the harder of the two: each person then keeps three actions, and each action six or seven
    persons, where it could be eight.
    """
    if size != "paper":
        return {"all": HELD_OUT}
    return {f"person_{person}": {person: action} for person, action in HELD_OUT.items()}


# Runs and records


def _groups(lab: Lab, seed: int) -> list[Group]:
    found = []
    for name, pairs in pairs_of_runs(lab.size).items():
        run = _run(lab, pairs, seed)
        splits = lab.data(run)
        found.append(Group(lab.train(f"{name}_{seed}", run), splits, transfers(splits, pairs, MOST[lab.size])))
    return found


def _run(lab: Lab, pairs: Mapping[str, str], seed: int) -> Run:
    """Groups are of one person in the same clothes: what is done in one clip is not asked of its code in another."""
    return videos(cast(Size, lab.size), data=footage(pairs, LOOKS).options, seed=seed, group_by="look")


def _witness(lab: Lab) -> tuple[Witness, dict[str, Any]]:
    """The judge, which saw none of the nine pairs, whatever the models saw; and what is told of it."""
    run, folder = _run(lab, HELD_OUT, 0), lab.folder / "judge"
    data = run.data.model_copy(update={"options": {**run.data.options, "pattern": PATTERN}})  # it is not asked for looks
    splits = load_part(data, show=False)
    lessons = lessons_for(data, splits, lab.plan, **LESSONS)
    judge = taught(lessons, lambda: lessons_of(splits), folder, lab.plan)
    return Witness(judge.judge, splits), facts_of(judge, lessons, splits, folder)


def _testified(groups: Sequence[Group], witness: Witness, judge: str) -> dict[str, list[Record]]:
    """The records of all pairs, of one seed; measured once for the same weights."""
    parts = []
    for group in groups:
        key = f"{len(group.found)} transfers, clips {fingerprint(group.splits.test)}, judge {judge[:12]}"
        parts.append(measured_once(group.run, key, partial(_measured, group, witness)))
    return {kind: [record for part in parts for record in part[kind]] for kind in KINDS}


def _measured(group: Group, witness: Witness) -> dict[str, list[Record]]:
    return evidence(witness, Maker(ready(group.run), group.splits), group.found)


# Tables


def _table(found: Figures) -> Table:
    shares = {"action": "action_accuracy", "person": "person_accuracy", "both": "both_accuracy"}
    shares |= {f"{factor}, windows": f"window_{factor}_accuracy" for factor in FACTORS}
    columns = shares | {"PSNR, dB": "psnr", "distance": "feature_distance"}

    def row(kind: str) -> tuple[Cell, ...]:
        return KINDS[kind], *(cell(found, f"{kind}_{name}") for name in columns.values())

    note = (
        "What stands for each held-out clip. Action, person: the judge is right, in per cent with 95 % intervals, in which all that stands "
        "for one held-out clip is drawn together; by the mean of its log-probabilities over the windows of 16 frames of a clip, and window "
        "by window. PSNR: a clip is cut into windows side by side, and each is laid on that stretch of as many frames of the real held-out "
        "clip which it fits best, the mean over windows; time is neither stretched nor turned back. Distance: between the mean features of "
        "the judge for the clip and for the real one; 1 is what two clips with neither person nor action in common are apart, in the "
        "median. The second row is what the model makes of the held-out clip itself, the third what the judge makes of real clips: no "
        "transfer can be expected to do better. The last row shows the right person in another action: what PSNR one gets for nothing."
    )
    return Table("transfers", "Actions on persons never seen at them", ("", *columns), tuple(map(row, KINDS)), note)


def _by_pair(cases: Sequence[Case], real: Sequence[Record]) -> Table:
    judged = {tuple(record["held"]): record for record in real}
    rows = list[tuple[Cell, ...]]()
    for held in dict.fromkeys(case.transfer.held for case in cases):
        records = [case.record for case in cases if case.transfer.held == held]
        seen = judged[held.person, held.action]
        means = [sum(float(record[name]) for record in records) / len(records) for name in (*FACTORS, "psnr", "distance")]
        shares, (psnr, distance) = (round(100 * value, 1) for value in means[:2]), means[2:]
        known = " and ".join(factor for factor in FACTORS if seen[factor]) or "neither"
        rows.append((told(held), len(records), *shares, round(psnr, 2), round(distance, 3), known))
    head = ("held out", "transfers", "action, %", "person, %", "PSNR, dB", "distance", "of the real clip the judge knows")
    return Table("pairs", "Pair by pair", head, tuple(rows), "First seed.")


def _summary(lab: Lab, facts: Mapping[str, Any]) -> str:
    runs = "one run without any of them" if lab.size != "paper" else "nine runs, each without one of them"
    seeds = "one seed" if lab.plan.seeds == 1 else f"{lab.plan.seeds} seeds"
    return (
        f"Nine persons at four actions, 36 real clips. Nine pairs of person and action are held out, one of each person and two or three "
        f"of each action ({runs}, {seeds}). In the place of each, clips are made from the static code of another clip of that person and "
        "the movement of another person's clip of that action: both clips were trained on, their combination was not. Of labels the model "
        "is told which clips show the same person in the same clothes, and nothing else. "
        "The judge knows actions by what changes from frame to frame alone, and so not by who is there; it was trained on the real "
        "training clips, and on these in a mirror, without any clip of the nine pairs and without the last tenth of the others. "
        f"On windows of the real held-out clips it knows the action in {accuracy(facts, 'action')} and the "
        f"person in {accuracy(facts, 'person')}; that bounds what it can say of made ones.{doubt(facts)} Four persons wear other clothes "
        "in the jumping jack, or stand in other light: they keep it, and it lends no identity. The videos may not be passed on, nor may "
        "this page."
    )


# Pictures


def _typical(cases: Sequence[Case]) -> Pictures:
    """For each held-out clip the transfer of which the judge is as sure as of half of them."""
    chosen = []
    for held in dict.fromkeys(case.transfer.held for case in cases):
        ranked = sorted((case for case in cases if case.transfer.held == held), key=lambda case: float(case.record["sure"]))
        chosen.append(ranked[len(ranked) // 2])
    return _shown("typical", "A transfer of each pair", chosen, "Of each pair the transfer that the judge finds middling.")


def _worst(cases: Sequence[Case]) -> Pictures:
    ranked = sorted(cases, key=lambda case: float(case.record["sure"]))[:WORST]
    return _shown("worst", "The transfers that went worst", ranked, "Those to whose true person and action the judge gives least.")


def _shown(name: str, title: str, cases: Sequence[Case], note: str) -> Pictures:
    splits = {case.group.run: case.group.splits for case in cases}
    models = {run: Maker(ready(run), part) for run, part in splits.items()}
    examples = [_example(models[case.group.run], case.transfer) for case in cases]
    rows = torch.stack([torch.stack(kind) for kind in zip(*examples, strict=True)])
    labels = [f"{told(case.transfer.held)}: {_verdict(case.record)}" for case in cases]
    whole = f"{note} The middle of each clip; of the real one the stretch that fits best. Above: what was to be made, and the verdict."
    return pictures(name, title, rows, ("person of", "action of", "transferred", "real, held out"), labels, whole)


def _verdict(record: Record) -> str:
    wrong = [factor for factor in FACTORS if not record[factor]]
    return f"wrong {' and '.join(wrong)}" if wrong else "right"


def _example(maker: Maker, transfer: Transfer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows (T, C, H, W) of the clips that lend person and action, of the transfer, and of the real clip where it fits best."""
    steps, splits = maker.splits.train.steps, maker.splits
    identity, motion = (film(splits.train, reel).frames[0] for reel in (transfer.identity, transfer.motion))
    made, real = maker.transferred(transfer), film(splits.test, transfer.held).frames[0]
    window = _middle(made, steps)
    first = int(aligned(window[None], real)[1])
    return _middle(identity, steps), _middle(motion, steps), window, real[first : first + steps]


def _middle(frames: Tensor, steps: int) -> Tensor:
    first = (len(frames) - steps) // 2
    return frames[first : first + steps]
