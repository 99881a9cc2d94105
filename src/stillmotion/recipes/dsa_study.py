"""The report on the disentangled sequential autoencoder (Leplae-Arthur and Nichani), sections 5 and 6, on standard Sprites.

What it shows is here with what it could not do: several seeds, a judge that is sure, both posteriors, swaps, two factors, leaks both ways,
and action and direction told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillmotion.core.abilities import Model
from stillmotion.metrics.exhibits import Exhibit, Page
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.models.dsa import DSAConfig
from stillmotion.recipes.dsa import REPORT, sprites
from stillmotion.recipes.dsa_lab import SHORT, WHOLE, Lab
from stillmotion.recipes.dsa_pictures import derailed, direction, from_priors, mixing, new_static, reconstructions, sizes_of_static
from stillmotion.recipes.dsa_tables import (
    ROWS,
    beta_table,
    disagreement_table,
    leak_table,
    models_table,
    published_share,
    swap_table,
    two_factor_table,
)
from stillmotion.recipes.lab import load, over_seeds
from stillmotion.recipes.override import override
from stillmotion.recipes.reproduce import Plan, Reproduced
from stillmotion.training.runs import read_run
from stillmotion.training.settings import Run


@dataclass(frozen=True)
class Variant:
    """A model that is compared with others of its length. beta: on both divergences. model: options that differ from the recipe's."""

    label: str
    beta: float = 1.0
    model: Mapping[str, Any] = field(default_factory=dict)


BETAS = {f"beta{beta}": Variant(f"beta {beta}", beta) for beta in (1, 6, 150)}
SHAPES = {
    "factorised": Variant("factorised, f of 32", model={"static": 32}),
    "full": Variant("full posterior, f of 32", model={"static": 32, "posterior": "full"}),
    "static256": Variant("factorised, f of 256", model={"static": 256}),
}
STACKS = {"stack": Variant("networks of the report", model={**REPORT, "static": 32})}
"""These have five times the work of the small ones, and are there at size paper alone."""
SHARE = {"quick": 0.2, "laptop": 0.1, "paper": 1.0}
"""Of the steps of the main model after those of the path alone, for which each variant is trained."""
PIXELS = {"quick": 0.5, "laptop": 0.5, "paper": 1.0}
"""Deviation of the pixels of variants. What beta means depends on it: beta b at deviation d is beta b d^2 at 1, the report's. At the .2
of the main model 1 and 6 are too little to tell apart.
"""
CHARACTERS = {"quick": None, "laptop": 100, "paper": None}
"""Test characters that variants are measured on; None for all. The main model is measured on all."""
SEED = 0
"""Of the variants."""
KEPT = ("disagreement_kl_", "disagreement_", "swap_", "two_factor_accuracy_", "psnr_", "kl_")
"""Figures of variants that are written down; their names get the key of the variant after these words."""


def reproduce(folder: Path, plan: Plan) -> Reproduced:
    """The report on DSA: tables 1 and 2 and figures 6 to 14 on standard Sprites, with swaps, leaks and both posteriors."""
    lab = Lab(folder, plan)
    judge = lab.told_of_judge  # before anything is trained: without a good one nothing can be measured
    main = [lab.train(f"main_{seed}", sprites(lab.size, seed=seed)) for seed in range(plan.seeds)]
    runs = {key: _train(lab, key, variant) for key, variant in _variants(lab).items()}
    whole = over_seeds([lab.measure(run, WHOLE) for run in main])
    compared = {key: lab.measure(run, SHORT, CHARACTERS[lab.size]) for key, run in runs.items()}
    exhibits = [*_tables(lab, whole, compared), *_figures(lab, load(main[0]), runs), lab.runs_table("runs")]
    page = Page("The disentangled sequential autoencoder on Sprites", _summary(lab), tuple(exhibits))
    figures = whole | order(compared)
    for key, found in compared.items():
        figures |= {named: figure for name, figure in found.items() if (named := of_variant(key, name))}
    return Reproduced(page, figures, _paper(figures), judge)


def _variants(lab: Lab) -> dict[str, Variant]:
    return BETAS | SHAPES | (STACKS if lab.size == "paper" else {})


def _train(lab: Lab, key: str, variant: Variant) -> Path:
    """The run of a variant; that of the same settings, where there is one already."""
    run = sprites(lab.size, beta=variant.beta, share=SHARE[lab.size], seed=SEED, pixel_scale=PIXELS[lab.size], **variant.model)
    same = [folder for folder in lab.trained.values() if _alike(read_run(folder), run)]
    return same[0] if same else lab.train(key, run)


def _alike(one: Run, other: Run) -> bool:
    """Whether two runs end in the same weights."""
    return _settled(one) == _settled(other)


def _settled(run: Run) -> Run:
    """With all options of the model, and as it was asked for."""
    options = DSAConfig.model_validate(run.model.options).model_dump(mode="json")
    return override(run, {"precision": "auto", "model": options})


def _tables(lab: Lab, whole: Figures, compared: Mapping[str, Figures]) -> list[Exhibit]:
    variants = _variants(lab)
    betas = {variants[key].label: compared[key] for key in BETAS}
    steps = {variant.label: _steps(lab, SHARE[lab.size]) for variant in variants.values()}
    by_label = {variants[key].label: found for key, found in compared.items()}
    return [
        disagreement_table(whole), swap_table(whole), two_factor_table(whole), leak_table(whole),
        beta_table(betas, f"{_length(lab)} In the report the deviation of the pixels is 1."),
        models_table(by_label, steps),
    ]  # fmt: skip


def _figures(lab: Lab, main: Model, runs: Mapping[str, Path]) -> list[Exhibit]:
    clips, six = lab.splits.test, load(runs["beta6"])
    sizes = {SHAPES[key].label: load(runs[key]) for key in ("factorised", "static256")}
    betas = {variant.label: load(runs[key]) for key, variant in BETAS.items()}
    return [
        mixing("figure_6", "Figure 6: identities and movements mixed", main, clips),
        direction(main, clips),
        new_static("figure_8", "Figure 8: f drawn, the path kept", main, clips),
        from_priors(main, clips.steps),
        *derailed(main, clips),
        sizes_of_static(sizes, clips),
        reconstructions(betas, clips),
        mixing("figure_13", "Figure 13: mixed, at beta 6", six, clips),
        new_static("figure_14", "Figure 14: f drawn, the path kept, at beta 6", six, clips),
    ]


def of_variant(key: str, name: str) -> str | None:
    """The name of a variant's figure: `disagreement_beta6_body`; None for those that are not kept."""
    start = next((start for start in KEPT if name.startswith(start)), None)
    return None if start is None or "_random_" in name else f"{start}{key}_{name.removeprefix(start)}"


def order(compared: Mapping[str, Figures]) -> Figures:
    """Share of the rows of table 2 in which the clips of a smaller beta disagree less: `order_beta1_below_beta6`.

    Rows in which no clip of either disagrees say nothing of the order and are left out; without any other, so is the share.
    """
    found = {}
    for small, large in (("beta1", "beta6"), ("beta6", "beta150")):
        pairs = [(compared[small][name], compared[large][name]) for name in (f"disagreement_{factor}" for factor in ROWS.values())]
        telling = [(one, other) for one, other in pairs if one.value or other.value]
        if telling:
            share = sum(one.value < other.value for one, other in telling) / len(telling)
            found[f"order_{small}_below_{large}"] = Figure(share, share, share, telling[0][0].clips)
    return found


def _paper(figures: Figures) -> dict[str, float]:
    """Published values of what was measured as there; KL was not, as it is that of another judge."""
    known = published_share("DSVAE") | published_share("DSA")
    known |= {named: value for name, value in published_share("DSA, beta = 6").items() if (named := of_variant("beta6", name))}
    return {name: value for name, value in known.items() if name in figures}


def _steps(lab: Lab, share: float = 1.0) -> int:
    """Steps that see frames."""
    return sum(stage.steps for stage in sprites(lab.size, share=share).stages if stage.objective != "dynamics")


def _length(lab: Lab) -> str:
    """How the variants were trained, and on what they are measured."""
    measured = CHARACTERS[lab.size]
    few = "" if measured is None else f" Measured on {measured} of the 296 test characters."
    pixels = DSAConfig.model_validate(sprites(lab.size).model.options).pixel_scale
    return (
        f"Seed {SEED}, {_steps(lab, SHARE[lab.size]):,} steps each (the main model: {_steps(lab):,}), Gaussian pixels of deviation "
        f"{PIXELS[lab.size]:g} (the main model: {pixels:g}).{few}"
    )


def _summary(lab: Lab) -> str:
    seeds = "one seed" if lab.plan.seeds == 1 else f"{lab.plan.seeds} seeds"
    return (
        "A static code f for who is seen, a path z for how it moves: 1,000 characters, 100 of them set aside for validation, and 296 that "
        f"no model and no judge was trained on. Tables without another word are of the main model, {seeds}; pictures of its first seed. "
        f"Models that are compared with one another: {_length(lab)[0].lower()}{_length(lab)[1:]}"
    )
