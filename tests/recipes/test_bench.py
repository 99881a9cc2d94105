"""The bench: which clips and labels a measure sees, with which noise, and how much is in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.small_vdsm import small_vdsm
from oracles.tiny_runs import tiny_clips
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.judge import Judge, JudgeConfig
from stillmotion.metrics.quality import psnr, ssim
from stillmotion.models.files import build
from stillmotion.recipes import bench as module
from stillmotion.recipes.bench import Bench, some, told
from stillmotion.testing.references import ExactJudge, PerfectSwapper, toy_world


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def labelled(**labels: list[int]) -> ClipSet:
    """Clips of 3 frames, all alike, with these labels."""
    count = len(next(iter(labels.values())))
    values = {name: torch.tensor(value) for name, value in labels.items()}
    return ClipSet.whole(torch.zeros(count, 3, 3, 8, 8, dtype=torch.uint8), values, {name: tuple("abcdefgh") for name in labels})


def on(train: ClipSet, test: ClipSet, validation: ClipSet | None = None, **options: Any) -> Bench:
    return Bench(small_vdsm(), Splits(train, train if validation is None else validation, test), **options)


def none_of(clips: ClipSet) -> ClipSet:
    return clips.subset(torch.zeros(0, dtype=torch.long))


# labels


def test_a_factor_is_told_where_training_clips_have_two_classes_and_others_one_of_them() -> None:
    train = labelled(who=[0, 1, 1, -1], what=[0, 0, 0, 0], where=[0, 1, 0, 1], how=[0, 1, 2, 3])
    held = labelled(who=[1, 2, -1], what=[0, 0, 0], where=[3, 4, -1], how=[2, 0, 5])
    found = told(train, held)
    assert {factor: labels.tolist() for factor, labels in found.items()} == {"who": [1, -1, -1], "how": [2, 0, -1]}


def test_what_one_part_cannot_tell_none_is_asked_for() -> None:
    train, choose, test = labelled(a=[0, 1], b=[0, 1]), labelled(a=[0, 0], b=[2, -1]), labelled(a=[1, 0], b=[0, 1])
    bench = on(train, test, choose)
    assert [list(bench.told(part)) for part in range(3)] == [["a"]] * 3
    assert list(bench.labels) == ["a"]


@pytest.mark.parametrize(
    ("labels", "finest"),
    [
        ({"joined": [0, 1, 2, 3], "first": [0, 0, 1, 1], "second": [0, 1, 0, 1]}, ["joined"]),
        ({"first": [0, 0, 1, 1], "second": [0, 1, 0, 1]}, ["first", "second"]),
        ({"name": [0, 1, 2, 3], "number": [3, 2, 1, 0]}, ["name"]),  # each tells the other
        ({"number": [3, 2, 1, 0], "half": [0, 0, 1, 1], "name": [0, 1, 2, 3]}, ["number"]),
        ({"first": [0, 0, 1, 1], "second": [0, 1, -1, -1]}, ["second"]),  # as far as it is known
    ],
)
def test_factors_that_another_one_tells_are_not_counted_twice(labels: dict[str, list[int]], finest: list[str]) -> None:
    assert on(labelled(**labels), labelled(**labels)).finest == finest


def test_a_factor_of_which_one_class_is_measured_does_not_stand_in_the_way_of_one_that_it_tells() -> None:
    train, test = labelled(joined=[0, 1, 2, 3], first=[0, 0, 1, 1]), labelled(joined=[0, 0, 5, 5], first=[0, 0, 1, 1])
    assert on(train, test).finest == ["first"]


# clips


def test_test_clips_are_measured_and_without_them_validation_clips() -> None:
    train, choose, test = tiny_clips(20, seed=0), tiny_clips(7, seed=1), tiny_clips(5, seed=2)
    assert (on(train, test, choose).split, on(train, test, choose).held) == ("test", test)
    bench = on(train, none_of(test), choose)
    assert (bench.split, bench.held) == ("validation", choose)


@pytest.mark.parametrize("splits", ["all", "no test", "no validation"])
def test_no_measured_clip_is_fitted_on_or_chosen_by(splits: str) -> None:
    everything = tiny_clips(60)
    train, choose, test = (everything.subset(torch.arange(*ends)) for ends in ((0, 40), (40, 50), (50, 60)))
    bench = on(train, test if splits != "no test" else none_of(test), choose if splits != "no validation" else none_of(choose))
    fitted, chosen, held = (set(part.starts.tolist()) for part in bench.parts)
    assert fitted
    assert chosen
    assert held == set((choose if splits == "no test" else test).starts.tolist())
    assert not fitted & chosen
    assert not (fitted | chosen) & held
    assert fitted | chosen <= set(train.starts.tolist()) | set(choose.starts.tolist())
    if splits != "all":
        assert (len(fitted), len(chosen)) == (36, 4)


def test_those_to_choose_by_are_of_all_classes_also_where_clips_stand_in_turn() -> None:
    turns = labelled(who=[k % 2 for k in range(400)])
    bench = on(turns, turns, none_of(turns))
    assert set(bench.told(1)["who"].tolist()) == {0, 1}
    assert len(bench.parts[1]) == 40


def test_clips_are_drawn_so_that_none_of_the_classes_that_take_turns_is_lost() -> None:
    """Of 9,000 clips in turns of nine, the first half of 3,000 evenly spaced ones are of three classes only."""
    turns = labelled(action=[k % 9 for k in range(900)])
    drawn = some(turns, 300, torch.Generator().manual_seed(0))
    assert len(drawn) == len(drawn.starts.unique()) == 300
    assert torch.equal(drawn.starts, drawn.starts.sort().values)
    early = drawn.labels["action"][drawn.starts < 450 * 3]
    assert len(early.unique()) == 9
    assert some(turns, 900, torch.Generator()) is turns


def test_few_clips_are_divided_too() -> None:
    clips = labelled(who=[0, 1, 0])
    assert [len(part) for part in on(clips, clips, none_of(clips)).parts] == [2, 1, 3]


# clusters


def test_windows_of_one_file_belong_together() -> None:
    clips = tiny_clips(6)
    assert torch.equal(on(clips, replace(clips, source=torch.arange(6) // 2)).clusters, torch.arange(6) // 2)  # type: ignore[arg-type]
    assert on(clips, clips).clusters is None


def test_clips_of_one_held_out_identity_belong_together() -> None:
    train = labelled(what=[0, 1, 0, 1], who=[0, 0, 1, 1], room=[0, 0, 0, 0])
    test = labelled(what=[0, 1, 0, 1], who=[2, 2, 3, 3], room=[0, 0, 0, 0])
    assert on(train, test, moving=("what",)).clusters.tolist() == [2, 2, 3, 3]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("trained", "held"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0]),  # one class, of all clips: a cluster of everything would leave no interval
        ([0, 0, 0, 0], [1, 1, 1, 1]),  # one new class
        ([0, 0, 1, 1], [2, 2, 3, 1]),  # one of them is known
        ([0, 0, 1, 1], [2, 2, 3, -1]),
    ],
)
def test_other_clips_stand_alone(trained: list[int], held: list[int]) -> None:
    train, test = labelled(what=[0, 1, 0, 1], who=trained), labelled(what=[0, 1, 0, 1], who=held)
    assert on(train, test, moving=("what",)).clusters is None


def test_new_movements_are_no_identities() -> None:
    train, test = labelled(what=[0, 1, 0, 1]), labelled(what=[2, 2, 3, 3])
    assert on(train, test, moving=("what",)).clusters is None


# noise


def test_a_measure_draws_the_same_whatever_was_measured_before() -> None:
    clips = tiny_clips(8)
    first, second = on(clips, clips, seed=3), on(clips, clips, seed=3)
    _ = second.drawn("prior", "generation"), second.codes("mean"), second.generator("other")
    assert torch.equal(first.codes("sample").path, second.codes("sample").path)  # type: ignore[arg-type]
    assert torch.equal(first.drawn("prior", "x").path, second.drawn("prior", "x").path)  # type: ignore[arg-type]
    assert not torch.equal(first.drawn("prior", "x").static, first.drawn("prior", "y").static)  # type: ignore[arg-type]


def test_another_seed_draws_others_and_means_stay() -> None:
    clips = tiny_clips(8)
    first, second = on(clips, clips, seed=3), on(clips, clips, seed=4)
    assert torch.equal(first.codes().path, second.codes().path)  # type: ignore[arg-type]
    assert not torch.equal(first.codes("sample").path, second.codes("sample").path)  # type: ignore[arg-type]
    assert not torch.equal(first.drawn("prior", "x").static, second.drawn("prior", "x").static)  # type: ignore[arg-type]
    assert first.generator("a").initial_seed() != second.generator("a").initial_seed() != first.generator("b").initial_seed()


def test_samples_are_those_of_the_posterior_and_means_its_means() -> None:
    clips = tiny_clips(30)
    bench = on(clips, clips)
    mean, sample = bench.codes("mean"), bench.codes("sample")
    assert mean.static_posterior is not None
    assert torch.equal(mean.static, mean.static_posterior.mean)  # type: ignore[arg-type]
    scaled = (sample.static - mean.static_posterior.mean) / mean.static_posterior.scale  # type: ignore[operator]
    assert abs(float(scaled.mean())) < 5 / scaled.numel() ** 0.5
    assert float(scaled.std()) == pytest.approx(1, abs=0.25)
    assert torch.equal(bench.pooled("sample")[2]["static"], sample.static)  # type: ignore[arg-type]


# frames


def grey_bench(lengths: list[int], size: int = 16) -> Bench:
    """One channel, clips of unequal length, a judge and a model of them, both untrained."""
    g = torch.Generator().manual_seed(0)
    steps, count = torch.tensor(lengths), len(lengths)
    frames = torch.randint(0, 256, (sum(lengths), 1, size, size), generator=g).to(torch.uint8)
    labels, classes = {"who": torch.arange(count) % 2, "what": torch.arange(count) // 2 % 2}, {"who": ("a", "b"), "what": ("c", "d")}
    clips = ClipSet(frames, steps.cumsum(0) - steps, steps, max(lengths), labels, classes, moving=("what",))
    channels: dict[str, Any] = {"encoder_channels": (4, 6), "decoder_channels": (5,)} if size == 8 else {}
    options = {"size": size, "static": 3, "pose": 2, "dynamic": 3, "encoder_channels": (4, 4, 6), "decoder_channels": (6, 4),
               "rnn_layers": 1, "rnn_size": 5, "transition_hidden": 4, "channels": 1, **channels}  # fmt: skip
    judge = Judge(JudgeConfig(classes=classes, size=size, colours=1, channels=(2, 2, 3, 3), code=4, rnn=5, hidden=6)).eval()
    return Bench(build("vdsm", options, 0).eval(), Splits(clips, clips, clips), judge, ("what",))


def test_reconstructions_are_compared_frame_by_frame_with_what_is_there() -> None:
    bench = grey_bench([3, 5, 2, 4])
    rebuilt, clips = bench.rebuilt, bench.held
    model = bench.model
    for k, length in enumerate(clips.lengths.tolist()):
        real = clips.clips(torch.tensor([k]))
        with torch.no_grad():
            made = model.decode(model.encode(real))  # type: ignore[attr-defined]
        short, target, whole = made[:, :length], real.frames[:, :length], torch.ones(1, length, dtype=torch.bool)
        assert float(rebuilt.psnr[k]) == pytest.approx(float(psnr(short, target, whole)), abs=1e-3)
        assert float(rebuilt.ssim[k]) == pytest.approx(float(ssim(short, target, whole)), abs=1e-4)
    assert rebuilt.verdicts is not None
    assert len(rebuilt.verdicts) == 4
    assert rebuilt.verdicts.logits["who"].shape == (4, 2)


def test_frames_smaller_than_the_window_have_no_similarity() -> None:
    bench = grey_bench([3, 4], size=8)
    assert bench.rebuilt.ssim.isnan().all()
    assert bench.rebuilt.psnr.isfinite().all()


def test_codes_are_rebuilt_without_the_judge_where_it_is_not_asked() -> None:
    bench = grey_bench([3, 4])
    assert bench.rebuild(bench.codes(), judged=False).verdicts is None


def test_swaps_take_the_identity_of_the_first_and_the_movement_of_the_second() -> None:
    world = toy_world(5)
    bench = Bench(PerfectSwapper(world), Splits(world.clips, world.clips, world.clips), ExactJudge(world), world.clips.moving)
    pairs = torch.randint(64, (200, 2), generator=torch.Generator().manual_seed(0))
    seen = bench.swapped(pairs)
    for factor, labels in world.clips.labels.items():
        side = 1 if factor in world.clips.moving else 0
        assert torch.equal(seen.top(factor), labels[pairs[:, side]])


def test_new_content_comes_with_the_clips_movement_and_the_other_way_round() -> None:
    world = toy_world(5)
    bench = Bench(PerfectSwapper(world), Splits(world.clips, world.clips, world.clips), ExactJudge(world), world.clips.moving)
    content, motion = bench.sampled("prior")
    labels = world.clips.labels
    assert torch.equal(content.top("direction"), labels["direction"])
    assert torch.equal(motion.top("colour"), labels["colour"])
    assert not torch.equal(content.top("colour"), labels["colour"])
    assert not torch.equal(motion.top("start"), labels["start"])
    assert len(bench.generated("prior")) == 64
    assert torch.equal(bench.real.top("start"), labels["start"])


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (10 * 5 * 3 * 8 * 8, 10), (10**9, module.BATCH)])
def test_batches_hold_every_clip_once(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    monkeypatch.setattr(module, "PIXELS", limit)
    clips = tiny_clips(150)
    parts = list(on(clips, clips).batches(150))
    assert torch.equal(torch.cat(parts), torch.arange(150))
    assert max(map(len, parts)) == most


def test_no_more_than_a_batch_of_frames_is_ever_decoded_read_or_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from stillmotion.recipes.measures import MEASURES

    world = toy_world(5)
    clips = world.clips.subset(torch.arange(64).repeat(4))
    model, judge = PerfectSwapper(world), ExactJudge(world)
    bench = Bench(model, Splits(clips, clips, clips), judge, clips.moving)
    limit = 64 * clips.steps * 3 * 8 * 8
    monkeypatch.setattr(module, "BATCH", 100)
    monkeypatch.setattr(module, "PIXELS", limit)
    seen: dict[str, list[int]] = {"read": [], "decoded": [], "judged": []}
    pixels, decode, read = ClipSet.pixels, model.decode, judge.read

    def reading(self: ClipSet, where: Tensor, mask: Tensor) -> Tensor:
        seen["read"].append(where.numel() * self.frames[0].numel())
        return pixels(self, where, mask)

    def decoding(codes: Codes) -> Tensor:
        frames = decode(codes)
        seen["decoded"].append(frames.numel())
        return frames

    def judging(batch: Clips) -> Any:
        seen["judged"].append(batch.frames.numel())
        return read(batch)

    monkeypatch.setattr(ClipSet, "pixels", reading)
    monkeypatch.setattr(model, "decode", decoding)
    monkeypatch.setattr(judge, "read", judging)
    for name, measure in MEASURES.items():
        if not measure.lacking(bench) and (measure.judge or measure.protocol == "reconstruction"):
            assert measure.take(bench), name
    assert all(max(sizes) <= limit for sizes in seen.values())
    whole = 256 * clips.steps * 3 * 8 * 8
    assert sum(seen["judged"]) > 8 * whole  # many passes over all clips, none of them at once
    assert max(seen["judged"]) == limit


def test_the_limit_is_a_batch_of_common_clips() -> None:
    assert module.PIXELS * 4 < 60e6  # bytes
