"""The questions that the VDSM documents leave open, each answered on Sprites by a short run that differs from one base run in one thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch

from stillmotion.core.abilities import Model
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Cell, Page, Table
from stillmotion.metrics.figure import Figure, Figures, mean
from stillmotion.models.vdsm_config import VDSMConfig
from stillmotion.recipes.cells import number
from stillmotion.recipes.judged_lab import CHARACTER, JudgedLab
from stillmotion.recipes.lab import over_seeds
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.recipes.override import override
from stillmotion.recipes.reproduce import Plan, Reproduced
from stillmotion.recipes.vdsm import (
    CHEAP,
    CHEAPER,
    DEAR,
    FALLING,
    LAMBDA_Z_RELEASED,
    LAMBDA_Z_SEQUENCE,
    PRESSED,
    Size,
    in_order,
    scrambled,
    sprites,
)
from stillmotion.training.schedules import Schedule, constant
from stillmotion.training.settings import Part, Run

Change: TypeAlias = Callable[[Run], Run]

SOURCE = Part(name="sprites", options={"version": "vdsm"})
SHARE = 0.1
"""Of the steps of each stage of the recipe."""
CHARACTERS = {"quick": (12, 3), "laptop": (None, 50), "paper": (None, 50)}
"""Training characters that probes may be fitted on, and validation characters that are measured, nine clips each."""
MEASURED = ("reconstruction", "consistency", "swaps", "leakage of means", "leakage of samples", "bound")
BOUND = "elbo_sequence_validation"
ATTRIBUTES = ("body", "bottomwear", "topwear", "hair")
LATER = ("dynamic_prior", "dynamic_input")
"""Options of the model that stage one does not read, nor the weights it starts from: it ends in the same weights whatever they are."""
OTHER_SEED = 1000
"""Between the seed of a run and that of its repetition."""
PIECES = ("consistency_", "swap_", "probe_", "leak_", "psnr_", "elbo_")
"""Beginnings of the names of figures; the key of a run is put behind them."""


def options(**model: Any) -> Change:
    """The run with these options of the model."""
    return lambda run: override(run, {"model": model})


def stages(**changes: dict[str, Any]) -> Change:
    """The run with these settings of its stages, stage -> settings."""
    return lambda run: override(run, {"stages": changes})


def unchanged(run: Run) -> Run:
    """The run as it is."""
    return run


def another_seed(run: Run) -> Run:
    """The same run by another seed, none of those that are asked for."""
    return run.model_copy(update={"seed": run.seed + OTHER_SEED})


def released_weights(run: Run) -> Run:
    """lambda_z on the released splines, in both stages."""
    return stages(
        poses={"schedules": {"path_kl": LAMBDA_Z_RELEASED.model_dump(mode="json")}},
        sequence={"schedules": {"path_kl": LAMBDA_Z_SEQUENCE.model_dump(mode="json")}},
    )(run)


def weighing_poses(weight: Schedule) -> Change:
    """lambda_z of stage one."""
    return stages(poses={"schedules": {"path_kl": weight.model_dump(mode="json")}})


def scrambled_colours(run: Run) -> Run:
    """Poses are read off frames in scrambled colours."""
    return options(recolour=1.0)(scrambled(run))


def weighing_d(weight: Schedule) -> Change:
    """This weight of the divergence of d where paths are learned; in stage two where it ends."""
    first, last = ({"schedules": {"dynamic_kl": each.model_dump(mode="json")}} for each in (weight, constant(weight(1))))
    return stages(paths=first, sequence=last)


def weighing_s(factor: float) -> Change:
    """The divergence of s weighs this many times as much, in both stages."""

    def change(run: Run) -> Run:
        parts = {stage.name: stage.schedules["static_kl"].times(factor) for stage in run.stages if "static_kl" in stage.schedules}
        return stages(**{name: {"schedules": {"static_kl": each.model_dump(mode="json")}} for name, each in parts.items()})(run)

    return change


def at_once(run: Run) -> Run:
    """Everything is learned in stage two, for as many steps, by the optimiser, at the rate and by the schedules of the stages before."""
    poses, paths, sequence = run.stages
    earlier = {**poses.schedules, "dynamic_kl": paths.schedules["dynamic_kl"], "path_kl": sequence.schedules["path_kl"]}
    whole = sequence.model_copy(update={
        "trains": ("encoder", "decoder", "heads", "sequence", "flows"), "steps": sum(stage.steps for stage in run.stages),
        "optimiser": poses.optimiser, "learning_rate": poses.learning_rate, "schedules": earlier,
    })  # fmt: skip
    return run.model_copy(update={"stages": (whole,)})


def without_paths(run: Run) -> Run:
    """Stage two follows stage one, and has the steps of the stage between them."""
    poses, paths, sequence = run.stages
    return run.model_copy(update={"stages": (poses, sequence.model_copy(update={"steps": paths.steps + sequence.steps}))})


def single_groups(run: Run) -> Run:
    """A group is one clip, of which as many frames are drawn; where codes are crossed, between halves of it. In stage two as many clips."""
    alone = {"group_by": None, "clips_per_group": 1}
    return stages(poses={"feed": alone}, sequence={"feed": {**alone, "batch": clips_in_stage_two(run)}})(run)


def clips_in_stage_two(run: Run) -> int:
    """Clips in a batch of stage two."""
    feed = run.stages[-1].feed
    return feed.batch * feed.clips_per_group


def crossed(run: Run) -> Run:
    """Static codes are crossed in both stages: stage two, too, reads pairs of clips of a character, as many clips in all."""
    pairs = {"feed": {"batch": max(1, clips_in_stage_two(run) // 2), "group_by": CHARACTER, "clips_per_group": 2}}
    return options(crossed=True)(stages(sequence=pairs)(run))


def crossed_at_first(run: Run) -> Run:
    """Static codes are crossed in stage one alone."""
    return options(crossed=True)(uncrossed(run))


def uncrossed(run: Run) -> Run:
    """No code is crossed, and stage two reads single clips."""
    alone = {"feed": {"batch": clips_in_stage_two(run), "group_by": None, "clips_per_group": 1}}
    return options(crossed=False)(stages(sequence=alone)(run))


@dataclass(frozen=True)
class Question:
    """label: what is asked. answers: name -> the change that gives it; the first that the base run does not give is tried."""

    label: str
    answers: Mapping[str, Change]

    def other(self, base: Run) -> tuple[str, Run]:
        """What is tried beside the base run."""
        tried = [(name, change(base)) for name, change in self.answers.items()]
        return next(((name, run) for name, run in tried if not alike(run, base)), tried[0])


TAUGHT = {"taught": "heads", "not taught": "static_heads"}
RECIPE = "as in the base run"
QUESTIONS: dict[str, Question] = {
    "again": Question("seed", {"another": another_seed, RECIPE: unchanged}),
    "encoder": Question("encoder", {"linear": options(encoder_slope=1.0), "real": options(encoder_slope=0.2)}),
    "mean_slope": Question("means of s and d", {"through a LeakyReLU": options(mean_slope=0.01), "as they are": options(mean_slope=1.0)}),
    "prior_scale": Question(
        "1/N_s in the prior of s", {"its deviation": options(prior_scale="deviation"), "its variance": options(prior_scale="variance")}
    ),
    "decoder_input": Question(
        "the decoder sees", {"its softmax": options(decoder_input="mixture"), "s in units of its prior": options(decoder_input="units")}
    ),
    "decoder_static": Question("the decoder sees", {"s": options(decoder_input="static"), RECIPE: unchanged}),
    "scrambled": Question("recoloured frames are", {"mixed": in_order, "scrambled": scrambled_colours}),
    "dynamic_prior": Question(
        "deviation of the prior of d", {"1/kappa_d": options(dynamic_prior="released"), "1": options(dynamic_prior="unit")}
    ),
    "frozen": Question("heads in stage two", {"frozen": stages(sequence={"trains": ["f_s", "sequence", "flows"]}), RECIPE: unchanged}),
    "pose_head": Question(
        "pose head in stage two", {f"{word} on": stages(sequence={"trains": [part, "sequence", "flows"]}) for word, part in TAUGHT.items()}
    ),
    "dynamic_kl": Question("divergence of d is weighted", {"up to 1": weighing_d(CHEAP), "up to 4": weighing_d(DEAR)}),
    "dynamic": Question("numbers in d", {f"{count}": options(dynamic=count) for count in (50, 8)}),
    "static_kl": Question("divergence of s is weighted", {"in full": weighing_s(1 / CHEAPER), RECIPE: unchanged}),
    "grids": Question(
        "means of s and d", {f"{s:g} and {d:g} apart": options(static_grid=s, dynamic_grid=d) for s, d in ((0.0, 0.0), (0.1, 0.5))}
    ),
    "lambda_z": Question("lambda_z", {"released splines": released_weights, RECIPE: unchanged}),
    "falling": Question("lambda_z of stage one", {"from 30 to 1": weighing_poses(FALLING), "between 2 and 3": weighing_poses(PRESSED)}),
    "single_decoder": Question("decoders", {"one": options(single_decoder=True), "many": options(single_decoder=False)}),
    "iaf": Question("q(z)", {"with flows": options(posterior="iaf"), "Gaussian": options(posterior="gaussian")}),
    "optimiser": Question("stage one by", {name.title(): stages(poses={"optimiser": name}) for name in ("adam", "muon")}),
    "paths": Question("stage of paths", {"left out": without_paths, RECIPE: unchanged}),
    "at_once": Question("stage one", {"left out": at_once, RECIPE: unchanged}),
    "single_groups": Question("actions in a group", {"one": single_groups, RECIPE: unchanged}),
    "uncrossed": Question("static codes", {"not crossed": uncrossed, "crossed": crossed}),
    "crossed_at_first": Question("static codes", {"crossed in stage one alone": crossed_at_first, RECIPE: unchanged}),
    "recolour": Question("poses are read off", {"frames as they are": options(recolour=0.0), "recoloured frames": options(recolour=1.0)}),
    "dynamic_input": Question(
        "q(d | x) reads", {"samples of poses": options(dynamic_input="samples"), "means of poses": options(dynamic_input="means")}
    ),
}  # fmt: skip

COLUMNS: dict[str, tuple[str, ...]] = {
    "consistency, attributes %": tuple(f"consistency_{part}" for part in ATTRIBUTES),
    "consistency, action %": ("consistency_action",),
    "swap, stays %": ("swap_static_accuracy",), "swap, moves %": ("swap_dynamic_accuracy",),
    "s tells attributes, samples %": tuple(f"probe_static_{part}_sample" for part in ATTRIBUTES),
    "d tells action, samples %": ("probe_dynamic_action_sample",),
    **{f"s tells action, {way}s %": (f"leak_static_to_action_{way}",) for way in ("mean", "sample")},
    **{
        f"{code[0]} tells attributes, {way}s %": tuple(f"leak_{code[1]}_to_{part}_{way}" for part in ATTRIBUTES)
        for code in (("d", "dynamic"), ("path", "path")) for way in ("mean", "sample")
    },
    "PSNR, dB": ("psnr_sequence_validation",), "bound, nats": (BOUND,),
}  # fmt: skip
"""Heading -> figures, whose mean is shown; of probes the better one."""


class Lab(JudgedLab):
    """Measures on validation clips: what is chosen by these answers has not seen the test clips."""

    @property
    def size(self) -> Size:
        """Of the runs."""
        return cast(Size, super().size)

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Those of `stillmotion evaluate`, and the bound."""
        return {**MEASURES, "bound": Measure("likelihood", lambda bench: {BOUND: bound(bench.model, bench.held)})}

    def compare(self, run: Path) -> Figures:
        """Figures of clips of characters that were not trained on; measured once for the same weights."""
        return self.measure_of(run, MEASURED, (*CHARACTERS[self.size], 0))


def reproduce(folder: Path, plan: Plan) -> Reproduced:
    """The open questions of the VDSM documents, each answered by a short run on Sprites."""
    lab = Lab(folder, plan, source=SOURCE)
    judge = lab.told_of_judge  # before anything is trained: without a good one nothing can be measured
    answers, runs = tried(lab), {}
    for key in answers:
        runs[key] = [_train(lab, key, seed) for seed in range(plan.seeds)]
    found = {key: over_seeds([lab.compare(run) for run in each]) for key, each in runs.items()}
    page = Page("VDSM: questions that the documents leave open", _summary(lab), (table(found, answers), lab.runs_table("runs")))
    figures = {named: figure for key, each in found.items() for name, figure in each.items() if (named := of_run(key, name))}
    return Reproduced(page, figures | {name: figure for name, figure in found["base"].items() if name.startswith("chance_")}, {}, judge)


def base_run(lab: Lab, seed: int = 0) -> Run:
    """The recipe for Sprites with a share of the steps of each stage."""
    run = sprites(lab.size, data=dict(lab.source.options), seed=seed)
    shorter = {stage.name: {"steps": max(1, round(SHARE * stage.steps))} for stage in run.stages}
    return override(run, {"stages": shorter})


def tried(lab: Lab) -> dict[str, tuple[str, str]]:
    """Key of each run -> what it asks and which answer it tries, the base run first."""
    base = base_run(lab)
    return {"base": ("base run", "")} | {key: (each.label, each.other(base)[0]) for key, each in QUESTIONS.items()}


def _train(lab: Lab, key: str, seed: int) -> Path:
    """The run of a question; the base run where the question changes nothing. It goes on from the base run's stage one if it shares it."""
    base = base_run(lab, seed)
    run = base if key == "base" else QUESTIONS[key].other(base)[1]
    if key != "base" and alike(run, base):
        return lab.trained[f"base_{seed}"]
    if not alike(stage_one(run), stage_one(base)):
        return lab.train(f"{key}_{seed}", run)
    name = f"base_{seed}_{base.stages[0].name}"
    begun = lab.train(name, stage_one(base))
    del lab.trained[name]  # its minutes are in those of the runs that go on from it
    return lab.train(f"{key}_{seed}", run, begun)


def stage_one(run: Run) -> Run:
    """A run that ends where stage one of this one ends, with the same weights."""
    read = {name: value for name, value in run.model.options.items() if name not in LATER}
    return run.model_copy(update={"stages": run.stages[:1], "model": run.model.model_copy(update={"options": read})})


def alike(one: Run, other: Run) -> bool:
    """Whether two runs of a VDSM end in the same weights: the same with all defaults written out."""
    settled = (override(run, {"model": VDSMConfig.model_validate(run.model.options).model_dump(mode="json")}) for run in (one, other))
    return next(settled) == next(settled)


@torch.inference_mode()
def bound(model: Model, clips: ClipSet) -> Figure:
    """The evidence lower bound of whole clips by one draw of the codes, in nats per clip; the interval draws characters."""
    noise, device = torch.Generator(), next(model.parameters()).device
    draw = torch.Generator(device).manual_seed(seed_of("bound"))
    who = clips.labels[CHARACTER]
    parts = [(who == one).nonzero()[:, 0] for one in torch.unique(who)]
    values = torch.stack([model.loss(clips.clips(part).to(device), {}, draw).elbo for part in parts]).cpu()
    weights = torch.tensor([len(part) for part in parts])
    noise.manual_seed(seed_of("bound interval"))
    return replace(mean(values.repeat_interleave(weights), noise, torch.arange(len(parts)).repeat_interleave(weights)), clips=len(clips))


def of_run(key: str, name: str) -> str | None:
    """The name of a run's figure: `leak_uncrossed_static_to_action_sample`; None for those that are not kept."""
    piece = next((piece for piece in PIECES if name.startswith(piece)), None)
    kept = any(name.removesuffix("_mlp") in names for names in COLUMNS.values()) or name.startswith("leak_static_to_action_direction")
    return f"{piece}{key}_{name.removeprefix(piece)}" if piece and kept else None


def table(found: Mapping[str, Figures], answers: Mapping[str, tuple[str, str]]) -> Table:
    """A row for each run. found: key -> figures. answers: key -> question and answer."""
    rows = tuple((*answers[key], *(_cell(figures, names) for names in COLUMNS.values())) for key, figures in found.items())
    return Table("questions", "Open questions", ("question", "tried", *COLUMNS), rows, _note(found["base"]))


def _cell(figures: Figures, names: tuple[str, ...]) -> Cell:
    values = [_better(figures, name) for name in names if name in figures]
    return number(names[0], sum(values) / len(values)) if len(values) == len(names) else None


def _better(figures: Figures, name: str) -> float:
    """Of a probe the better one of the linear one and the network, which is what a code gives away at least."""
    return max(figures[each].value for each in (name, f"{name}_mlp") if each in figures)


def _note(base: Figures) -> str:
    action, parts = _cell(base, ("chance_action",)), _cell(base, tuple(f"chance_{part}" for part in ATTRIBUTES))
    return (
        "Each run differs from the base run in what is tried, and in nothing else. Attributes: the mean over body, bottomwear, topwear and "
        "hair; action: walk, cast or slash. Consistency: of reconstructions, by the judge. Swap, stays: all attributes right at once; "
        "moves: action and direction. Tells: the better of a linear probe and a small network, on posterior means and on samples; s "
        f"should not know the action (chance {action} %), d and path should not know attributes (chance {parts} %). Bound: with weights "
        "of 1, one draw. Intervals are in results.json. A difference no larger than that of another seed answers nothing."
    )


def _summary(lab: Lab) -> str:
    steps = ", ".join(f"{stage.steps:,}" for stage in base_run(lab).stages)
    seeds = "One seed" if lab.plan.seeds == 1 else f"{lab.plan.seeds} seeds"
    measured = 9 * (CHARACTERS[lab.size][1] or 0)
    return (
        f"{seeds} of each run, {steps} steps of its stages (poses, paths, sequence), which is {100 * SHARE:.0f} % of the recipe: "
        f"short runs compare answers and do not say how good a model gets. Sprites in the version of the paper, measured on {measured} "
        "validation clips of characters that neither models nor judge were trained on; the test characters stay unseen."
    )
