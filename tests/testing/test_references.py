"""The models made of the truth: their clips against pictures drawn by plain loops, their failings against chance."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.data import sprites
from stillmotion.data.base import ClipSet
from stillmotion.metrics.judge import check_judge, read_all
from stillmotion.tasks.clips import generate, reconstruct, swap
from stillmotion.tasks.codes import encode
from stillmotion.testing import LAWS, Case
from stillmotion.testing.references import (
    REFERENCES,
    ExactJudge,
    IdentityCheat,
    PerfectSwapper,
    RandomCoder,
    Reference,
    World,
    toy_world,
)
from stillmotion.testing.toys import toy

PALETTE = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]


@cache
def small_world() -> World:
    return toy_world(8)


def picture(colour: int, direction: int, start: int, steps: int) -> Tensor:
    frames = torch.zeros(steps, 3, 8, 8)
    for t in range(steps):
        for column in range(3):
            x = (start + (t if direction else -t) + column) % 8
            for channel in range(3):
                frames[t, channel, :, x] = PALETTE[colour][channel]
    return frames


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def right(world: World, frames: Tensor, factor: str, truth: Tensor) -> float:
    """Share of clips that show the class."""
    verdicts = ExactJudge(world).read(Clips.of(frames))
    return (verdicts.top(factor) == truth).float().mean().item()


def test_the_toy_world_has_every_combination_once_and_looks_as_drawn_by_hand() -> None:
    world = small_world()
    assert (world.static, world.moving, len(world.clips)) == (("colour",), ("direction", "start"), 64)
    clips = world.clips.clips()
    seen = set()
    for row, frames in enumerate(clips.frames):
        colour, direction, start = (int(clips.labels[name][row]) for name in ("colour", "direction", "start"))
        seen.add((colour, direction, start))
        torch.testing.assert_close(frames, picture(colour, direction, start, steps=8))
    assert len(seen) == 64


def test_clips_are_known_by_their_pixels_alone() -> None:
    drawn = toy(50, 8, seeded(3))
    world = small_world()
    rows = world.find(drawn.clips())
    for factor in ("colour", "direction"):
        assert torch.equal(world.clips.labels[factor][rows], drawn.labels[factor])


def test_a_clip_of_another_world_is_refused() -> None:
    frames = small_world().clips.clips().frames[:3].clone()
    frames[1, 0, 0, 0, 0] = 0.5
    with pytest.raises(UserError, match="clips of the known world, got 1 of 3"):
        small_world().find(Clips.of(frames))
    with pytest.raises(UserError, match="got 2 of 2"):
        PerfectSwapper(small_world()).encode(Clips.of(frames[[0, 2], :5]))


def test_a_world_with_a_gap_is_refused() -> None:
    with pytest.raises(UserError, match=r"1 combinations of 64 lacking.*not a split"):
        World(small_world().clips.subset(torch.arange(63)))
    with pytest.raises(UserError, match="65 clips, 0 combinations"):
        World(small_world().clips.subset(torch.arange(65) % 64))


def test_a_world_whose_clips_look_alike_is_refused() -> None:
    labels = {"who": torch.tensor([0, 0, 1, 1]), "what": torch.tensor([0, 1, 0, 1])}
    frames = torch.zeros(4, 2, 3, 8, 8, dtype=torch.uint8)
    frames[1:3, 0, 0, 0, 0] = torch.tensor([1, 2], dtype=torch.uint8)
    with pytest.raises(UserError, match="3 sights of 4 clips"):
        World(ClipSet.whole(frames, labels, {"who": ("a", "b"), "what": ("c", "d")}, moving=("what",)))


@pytest.mark.parametrize("kind", [PerfectSwapper, IdentityCheat])
def test_all_but_the_random_coder_reconstruct_to_the_last_bit_from_means_and_from_samples(kind: type[Reference]) -> None:
    model, clips = kind(small_world()), toy(40, 8, seeded(1)).clips()
    assert torch.equal(reconstruct(model, clips), clips.frames)
    samples = encode(model, clips, generator=seeded())
    assert samples.path is not None
    assert not torch.equal(samples.path, encode(model, clips).path)  # type: ignore[arg-type]
    assert torch.equal(model.decode(samples), clips.frames)


def test_a_perfect_swap_is_the_picture_of_one_colour_with_the_other_movement() -> None:
    world = small_world()
    model, labels = PerfectSwapper(world), world.clips.labels
    who, what = torch.randperm(64, generator=seeded(1)), torch.randperm(64, generator=seeded(2))
    codes = encode(model, world.clips)
    swapped = swap(model, identity=codes[who], motion=codes[what])
    for frames, a, b in zip(swapped, who.tolist(), what.tolist(), strict=True):
        expected = picture(int(labels["colour"][a]), int(labels["direction"][b]), int(labels["start"][b]), 8)
        torch.testing.assert_close(frames, expected)


def test_a_swap_of_the_cheat_shows_the_clip_that_the_movement_came_from() -> None:
    world = small_world()
    model = IdentityCheat(world)
    codes = encode(model, world.clips)
    assert torch.equal(swap(model, identity=codes[torch.arange(64).roll(17)], motion=codes), world.clips.clips().frames)


def test_the_static_code_of_the_cheat_is_noise() -> None:
    model, clips = IdentityCheat(small_world()), small_world().clips.clips(torch.zeros(4000, dtype=torch.long))
    static = model.encode(clips).static
    assert static is not None
    assert torch.all(static.mean(0).abs() < 0.08)  # five standard errors of 4000 draws
    assert torch.all((static.std(0) - 1).abs() < 0.06)
    assert torch.all((torch.corrcoef(static.T) - torch.eye(4)).abs() < 0.08)


def test_the_random_coder_is_right_as_often_as_a_guess() -> None:
    world = small_world()
    model, clips = RandomCoder(world), world.clips.clips(torch.arange(4000) % 64)
    shown = reconstruct(model, clips)
    for factor, classes in (("colour", 4), ("direction", 2), ("start", 8)):
        chance = 1 / classes
        off = abs(right(world, shown, factor, clips.labels[factor]) - chance)
        assert off < 5 * (chance * (1 - chance) / 4000) ** 0.5


@pytest.mark.parametrize("name", REFERENCES)
def test_new_clips_are_clips_of_the_world_drawn_evenly(name: str) -> None:
    world = small_world()
    rows = world.find(Clips.of(generate(REFERENCES[name](world), 3200, 8, seed=1)))
    counts = torch.bincount(rows, minlength=64)
    assert counts.min() > 50 - 5 * 50**0.5
    assert counts.max() < 50 + 5 * 50**0.5


@pytest.mark.parametrize("name", REFERENCES)
def test_new_clips_come_from_the_generator_alone(name: str) -> None:
    model = REFERENCES[name](small_world())
    first = generate(model, 20, 8, seed=1)
    model.encode(small_world().clips.clips())
    assert torch.equal(first, generate(model, 20, 8, seed=1))
    assert not torch.equal(first, generate(model, 20, 8, seed=2))


def test_a_clip_longer_than_the_world_starts_over() -> None:
    long = generate(PerfectSwapper(small_world()), 10, 19, seed=0)
    assert long.shape == (10, 19, 3, 8, 8)
    assert torch.equal(long[:, 8:], long[:, :11])


def test_every_reference_has_posteriors_of_the_shape_of_its_codes() -> None:
    for kind in REFERENCES.values():
        codes = kind(small_world()).encode(small_world().clips.clips(slice(5)))
        for part in ("static", "dynamic", "path"):
            posterior = getattr(codes, f"{part}_posterior")
            assert posterior.mean.shape == posterior.scale.shape == getattr(codes, part).shape
            assert torch.equal(posterior.mean, getattr(codes, part))
            assert bool((posterior.scale > 0).all())


@pytest.mark.parametrize("law", ["shapes", "batch", "noise", "generation", "swap", "groups"])
def test_a_perfect_swapper_keeps_the_laws_of_models(law: str) -> None:
    LAWS[law].check(Case(lambda: PerfectSwapper(toy_world(4 if law == "noise" else 5)), ()))


def test_there_is_nothing_to_learn() -> None:
    clips = small_world().clips.clips(slice(2))
    terms = PerfectSwapper(small_world())(clips, {}, None)
    terms.total.backward()
    assert terms.total.item() == 0


def test_the_exact_judge_is_sure_and_right() -> None:
    world = small_world()
    judge, data = ExactJudge(world), toy(100, 8, seeded(2))
    assert check_judge(judge, data) == ["colour", "direction"]
    verdicts = read_all(judge, data)
    assert len(verdicts) == 100
    for factor in ("colour", "direction"):
        own = verdicts.probabilities(factor).gather(1, data.labels[factor][:, None])
        assert torch.equal(verdicts.top(factor), data.labels[factor])
        assert own.min() > 1 - 1e-12
    assert verdicts.features.shape == (100, 4 + 2 + 8)


def _scores_of_sprites(world: World, kind: type[Reference], count: int) -> dict[str, float]:
    """Shares of pairs of test clips whose swap shows each factor of the clip that it should come from."""
    model, data = kind(world), world.clips
    who, what = (torch.randint(len(data), (count,), generator=seeded(k)) for k in (1, 2))
    labels = {factor: value[what if factor in data.moving else who] for factor, value in data.labels.items()}
    hits = dict.fromkeys(labels, 0)
    for part in torch.split(torch.arange(count), 64):
        identity, motion = (encode(model, data.clips(rows[part])) for rows in (who, what))
        verdicts = ExactJudge(world).read(Clips.of(swap(model, identity, motion)))
        for factor, truth in labels.items():
            hits[factor] += int((verdicts.top(factor) == truth[part]).sum())
    return {factor: found / count for factor, found in hits.items()}


def _assert_scores(world: World, count: int) -> None:
    perfect, cheat, random = (_scores_of_sprites(world, kind, count) for kind in (PerfectSwapper, IdentityCheat, RandomCoder))
    assert set(perfect.values()) == {1.0}
    for factor in perfect:
        chance = 1 / len(world.clips.classes[factor])
        allowed = 5 * (chance * (1 - chance) / count) ** 0.5
        assert abs(random[factor] - chance) <= allowed
        assert cheat[factor] == 1 if factor in world.clips.moving else abs(cheat[factor] - chance) <= allowed


@pytest.mark.data
def test_on_a_few_sprites_the_three_score_what_they_must(real_data: Path) -> None:
    world = World(sprites.compose(real_data / "lpc-sprites", (2, 1, 2, 2)))
    assert (world.static, world.moving) == (("body", "topwear", "hair"), ("action", "direction"))
    _assert_scores(world, 256)


@pytest.mark.data
@pytest.mark.slow
def test_on_all_sprites_the_three_score_what_they_must(real_data: Path) -> None:
    world = World(sprites.compose(real_data / "lpc-sprites", (6, 6, 6, 6)))
    assert len(world.clips) == 11664
    _assert_scores(world, 2664)
