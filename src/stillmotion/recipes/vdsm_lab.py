"""What the reproduction of the VDSM paper works with: one data set, its runs, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from stillmotion.metrics.consistency import consistency
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.judge import Verdicts
from stillmotion.recipes import vdsm
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.extras import Extras, extra_measures
from stillmotion.recipes.judged_lab import JudgedLab
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.training.settings import Run

POOLED = "consistency by a pooled judge"
WHOLE = (
    "reconstruction", "reconstruction by poses", "consistency", "embedding accuracy", "leakage of means", "leakage of samples",
    "resampling", "swaps", "two factors", "two factors, aggregate posterior", "entropies", "entropies, aggregate posterior",
    "Fréchet distance of reconstructions", "Fréchet distance of new clips", "Fréchet distance of new clips, aggregate posterior",
)  # fmt: skip
FIVE = ("body", "topwear", "bottomwear", "hair", "action")
"""The attributes that the paper asks for."""
FIVE_MEAN = "consistency_five_mean"


class Lab(JudgedLab):
    """Of the version of Sprites, or the faces, that `source` names."""

    @property
    def size(self) -> vdsm.Size:
        """Of the runs."""
        return cast(vdsm.Size, super().size)

    def run(self, seed: int) -> Run:
        """The recipe on this data."""
        return vdsm.of(self.source, self.size, seed=seed)

    @property
    def asked(self) -> tuple[str, ...]:
        """What is measured of every run. A pooled judge takes as long as the judge of the data, for each run: size paper has it alone."""
        return (*WHOLE, POOLED) if self.size == "paper" else WHOLE

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Those of `stillmotion evaluate`, and the consistency of the released notebooks."""
        return {**MEASURES, **extra_measures(Extras(pooled_judge=True), self.run(0))[1]}

    def taken(self, bench: Bench, names: Sequence[str]) -> Figures:
        """The figures of all measures that can be taken, and with the consistency of Sprites its mean over the attributes of the paper."""
        found = super().taken(bench, names)
        return {**found, **mean_of_five(bench)} if f"consistency_{FIVE[0]}" in found else found


def mean_of_five(bench: Bench) -> Figures:
    """`consistency_five_mean`: over FIVE, the paper's mean; `consistency_mean` is over all factors of the judge."""
    assert bench.rebuilt.verdicts is not None
    real, rebuilt = _of_five(bench.real), _of_five(bench.rebuilt.verdicts)
    found = consistency(real, rebuilt, bench.generator("consistency of five"), bench.clusters)
    return {FIVE_MEAN: found["consistency_mean"]}


def _of_five(verdicts: Verdicts) -> Verdicts:
    return Verdicts({factor: verdicts.logits[factor] for factor in FIVE}, verdicts.features)
