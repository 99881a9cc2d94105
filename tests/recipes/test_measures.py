"""Models made of the truth on the bench, through every measure: what each figure must be is known beforehand.

Test clips hold every movement of every character equally often. A guess that reads movement from who it is, or the other way round,
can then be right for no larger a share than that of the largest class: leaks of the perfect swapper are at chance to the last digit.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data import sprites
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics import embedding, probes
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.judge import Verdicts
from stillmotion.recipes import measures
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.measures import MEASURES
from stillmotion.testing.references import ExactJudge, IdentityCheat, PerfectSwapper, RandomCoder, Reference, World, toy_world

EXACT = 1e-6
SIGMAS = 5
MANY = 1000
"""Measured clips of which networks learn without a flaw."""
WAYS = ("mean", "mean_mlp", "sample", "sample_mlp")


@dataclass(frozen=True)
class Scores:
    """All figures of a reference on a world. shares: factor -> share of each class among the measured clips."""

    figures: dict[str, Figure]
    skipped: dict[str, str]
    static: list[str]
    moving: list[str]
    shares: dict[str, Tensor]
    classes: dict[str, int]
    clips: int

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value

    def starting(self, prefix: str) -> dict[str, float]:
        found = {name: figure.value for name, figure in self.figures.items() if name.startswith(prefix)}
        assert found, prefix
        return found

    def noise(self, chance: float) -> float:
        """Five standard errors of a share of the measured clips."""
        return SIGMAS * (max(chance * (1 - chance), 1 / self.clips) / self.clips) ** 0.5

    def is_told(self, name: str, factor: str) -> bool:
        """Whether the code tells the factor: always, or mostly where noise or a network has to be learned from few clips."""
        if self.clips > MANY:
            return self[name] > 0.99
        if "_path_" in name and not name.endswith("_mean"):
            return True  # what is pooled over noisy frames takes more clips than these to learn from
        learned = not name.endswith("_mean")
        return self[name] > (0.5 + 0.5 * float(self.shares[factor].max()) if learned else 0.97)

    def is_a_guess(self, name: str, factor: str) -> bool:
        """Whether the share of hits is what guesses give that know nothing of the clip: between the shares of the classes."""
        low, high = float(self.shares[factor].min()), float(self.shares[factor].max())
        return low - self.noise(low) <= self[name] <= high + self.noise(high)

    def is_even_chance(self, name: str, factor: str) -> bool:
        """Whether hits are as rare as those of clips drawn evenly from the world."""
        chance = 1 / self.classes[factor]
        return abs(self[name] - chance) <= self.noise(chance)


def measured(kind: type[Reference], world: World, data: Splits) -> Scores:
    """Everything on the list; each model and judge new, as the noise inside them goes on from call to call."""
    bench = Bench(kind(world), data, ExactJudge(world), world.clips.moving)
    figures: dict[str, Figure] = {}
    skipped = {}
    for name, measure in MEASURES.items():
        reason = measure.lacking(bench)
        if reason:
            skipped[name] = reason
        else:
            found = measure.take(bench)
            assert found, name
            again = figures.keys() & found.keys()
            assert all(name.startswith("chance_") or name == "frechet_judge_floor" for name in again), name
            assert all(figures[name] is found[name] for name in again if name == "frechet_judge_floor"), name
            figures |= found
    told = bench.labels
    shares = {factor: labels.bincount().float() / len(labels) for factor, labels in told.items()}
    return Scores(
        figures, skipped, [f for f in told if f not in bench.moving], [f for f in told if f in bench.moving], shares,
        {factor: len(world.clips.classes[factor]) for factor in told}, len(bench.held),
    )  # fmt: skip


# what theory says


def check_perfect(scores: Scores) -> None:
    """100 % both ways, and no leak above chance."""
    for factor in (*scores.static, *scores.moving):
        for name in ("swap_{}_accuracy", "two_factor_accuracy_{}", "consistency_{}"):
            assert scores[name.format(factor)] == 1, name.format(factor)
        assert scores[f"disagreement_{factor}"] == 0
        assert scores[f"disagreement_kl_{factor}"] == pytest.approx(0, abs=1e-5)
        way = "static" if factor in scores.static else "dynamic"
        assert scores.is_told(f"embedding_{way}_{factor}", factor)
        assert scores.is_even_chance(f"resampled_{way}_{factor}", factor)
        for code in ("static",) if factor in scores.static else ("dynamic", "path"):
            for ending in WAYS:
                assert scores.is_told(f"probe_{code}_{factor}_{ending}", factor)
    for name in ("swap_static_accuracy", "swap_dynamic_accuracy", "swap_both_accuracy", "consistency_mean"):
        assert scores[name] == 1, name
    _no_leak_above_chance(scores)
    ceiling = scores.classes[scores.moving[0]]
    assert scores["two_factor_inception_score"] == pytest.approx(ceiling, rel=1e-3)
    assert scores["two_factor_entropy"] == pytest.approx(math.log(ceiling), abs=1e-4)
    assert scores["two_factor_conditional_entropy"] == pytest.approx(0, abs=1e-4)
    assert scores["psnr_sequence_test"] == 100
    assert scores["frechet_judge_reconstruction"] == pytest.approx(0, abs=EXACT)
    assert min(scores.starting("intervention_").values()) > 0.85
    assert scores["dci_informativeness"] == 1
    assert scores["explicitness"] == 1
    assert scores["modularity"] > 0.95
    assert scores["dci_disentanglement"] > 0.95


def _no_leak_above_chance(scores: Scores) -> None:
    leaks = [(code, factor) for code in ("static", "dynamic", "path") for factor in _others(scores, code)]
    assert leaks
    for code, factor in leaks:
        chance = scores[f"chance_{factor}"]
        assert chance == pytest.approx(float(scores.shares[factor].max()))
        for probe in ("", "_mlp"):
            assert scores[f"leak_{code}_to_{factor}_mean{probe}"] <= chance + EXACT
            assert scores[f"leak_{code}_to_{factor}_sample{probe}"] <= chance + scores.noise(chance)
        if code != "path":
            assert scores[f"embedding_{code}_{factor}"] <= chance + EXACT


def _others(scores: Scores, code: str) -> list[str]:
    """The factors that a code should not tell."""
    return scores.moving if code == "static" else scores.static


def check_cheat(scores: Scores) -> None:
    """Perfect where movement is kept and in every reconstruction; found out by kept content, by leaks and by drawing codes anew."""
    for factor in scores.moving:
        assert scores[f"two_factor_accuracy_{factor}"] == 1
        assert scores[f"swap_{factor}_accuracy"] == 1
        assert scores.is_even_chance(f"resampled_dynamic_{factor}", factor)
    assert set(scores.starting("consistency_").values()) == {1.0}
    assert scores["psnr_sequence_test"] == 100
    for factor in scores.static:
        assert scores.is_even_chance(f"two_factor_accuracy_{factor}", factor)
        assert scores.is_a_guess(f"swap_{factor}_accuracy", factor)
        assert scores[f"resampled_static_{factor}"] == 1
        assert abs(scores[f"disagreement_{factor}"] - 1 + 1 / scores.classes[factor]) <= scores.noise(1 / scores.classes[factor])
        for ending in WAYS:
            assert scores.is_told(f"leak_dynamic_to_{factor}_{ending}", factor)
            assert scores.is_told(f"leak_path_to_{factor}_{ending}", factor)
            assert scores.is_a_guess(f"probe_static_{factor}_{ending}", factor)
        assert scores.is_told(f"embedding_dynamic_{factor}", factor)
        assert scores.is_a_guess(f"embedding_static_{factor}", factor)
    stayed = sum(1 - 1 / scores.classes[factor] for factor in scores.static) / len(scores.static)
    assert scores["intervention_static"] == pytest.approx(1 - stayed / 2)  # as of a model in which drawing it anew changes nothing


def check_random(scores: Scores) -> None:
    """At chance everywhere; but clips that have nothing to do with the real ones are clear and varied all the same."""
    for factor in (*scores.static, *scores.moving):
        for name in ("two_factor_accuracy_{}", "consistency_{}", "swap_{}_accuracy"):
            assert scores.is_even_chance(name.format(factor), factor), name
        way = "static" if factor in scores.static else "dynamic"
        assert scores.is_even_chance(f"resampled_{way}_{factor}", factor)
        assert scores.is_a_guess(f"embedding_static_{factor}", factor)
        assert scores.is_a_guess(f"embedding_dynamic_{factor}", factor)
    for name in (*scores.starting("probe_"), *scores.starting("leak_")):
        factor = max((factor for factor in scores.shares if f"_{factor}_" in name), key=len)
        assert scores.is_a_guess(name, factor), name
    assert scores["psnr_sequence_test"] < 40
    assert scores["explicitness"] == pytest.approx(0.5, abs=0.5 * scores.noise(0.5) * 5)
    assert scores["two_factor_inception_score"] > 0.8 * scores.classes[scores.moving[0]]
    assert scores["two_factor_conditional_entropy"] == pytest.approx(0, abs=1e-4)
    assert scores["frechet_judge_generation"] < scores["frechet_judge_floor"]


CHECKS: dict[type[Reference], Callable[[Scores], None]] = {
    PerfectSwapper: check_perfect, IdentityCheat: check_cheat, RandomCoder: check_random,
}  # fmt: skip
BY_KIND = pytest.mark.parametrize("kind", CHECKS, ids=lambda kind: kind.name)


# the toy


@cache
def toy_splits() -> tuple[World, Splits]:
    world = toy_world(5)
    return world, Splits(*(world.clips.subset(torch.arange(64).repeat(copies)) for copies in (3, 1, 3)))


def quickly(kind: type[Reference], world: World, data: Splits) -> Scores:
    """With networks that learn for a few steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(probes, "ROUNDS", 6)
        for code in embedding.PUBLISHED:
            patched.setitem(embedding.PUBLISHED, code, embedding.Schedule(3e-3, 15))
        return measured(kind, world, data)


@cache
def on_the_toy(kind: type[Reference]) -> Scores:
    return quickly(kind, *toy_splits())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@BY_KIND
def test_on_the_toy_the_three_score_what_they_must(kind: type[Reference]) -> None:
    scores = on_the_toy(kind)
    assert (scores.static, scores.moving) == (["colour"], ["direction", "start"])
    CHECKS[kind](scores)


def test_what_a_model_cannot_do_is_left_out_with_the_reason_and_nothing_else_is() -> None:
    skipped = on_the_toy(PerfectSwapper).skipped
    lacks = "the model perfect_swapper lacks the ability "
    aggregate = [name for name in MEASURES if name.endswith("aggregate posterior")]
    assert len(aggregate) == 3
    assert skipped == {
        "reconstruction by poses": lacks + "EncodesFrames", "imputation": lacks + "Imputes",
        **dict.fromkeys(aggregate, lacks + "Remembers"),
    }  # fmt: skip


def test_values_lie_in_their_intervals_and_count_the_clips() -> None:
    for kind in CHECKS:
        scores = on_the_toy(kind)
        for name, figure in scores.figures.items():
            assert figure.low <= figure.value <= figure.high, name
            assert figure.clips == (960 if name.startswith("swap_") else 96 if name.endswith("_floor") else 192), name


def test_swaps_are_told_class_by_class_where_classes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    world, data = toy_splits()
    monkeypatch.setattr(measures, "MOST_CLASSES", 4)
    bench = Bench(IdentityCheat(world), data, ExactJudge(world), world.clips.moving)
    MEASURES["swaps"].take(bench)
    assert bench.tables.keys() == {"swap_colour", "swap_direction"}
    colour = torch.tensor(bench.tables["swap_colour"]["accuracy"])
    assert torch.equal(colour, torch.eye(4))  # it shows the movement's colour, which is right where it is the identity's too
    assert bench.tables["swap_direction"] == {"classes": ["left", "right"], "accuracy": [[1.0, 1.0], [1.0, 1.0]]}


def reasons(bench: Bench) -> dict[str, str]:
    return {name: measure.lacking(bench) for name, measure in MEASURES.items() if measure.lacking(bench)}


def test_without_a_judge_codes_and_frames_are_measured_alone() -> None:
    world, data = toy_splits()
    bench = Bench(PerfectSwapper(world), data, None, world.clips.moving)
    left = {name for name in MEASURES if name not in reasons(bench)}
    assert left == {
        "reconstruction", "leakage of means", "leakage of samples", "embedding accuracy", "MIG", "SAP", "DCI", "modularity", "explicitness",
        "FactorVAE score",
    }  # fmt: skip
    assert reasons(bench)["swaps"] == "it needs a judge"


def bare(clips: ClipSet) -> ClipSet:
    return replace(clips, labels={}, classes={})


def test_without_labels_only_frames_are_measured() -> None:
    world, data = toy_splits()
    bench = Bench(PerfectSwapper(world), Splits(*map(bare, data)))
    found = reasons(bench)
    assert set(MEASURES) - set(found) == {"reconstruction"}
    assert found["MIG"] == found["leakage of means"] == "the clips have no labels"
    judged = Bench(PerfectSwapper(world), Splits(*map(bare, data)), ExactJudge(world))
    assert reasons(judged)["swaps"] == "the clips have no labels"


def test_classes_that_training_clips_lack_cannot_be_told() -> None:
    world, data = toy_splits()
    apart = Splits(data.train, data.validation, replace(data.test, labels={f: torch.full((192,), 9) for f in data.test.labels}))
    assert reasons(Bench(PerfectSwapper(world), apart))["leakage of means"].startswith("the measured clips show no class that training")


def test_what_moves_must_be_known_for_what_is_kept_and_drawn() -> None:
    world, data = toy_splits()
    found = reasons(Bench(PerfectSwapper(world), data, ExactJudge(world)))
    needs = {name for name, reason in found.items() if reason == "name the factors that move with --moving"}
    codes = {"leakage of means", "leakage of samples", "embedding accuracy"}
    assert needs == codes | {"swaps", "two factors", "resampling", "disagreement", "intervention"}
    still = Bench(PerfectSwapper(world), data, ExactJudge(world), ("colour", "direction", "start"))
    both = {name for name, reason in reasons(still).items() if reason == "it needs a factor that moves and one that stays"}
    assert both == needs - codes - {"swaps"}


def test_windows_of_one_file_are_not_swapped_with_one_another() -> None:
    """Of three clips of one file and one of another, only pairs across count; of one file alone there is none."""
    world, data = toy_splits()
    test = data.test.subset(torch.tensor([0, 1, 2, 3]))
    asked: list[Tensor] = []

    class Asked(Bench):
        def swapped(self, pairs: Tensor) -> Verdicts:
            asked.append(pairs)
            return super().swapped(pairs)

    def on(*source: int) -> Bench:
        held = replace(test, source=torch.tensor(source), sources=("a", "b"))
        return Asked(PerfectSwapper(world), data._replace(test=held), ExactJudge(world), world.clips.moving)

    found = MEASURES["swaps"].take(on(0, 0, 1, 0))
    assert sorted(asked[0].tolist()) == [[0, 2], [1, 2], [2, 0], [2, 1], [2, 3], [3, 2]]
    assert found["swap_both_accuracy"].clips == 6
    with pytest.raises(UserError, match=r"measured clips of two files.*got those of one\. Hold out more"):
        MEASURES["swaps"].take(on(1, 1, 1, 1))


@pytest.mark.parametrize(("shown", "left"), [(0, set()), (1, {"MIG", "SAP", "explicitness"})])
def test_scores_of_codes_need_measured_clips_of_two_classes(shown: int, left: set[str]) -> None:
    """The first `shown` factors vary among the measured clips, the others do not."""
    world, data = toy_splits()
    names = ("colour", "direction")
    labels = {name: data.test.labels[name] * (k < shown) for k, name in enumerate(names)}
    splits = Splits(*(replace(part, labels={n: part.labels[n] for n in names}) for part in (data.train, data.validation)),
                    replace(data.test, labels=labels))  # fmt: skip
    bench = Bench(PerfectSwapper(world), splits, moving=("direction",))
    found = reasons(bench)
    scores = {name for name, measure in MEASURES.items() if measure.protocol == "benchmark" and not measure.judge}
    assert scores - set(found) == left
    assert "leakage of means" not in found
    for name in left:
        assert MEASURES[name].take(bench)


def test_a_model_that_remembers_nothing_draws_nothing_from_memory() -> None:
    from oracles.small_vdsm import small_vdsm

    model = small_vdsm()
    world, data = toy_splits()
    bench = Bench(model, data, ExactJudge(world), world.clips.moving)
    assert reasons(bench) == dict.fromkeys(
        ("two factors, aggregate posterior", "entropies, aggregate posterior", "Fréchet distance of new clips, aggregate posterior"),
        "the model vdsm remembers no training clips",
    )
    model.remember(bench.codes())
    assert not reasons(bench)


# sprites


def characters(clips: ClipSet, rows: Tensor) -> ClipSet:
    """All nine clips of the characters."""
    return clips.subset((rows[:, None] * 9 + torch.arange(9)).flatten())


@pytest.mark.data
@BY_KIND
def test_on_a_few_sprites_with_held_out_characters_they_score_what_they_must(kind: type[Reference], real_data: Path) -> None:
    world = World(sprites.compose(real_data / "lpc-sprites", (3, 2, 2, 2)))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    data = Splits(*(characters(world.clips, rows) for rows in torch.split(order, [12, 4, 8])))
    scores = quickly(kind, world, data)
    assert "character" not in scores.shares  # those of the test are not among those of the training
    assert (scores.static, scores.moving) == (list(sprites.PARTS), ["action_direction", "action", "direction"])
    CHECKS[kind](scores)
    assert (scores["ssim_sequence_test"] == pytest.approx(1, abs=1e-5)) == (kind is not RandomCoder)


@pytest.mark.data
@pytest.mark.slow
def test_on_all_of_sprites_the_three_score_what_they_must(
    real_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard Sprites, the published split: 2,664 clips of 296 characters that neither probe nor model has seen."""
    world = World(sprites.compose(real_data / "lpc-sprites", (6, 6, 6, 6)))
    monkeypatch.setattr(sprites, "compose", lambda folder, variants: world.clips)  # the same store: it takes 1.2 GB
    data = sprites.load(root=real_data)
    assert [len(part) for part in data] == [8100, 900, 2664]
    for kind, check in CHECKS.items():
        started = time.monotonic()
        scores = measured(kind, world, data)
        with capsys.disabled():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"\n{kind.name}: {len(scores.figures)} figures in {time.monotonic() - started:.0f} s, peak {peak:.2f} GB")
        check(scores)
        assert scores["ssim_sequence_test"] == pytest.approx(1, abs=1e-5) or kind is RandomCoder
    assert peak < 3
