"""What is measured of a trained model, protocol by protocol, and what each measure needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Generates, Imputes, Remembers, Swaps, require
from stillmotion.core.errors import UserError
from stillmotion.metrics.consistency import consistency
from stillmotion.metrics.dci import dci
from stillmotion.metrics.disagreement import disagreement
from stillmotion.metrics.embedding import embedding
from stillmotion.metrics.entropies import entropies
from stillmotion.metrics.factor_vae import factor_vae
from stillmotion.metrics.figure import Figures, mean
from stillmotion.metrics.frechet import frechet_figures
from stillmotion.metrics.intervention import intervention
from stillmotion.metrics.leakage import Three, leakage, resampled
from stillmotion.metrics.mig import mig
from stillmotion.metrics.modularity import explicitness, modularity
from stillmotion.metrics.pooled import all_codes
from stillmotion.metrics.sap import sap
from stillmotion.metrics.swaps import by_classes, plan_pairs, swap_accuracy
from stillmotion.metrics.two_factor import kept_content, kept_motion
from stillmotion.recipes.bench import Bench, Rebuilt
from stillmotion.recipes.imputation import imputation

MOST_PAIRS = 1000
"""Of few clips all ordered pairs are swapped; of more than this makes, each clip lends its identity once and its movement once."""
MOST_CLASSES = 30
"""Of which swaps are told class by class."""

FEW = {
    1: "it needs measured clips of two classes of a factor",
    2: "it needs measured clips of two classes of two factors, of which neither tells the other",
}

UNNAMED = "name the factors that move with --moving"


@dataclass(frozen=True)
class Measure:
    """A measure: its protocol, how it is taken, and without what it cannot be.

    abilities: of the model. judge: a judge of the data's factors. labels: factors that can be told. moving: it must be said which of
    them move. both: some must move and some stay. finest: how many factors of which the measured clips show two classes and none tells
    another.
    """

    protocol: str
    take: Callable[[Bench], Figures]
    abilities: tuple[type, ...] = (Encodes,)
    judge: bool = False
    labels: bool = False
    moving: bool = False
    both: bool = False
    finest: int = 0

    def lacking(self, bench: Bench) -> str:
        """Why it cannot be taken here; empty where it can."""
        missing = [ability.__name__ for ability in self.abilities if not isinstance(bench.model, ability)]
        if missing:
            return f"the model {bench.model.name} lacks the ability {' and '.join(missing)}"
        if Remembers in self.abilities and not require(bench.model, Remembers).remembers:
            return f"the model {bench.model.name} remembers no training clips"
        if self.judge and bench.judge is None:
            return "it needs a judge"
        if (self.judge or self.labels) and not bench.held.labels:
            return "the clips have no labels"
        if (self.judge and not bench.judged) or (self.labels and not bench.labels):
            return "the measured clips show no class that training clips have too, of any factor with two classes"
        if len(bench.finest) < self.finest:
            return FEW[self.finest]
        if (self.moving or self.both) and not bench.moving:
            return UNNAMED
        factors = bench.judged if self.judge else bench.labels
        if self.both and len({factor in bench.moving for factor in factors}) < 2:
            return "it needs a factor that moves and one that stays"
        return ""


def _reconstruction(bench: Bench) -> Figures:
    """Peak signal-to-noise ratio and structural similarity, through the whole sequence model."""
    return _quality(bench, bench.rebuilt, "sequence")


def _poses(bench: Bench) -> Figures:
    """The same, each frame by its own pose."""
    return _quality(bench, bench.rebuild(bench.poses(), judged=False), "poses")


def _quality(bench: Bench, rebuilt: Rebuilt, way: str) -> Figures:
    noise = bench.generator(way)
    values = {f"psnr_{way}_{bench.split}": rebuilt.psnr, f"ssim_{way}_{bench.split}": rebuilt.ssim}
    return {name: mean(value, noise, bench.clusters) for name, value in values.items() if not bool(value.isnan().all())}


def _consistency(bench: Bench) -> Figures:
    assert bench.rebuilt.verdicts is not None
    return consistency(bench.real, bench.rebuilt.verdicts, bench.generator("consistency"), bench.clusters)


def _swaps(bench: Bench) -> Figures:
    noise = bench.generator("swap")
    pairs = _of_two_files(plan_pairs(len(bench.held), MOST_PAIRS, noise), bench.held.source)
    identity, motion = ({factor: labels[side] for factor, labels in bench.judged.items()} for side in pairs.unbind(1))
    clusters = pairs if bench.clusters is None else bench.clusters[pairs]
    verdicts = bench.swapped(pairs)
    for factor in bench.judged:
        if len(bench.held.classes[factor]) <= MOST_CLASSES:
            bench.tables[f"swap_{factor}"] = _table(by_classes(verdicts, identity, motion, factor, bench.moving), bench, factor)
    return swap_accuracy(verdicts, identity, motion, bench.moving, noise, clusters)


def _of_two_files(pairs: Tensor, source: Tensor | None) -> Tensor:
    """Windows of one file show one identity in one movement: of a swap between them nothing can be told."""
    apart = pairs if source is None else pairs[source[pairs[:, 0]] != source[pairs[:, 1]]]
    if not len(apart):
        raise UserError("measured clips of two files, to swap between them", "those of one", "Hold out more clips when you train.")
    return apart


def _table(shares: Tensor, bench: Bench, factor: str) -> dict[str, Any]:
    cells = [[None if math.isnan(value) else round(value, 4) for value in row] for row in shares.tolist()]
    return {"classes": list(bench.held.classes[factor]), "accuracy": cells}


def _two_factor(source: str) -> Callable[[Bench], Figures]:
    """Both runs of the protocol, with what is sampled from `source`."""

    def take(bench: Bench) -> Figures:
        noise, suffix = bench.generator(f"two_factor {source}"), "" if source == "prior" else f"_{source}"
        content, motion = bench.sampled(source)
        labels, moving, clusters = bench.judged, bench.moving, bench.clusters
        found = kept_motion(content, labels, moving, noise, clusters, suffix)
        return found | kept_content(motion, labels, moving, noise, clusters, suffix)

    return take


def _resampled(bench: Bench) -> Figures:
    content, motion = bench.sampled("prior")
    noise = bench.generator("resampled")
    return resampled(content, motion, bench.judged, moving=bench.moving, generator=noise, clusters=bench.clusters)


def _intervention(bench: Bench) -> Figures:
    (content, motion), noise = bench.sampled("prior"), bench.generator("intervention")
    static, moving = _sides(bench)
    found = intervention("intervention_static", content, bench.judged, moving, noise, bench.clusters)
    return found | intervention("intervention_dynamic", motion, bench.judged, static, noise, bench.clusters)


def _sides(bench: Bench) -> tuple[list[str], list[str]]:
    """The judged factors that stay, and those that move."""
    return [f for f in bench.judged if f not in bench.moving], [f for f in bench.judged if f in bench.moving]


def _disagreement(bench: Bench) -> Figures:
    """The kept code is a posterior sample, the other is drawn from its prior."""
    noise, able, codes = bench.generator("disagreement"), require(bench.model, Swaps), bench.codes("sample")
    new = bench.drawn("prior", "disagreement")
    content, motion = bench.shown(able.swap(new, codes)), bench.shown(able.swap(codes, new))
    static, moving = _sides(bench)
    found = disagreement(bench.real, motion, static, noise, bench.clusters)
    return found | disagreement(bench.real, content, moving, noise, bench.clusters)


def _generation(source: str) -> Callable[[Bench], Figures]:
    """How varied and how clear generated clips are."""

    def take(bench: Bench) -> Figures:
        found = entropies(bench.generated(source), bench.generator(f"generation {source}"))
        return {name + ("" if source == "prior" else f"_{source}"): figure for name, figure in found.items()}

    return take


def _frechet(bench: Bench) -> Figures:
    assert bench.rebuilt.verdicts is not None
    made, real = bench.rebuilt.verdicts.features, bench.real.features
    found = frechet_figures("frechet_judge_reconstruction", made, real, bench.generator("frechet"), bench.clusters, paired=True)
    return {"frechet_judge_floor": bench.floor, **found}


def _frechet_generation(source: str) -> Callable[[Bench], Figures]:
    def take(bench: Bench) -> Figures:
        name = "frechet_judge_generation" + ("" if source == "prior" else f"_{source}")
        made, real = bench.generated(source).features, bench.real.features
        return {"frechet_judge_floor": bench.floor, **frechet_figures(name, made, real, bench.generator(name), bench.clusters)}

    return take


def _leakage(way: Literal["mean", "sample"]) -> Callable[[Bench], Figures]:
    """Probes of every code for every factor: fitted on training clips, chosen on validation clips, told of the measured ones."""

    def take(bench: Bench) -> Figures:
        train, validation, test = bench.pooled(way)
        labels = Three(bench.told(0), bench.told(1), bench.told(2))
        noise = bench.generator(f"leakage {way}")
        return leakage(train, validation, test, labels, moving=bench.moving, way=way, generator=noise, clusters=bench.clusters)

    return take


def _embedding(bench: Bench) -> Figures:
    train, _, test = bench.pooled("mean")
    return embedding(train, test, bench.told(0), bench.told(2), generator=bench.generator("embedding"), clusters=bench.clusters)


def _of_codes(score: Callable[..., Figures], fitted: bool) -> Callable[[Bench], Figures]:
    """A score of all codes side by side; `fitted`: something is learned from training clips first."""

    def take(bench: Bench) -> Figures:
        train, _, test = (all_codes(part) for part in bench.pooled("mean"))
        finest = bench.finest
        labels = [{factor: bench.told(part)[factor] for factor in finest} for part in (0, 2)]
        arguments = (train, labels[0], test, labels[1]) if fitted else (test, labels[1])
        return score(*arguments, bench.generator(score.__name__), clusters=bench.clusters)

    return take


JUDGED: tuple[type, ...] = (Encodes, Decodes)
DRAWN: tuple[type, ...] = (Generates, Swaps)
REMEMBERED: tuple[type, ...] = (Remembers, Swaps)

MEASURES: dict[str, Measure] = {
    "reconstruction": Measure("reconstruction", _reconstruction, JUDGED),
    "reconstruction by poses": Measure("reconstruction", _poses, (EncodesFrames, Decodes)),
    "swaps": Measure("swap", _swaps, (Swaps,), judge=True, moving=True),
    "two factors": Measure("two_factor", _two_factor("prior"), DRAWN, judge=True, both=True),
    "two factors, aggregate posterior": Measure("two_factor", _two_factor("aggregate"), REMEMBERED, judge=True, both=True),
    "resampling": Measure("leakage", _resampled, DRAWN, judge=True, both=True),
    "leakage of means": Measure("leakage", _leakage("mean"), labels=True, moving=True),
    "leakage of samples": Measure("leakage", _leakage("sample"), labels=True, moving=True),
    "consistency": Measure("vdsm", _consistency, JUDGED, judge=True),
    "embedding accuracy": Measure("vdsm", _embedding, labels=True, moving=True),
    "entropies": Measure("vdsm", _generation("prior"), (Generates, Decodes), judge=True),
    "entropies, aggregate posterior": Measure("vdsm", _generation("aggregate"), (Remembers, Decodes), judge=True),
    "disagreement": Measure("dsa_report", _disagreement, DRAWN, judge=True, both=True),
    "intervention": Measure("benchmark", _intervention, DRAWN, judge=True, both=True),
    "MIG": Measure("benchmark", _of_codes(mig, fitted=False), labels=True, finest=1),
    "SAP": Measure("benchmark", _of_codes(sap, fitted=True), labels=True, finest=1),
    "DCI": Measure("benchmark", _of_codes(dci, fitted=True), labels=True, finest=2),
    "modularity": Measure("benchmark", _of_codes(modularity, fitted=False), labels=True, finest=2),
    "explicitness": Measure("benchmark", _of_codes(explicitness, fitted=True), labels=True, finest=1),
    "FactorVAE score": Measure("benchmark", _of_codes(factor_vae, fitted=True), labels=True, finest=2),
    "Fréchet distance of reconstructions": Measure("frechet_judge", _frechet, JUDGED, judge=True),
    "Fréchet distance of new clips": Measure("frechet_judge", _frechet_generation("prior"), (Generates, Decodes), judge=True),
    "Fréchet distance of new clips, aggregate posterior": Measure(
        "frechet_judge", _frechet_generation("aggregate"), (Remembers, Decodes), judge=True),
    "imputation": Measure("imputation", imputation, (Imputes,)),
}  # fmt: skip
