"""What is measured on demand: the notebooks' pooled judge, and distances on Kinetics features from a file of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from oracles.finished_runs import CHANNELS, PENDULA, finish, model_options, quickly, videos, write_videos
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics import kinetics
from stillmotion.metrics.frechet import frechet_distance
from stillmotion.metrics.judge import Verdicts
from stillmotion.nn.resnext3d import ResNeXt3d, ResNeXt3dShape
from stillmotion.recipes import extras as module
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.evaluate import evaluate
from stillmotion.recipes.extras import ON_DEMAND, PLAIN, Extras, extra_measures
from stillmotion.recipes.judge import judge_run
from stillmotion.testing.references import ExactJudge, PerfectSwapper, RandomCoder, Reference, toy_world
from stillmotion.training.loop import Interrupted
from stillmotion.training.runs import read_run
from stillmotion.training.settings import Part, Run

TINY = ResNeXt3dShape(stem=4, widths=(4, 8), blocks=(1, 1), cardinality=2)


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quickly():
        yield


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file laid out like the published one, of a network small enough for a test."""
    monkeypatch.setattr(kinetics, "ResNeXt3dShape", lambda: TINY)
    g = torch.Generator().manual_seed(0)
    network = ResNeXt3d(TINY)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=g) + (0.1 if "var" in name else -0.4))
    named = {f"module.{name}": value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / "resnext-101-kinetics.pth"
    torch.save({"epoch": 1, "state_dict": named}, path)
    return path


@pytest.fixture
def short_lessons(monkeypatch: pytest.MonkeyPatch) -> list[Splits]:
    """Judges of two steps; the splits that they were trained on."""
    trained: list[Splits] = []

    def lessons(data: Part, splits: Splits, **options: Any) -> Run:
        trained.append(splits)
        return judge_run(data, splits, channels=CHANNELS, steps=2, device="cpu", **options)

    monkeypatch.setattr(module, "judge_run", lessons)
    return trained


def test_nothing_is_measured_that_was_not_asked_for(run: Path) -> None:
    assert extra_measures(PLAIN, read_run(run)) == ({"kinetics": None, "pooled_judge": False}, {})
    assert not any(PLAIN.asks_for(protocol) for protocol in ON_DEMAND)
    assert Extras(pooled_judge=True).asks_for("vdsm_released")
    assert Extras(kinetics=Path("x")).asks_for("frechet_kinetics")


# the pooled judge


def test_the_pooled_judge_is_measured_end_to_end(run: Path, short_lessons: list[Splits]) -> None:
    found = evaluate(run, judge=None, only=("vdsm_released",), extras=Extras(pooled_judge=True))
    figures = {name: figure for name, figure in found["figures"].items() if figure["protocol"] == "vdsm_released"}
    assert figures.keys() == {f"consistency_pooled_judge_{name}" for name in ("colour", "speed", "mean")}
    assert {figure["clips"] for figure in figures.values()} == {8}  # what seven tenths of 28 leave
    assert found["evaluation"]["extras"] == {"kinetics": None, "pooled_judge": True}
    assert found["judge"] is None
    (splits,) = short_lessons
    assert len(splits.train) == 40  # twenty draws, each real and rebuilt


def test_the_pool_is_real_and_rebuilt_clips_of_the_measured_set_and_draws_repeat(run: Path, short_lessons: list[Splits]) -> None:
    again = evaluate(run, judge=None, only=("vdsm_released",), extras=Extras(pooled_judge=True))
    first = evaluate(run, judge=None, only=("vdsm_released",), extras=Extras(pooled_judge=True))
    assert again["figures"] == first["figures"]
    a, b = (splits.train.starts for splits in short_lessons)
    assert torch.equal(a, b)
    evaluate(run, judge=None, only=("vdsm_released",), extras=Extras(pooled_judge=True), seed=1)
    assert not torch.equal(short_lessons[2].train.starts, a)
    real, made = a[:20], a[20:]
    assert torch.equal(real + 28 * PENDULA["steps"], made)
    assert len(real.unique()) < 20  # with replacement


@pytest.mark.parametrize(("kind", "share"), [(PerfectSwapper, 1.0), (RandomCoder, None)])
def test_a_model_that_rebuilds_to_the_last_bit_is_consistent_for_any_judge(
    kind: type[Reference], share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = toy_world(5)
    clips = world.clips.subset(torch.arange(64).repeat(4))
    taught: list[Splits] = []

    def teach(run: Run, splits: Splits, seed: int) -> ExactJudge:
        taught.append(splits)
        return ExactJudge(world)

    monkeypatch.setattr(module, "_taught", teach)
    bench = Bench(kind(world), Splits(clips, clips, clips), None, clips.moving)
    (measure,) = extra_measures(Extras(pooled_judge=True), tiny(clips))[1].values()
    found = measure.take(bench)
    for factor, classes in (("colour", 4), ("direction", 2), ("start", 8)):
        value = found[f"consistency_pooled_judge_{factor}"].value
        assert value == share or (share is None and abs(value - 1 / classes) < 5 * (1 / classes / 77) ** 0.5)
    (splits,) = taught
    assert splits.train.labels.keys() == {"colour", "direction", "start"}
    assert torch.equal(splits.train.labels["colour"][:179], splits.train.labels["colour"][179:])


def tiny(clips: ClipSet) -> Run:
    return judge_run(Part(name="toy"), Splits(clips, clips, clips), channels=CHANNELS, steps=2, device="cpu")


def test_clips_that_are_drawn_twice_are_resampled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    world = toy_world(5)
    given: list[torch.Tensor] = []

    def consistency(real: Verdicts, made: Verdicts, noise: torch.Generator, clusters: torch.Tensor, prefix: str) -> dict[str, Any]:
        given.append(clusters)
        assert len(real) == len(made) == len(clusters)
        return {}

    monkeypatch.setattr(module, "_taught", lambda run, splits, seed: ExactJudge(world))
    monkeypatch.setattr(module, "consistency", consistency)
    bench = Bench(PerfectSwapper(world), Splits(world.clips, world.clips, world.clips), None, world.clips.moving)
    (measure,) = extra_measures(Extras(pooled_judge=True), tiny(world.clips))[1].values()
    measure.take(bench)
    assert 1 < len(given[0].unique()) < len(given[0]) == 64 - 45


def test_the_pool_keeps_the_lengths_of_clips(tmp_path: Path, short_lessons: list[Splits]) -> None:
    clips = write_videos(tmp_path / "clips", size=8, lengths=(20, 24, 17, 30, 26, 22))
    data = videos(clips, tmp_path / "cache", size=8, grey=True, hold_out_tail=0.2, validation=0.0, test=0.0)
    run = finish(tmp_path / "run", data, model_options(8, channels=1))
    found = evaluate(run, judge=None, only=("vdsm_released",), extras=Extras(pooled_judge=True))
    assert "consistency_pooled_judge_person" in found["figures"]
    (splits,) = short_lessons
    lengths = splits.train.lengths
    assert torch.equal(lengths[: len(lengths) // 2], lengths[len(lengths) // 2 :])
    assert int(lengths.min()) < splits.train.steps


def test_whoever_stops_the_pooled_judge_stops_the_evaluation(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: Any, **options: Any) -> Path:
        raise Interrupted

    monkeypatch.setattr(module, "train_judge", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, judge=None, only=("vdsm_released",), extras=Extras(pooled_judge=True))


# Kinetics


def test_kinetics_distances_are_measured_end_to_end_with_the_hash_beside_them(run: Path, weights: Path) -> None:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    found = evaluate(run, judge=None, only=("frechet_kinetics",), extras=Extras(kinetics=weights, kinetics_sha256=sha256))
    figures = {name: figure for name, figure in found["figures"].items() if figure["protocol"] == "frechet_kinetics"}
    ways = ("reconstruction", "generation", "generation_aggregate")
    assert {f"frechet_kinetics_{way}" for way in ways} <= figures.keys()
    assert [name for name in figures if name.endswith("_floor")] == ["frechet_kinetics_floor"]
    assert figures["frechet_kinetics_reconstruction"]["clips"] == 28
    extras = {"kinetics": {"file": weights.name, "sha256": sha256}, "pooled_judge": False}
    assert found["evaluation"]["extras"] == extras
    later = evaluate(run, judge=None, only=("reconstruction",))
    assert later["figures"].items() >= figures.items()
    assert later["evaluation"]["protocols"]["frechet_kinetics"]["extras"] == extras
    assert later["evaluation"]["protocols"]["reconstruction"]["extras"] == later["evaluation"]["extras"] != extras


def test_a_model_that_remembers_nothing_loses_no_other_distance(weights: Path) -> None:
    from oracles.small_vdsm import small_vdsm

    clips = toy_world(5).clips
    (measure,) = extra_measures(Extras(kinetics=weights), tiny(clips))[1].values()
    found = measure.take(Bench(small_vdsm(), Splits(clips, clips, clips), None, clips.moving))
    assert {"frechet_kinetics_reconstruction", "frechet_kinetics_generation"} <= found.keys()
    assert not any("aggregate" in name for name in found)


def test_a_perfect_model_is_at_no_distance_and_a_few_clips_are_drawn(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KINETICS_CLIPS", 9)
    world = toy_world(5)
    bench = Bench(PerfectSwapper(world), Splits(world.clips, world.clips, world.clips), None, world.clips.moving)
    (measure,) = extra_measures(Extras(kinetics=weights), tiny(world.clips))[1].values()
    found = measure.take(bench)
    assert found["frechet_kinetics_reconstruction"].value == pytest.approx(0, abs=1e-4)
    assert found["frechet_kinetics_reconstruction"].clips == found["frechet_kinetics_generation"].clips == 9
    features = kinetics.KineticsFeatures(weights)
    pick = torch.randperm(64, generator=bench.generator("kinetics"))[:9].sort().values
    made = bench.decoded(bench.drawn("prior", "kinetics")[torch.arange(9)])
    distance = frechet_distance(features.features(made), features.features(world.clips.clips(pick)))
    assert found["frechet_kinetics_generation"].value == pytest.approx(distance, rel=1e-4)
    assert not any(name.startswith("frechet_kinetics_generation_aggregate") for name in found)


@pytest.mark.parametrize(("source", "got"), [([0, 0, 0, 0], "4 clips of 1"), ([0, 1, 2], "3 clips of 3")])
def test_too_few_clips_are_refused_before_features_are_computed(weights: Path, source: list[int], got: str) -> None:
    world = toy_world(5)
    held = replace(world.clips.subset(torch.arange(len(source))), source=torch.tensor(source))
    bench = Bench(PerfectSwapper(world), Splits(world.clips, held, held), None, world.clips.moving)
    (measure,) = extra_measures(Extras(kinetics=weights), tiny(world.clips))[1].values()
    with patch.object(kinetics.KineticsFeatures, "features") as computed:
        with pytest.raises(UserError, match=f"four measured clips of two files or identities, got {got}"):
            measure.take(bench)
        computed.assert_not_called()


def test_a_weight_file_that_cannot_be_used_is_refused_before_anything_is_measured(run: Path, weights: Path) -> None:
    said: list[object] = []
    with pytest.raises(FileRefused, match="none.pth, which cannot be read"):
        evaluate(run, judge=None, extras=Extras(kinetics=Path("none.pth")), say=said.append)
    with pytest.raises(FileRefused, match=f"expected a file of sha256 {'0' * 64}"):
        evaluate(run, judge=None, extras=Extras(kinetics=weights, kinetics_sha256="0" * 64), say=said.append)
    assert not said
