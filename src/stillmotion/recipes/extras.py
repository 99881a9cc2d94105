"""What is measured only on demand: distances on Kinetics features, and consistency the way of VDSM's released notebooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stillmotion.core.abilities import Decodes, Encodes, Generates, Remembers
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.consistency import consistency
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.frechet import frechet_figures, frechet_floor
from stillmotion.metrics.judge import Judges
from stillmotion.metrics.judge_files import load_judge
from stillmotion.metrics.kinetics import KineticsFeatures
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.judge import judge_run, train_judge
from stillmotion.recipes.measures import Measure
from stillmotion.training.loop import Interrupted
from stillmotion.training.machine import choose_device
from stillmotion.training.settings import Part, Run

KINETICS_CLIPS = 1000
"""As many as the VDSM paper took."""
POOL_TRAINED = 0.7
"""Share of the pool that the notebooks draw for training, and of which the rest is drawn for the test: with replacement, both."""


ON_DEMAND = {"vdsm_released": "--pooled-judge", "frechet_kinetics": "--kinetics FILE"}
"""Protocols that are measured when they are asked for, and how."""


class Extras(NamedTuple):
    """kinetics: the weight file of the 3D ResNeXt-101, kinetics_sha256 what it must hash to. pooled_judge: see `_pooled`."""

    kinetics: Path | None = None
    kinetics_sha256: str | None = None
    pooled_judge: bool = False

    def asks_for(self, protocol: str) -> bool:
        """Whether a protocol of ON_DEMAND is to be measured."""
        return self.pooled_judge if protocol == "vdsm_released" else self.kinetics is not None


PLAIN = Extras()


def extra_measures(extras: Extras, run: Run) -> tuple[dict[str, Any], dict[str, Measure]]:
    """What results.json tells of the extras, and the measures asked for.

    Raises FileRefused for a weight file that is missing, of another hash or of another network.
    """
    found = {}
    told: dict[str, Any] = {"kinetics": None, "pooled_judge": extras.pooled_judge}
    if extras.pooled_judge:
        found["consistency by a pooled judge"] = Measure("vdsm_released", _pooled(run), (Encodes, Decodes), labels=True)
    if extras.kinetics is not None:
        features = KineticsFeatures(extras.kinetics, extras.kinetics_sha256, device=choose_device("auto"))
        told["kinetics"] = {"file": extras.kinetics.name, "sha256": features.sha256}
        found["Fréchet distance on Kinetics features"] = Measure("frechet_kinetics", _kinetics(features), (Encodes, Decodes))
    return told, found


def _kinetics(features: KineticsFeatures) -> Callable[[Bench], Figures]:
    """Of reconstructions, and of new clips from the priors, on at most 1,000 clips: the published number."""

    def take(bench: Bench) -> Figures:
        noise = bench.generator("kinetics")
        # drawn, as even steps through clips in the order of their classes may miss some of these
        pick = torch.randperm(len(bench.held), generator=noise)[:KINETICS_CLIPS].sort().values
        clusters = None if bench.clusters is None else bench.clusters[pick]
        _enough(len(pick), clusters)
        real = _features(features, bench, len(pick), lambda part: bench.held.clips(pick[part]))
        codes = bench.codes()[pick]
        made = _features(features, bench, len(pick), lambda part: bench.decoded(codes[part]))
        found = {"frechet_kinetics_floor": frechet_floor(real, len(pick), noise, clusters)}
        found |= frechet_figures("frechet_kinetics_reconstruction", made, real, noise, clusters, paired=True)
        for source, ability in (("prior", Generates), ("aggregate", Remembers)):
            if isinstance(bench.model, ability) and (source == "prior" or bench.model.remembers):
                drawn = bench.drawn(source, "kinetics")
                made = _features(features, bench, len(pick), lambda part, drawn=drawn: bench.decoded(drawn[part]))
                name = "frechet_kinetics_generation" + ("" if source == "prior" else f"_{source}")
                found |= frechet_figures(name, made, real, noise, clusters)
        return found

    return take


def _enough(clips: int, clusters: Tensor | None) -> None:
    """Refuses, before minutes are spent on features, what the distances would refuse."""
    units = clips if clusters is None else len(set(clusters.tolist()))
    if clips < 4 or units < 2:
        raise UserError("at least four measured clips of two files or identities", f"{clips} clips of {units}", "Hold out more clips.")


def _features(features: KineticsFeatures, bench: Bench, count: int, clips: Callable[[Tensor], Clips]) -> Tensor:
    return torch.cat([features.features(clips(part)) for part in bench.batches(count)])


def _pooled(run: Run) -> Callable[[Bench], Figures]:
    """The released notebooks' consistency, for comparison with the paper only: it flatters.

    The judge is trained on real and reconstructed clips of the measured set together, and clips are drawn with replacement, so that
    many of those it is tested on were trained on too. Our judge's architecture and training; not their missing zero_grad.
    """

    def take(bench: Bench) -> Figures:
        draw = bench.generator("pool")
        count = len(bench.held)
        trained = torch.randint(count, (round(POOL_TRAINED * count),), generator=draw)
        tested = torch.randint(count, (count - len(trained),), generator=draw)
        pool = _pool(bench)
        real, made = pool.subset(tested), pool.subset(tested + count)
        both = Splits(pool.subset(torch.cat([trained, trained + count])), real, real)
        judge = _taught(run, both, seed_of(bench.seed, "pooled judge") % 2**31)
        seen = replace(bench, data=both, judge=judge)
        clusters = tested if bench.clusters is None else bench.clusters[tested]  # clips that are drawn twice are one
        of_real, of_made = (seen.seen(len(part), part.clips) for part in (real, made))
        return consistency(of_real, of_made, bench.generator("pooled"), clusters, prefix="consistency_pooled_judge_")

    return take


def _taught(run: Run, splits: Splits, seed: int) -> Judges:
    lessons = judge_run(run.data, splits, seed=seed).model_copy(update={"data": Part(name="pool")})
    with TemporaryDirectory() as folder:
        try:
            train_judge(lessons, splits, Path(folder), command="", show=False)
        except Interrupted:  # nothing to go on with: the folder goes
            raise KeyboardInterrupt from None
        return load_judge(folder).judge.to(choose_device(lessons.device))


def _pool(bench: Bench) -> ClipSet:
    """The measured clips, and after them what the model makes of them, with the labels that can be told."""
    held = bench.held
    labels = {factor: held.labels[factor].repeat(2) for factor in bench.labels}
    pool = ClipSet.whole(torch.cat([_real(bench), _rebuilt(bench)]), labels, {factor: held.classes[factor] for factor in labels})
    return replace(pool, lengths=held.lengths.repeat(2))


def _real(bench: Bench) -> Tensor:
    """The measured clips as bytes, (N, T, C, H, W)."""
    where, _ = bench.held.where(torch.arange(len(bench.held)))
    return bench.held.frames[where]


def _rebuilt(bench: Bench) -> Tensor:
    """What the model makes of them, as bytes."""
    codes = bench.codes()
    parts = [bench.decoded(codes[part]).frames for part in bench.batches(len(bench.held))]
    return torch.cat([frames.mul(255).round().to(torch.uint8) for frames in parts])
