from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saying import at_random, drawn, knowing_nothing, saying, seeded, with_nan
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figures, share
from stillmotion.metrics.judge import Verdicts
from stillmotion.metrics.swaps import by_classes, plan_pairs, swap_accuracy

MOVING = ("action",)


class Swapped:
    """All swaps of clips with random classes, and what a perfect model and an identity cheat show."""

    def __init__(self, clips: int = 24, classes: int = 4) -> None:
        self.labels = {"hair": drawn(clips, classes, 1), "action": drawn(clips, classes, 2)}
        self.pairs = plan_pairs(clips, clips**2, seeded())
        self.identity, self.motion = ({f: x[self.pairs[:, k]] for f, x in self.labels.items()} for k in (0, 1))
        self.perfect = saying(classes, hair=self.identity["hair"], action=self.motion["action"])
        self.cheat = saying(classes, hair=self.motion["hair"], action=self.motion["action"])

    def score(self, verdicts: Verdicts) -> Figures:
        return swap_accuracy(verdicts, self.identity, self.motion, MOVING, seeded(), clusters=self.pairs)


def codes(pairs: Tensor) -> list[int]:
    return (pairs[:, 0] * 10_000 + pairs[:, 1]).tolist()


@given(st.integers(2, 40), st.integers(1, 2000), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_planned_pairs_are_balanced_in_both_orders_and_never_twice(count: int, most: int, seed: int) -> None:
    pairs = plan_pairs(count, most, seeded(seed))
    assert len(set(codes(pairs))) == len(pairs)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert set(codes(pairs)) == set(codes(pairs.flip(1)))
    for side in pairs.unbind(1):
        times = torch.bincount(side, minlength=count)
        assert len(times) == count
        assert times.min() == times.max() > 0
    shortest = count * (1 + count % 2)
    assert len(pairs) <= max(most, shortest)
    assert len(pairs) > min(most, count * (count - 1)) - shortest


def test_all_ordered_pairs_where_they_fit() -> None:
    pairs = plan_pairs(5, 20, seeded())
    assert set(codes(pairs)) == {a * 10_000 + b for a in range(5) for b in range(5) if a != b}
    assert len(plan_pairs(5, 19, seeded())) == 10


def test_pairs_depend_on_the_generator_alone() -> None:
    assert torch.equal(plan_pairs(50, 300, seeded(1)), plan_pairs(50, 300, seeded(1)))
    assert not torch.equal(plan_pairs(50, 300, seeded(1)), plan_pairs(50, 300, seeded(2)))


def test_every_pair_is_as_likely_as_any_other() -> None:
    found = torch.zeros(6, 6)
    for seed in range(1000):
        found.view(-1).index_add_(0, (plan_pairs(6, 12, seeded(seed)) @ torch.tensor([6, 1])), torch.ones(12))
    apart = found[~torch.eye(6, dtype=torch.bool)]
    assert (apart / 1000 - 12 / 30).abs().max() < 5 * (0.4 * 0.6 / 1000) ** 0.5


@pytest.mark.parametrize(("count", "most"), [(1, 10), (0, 10), (5, 0)])
def test_nothing_to_pair_is_refused(count: int, most: int) -> None:
    with pytest.raises(UserError, match=f"at least two clips to swap, and at least one pair, got {count} clips and {most} pairs"):
        plan_pairs(count, most, seeded())


def test_a_perfect_swapper_scores_one_throughout() -> None:
    world = Swapped()
    figures = world.score(world.perfect)
    assert {f"swap_{x}_accuracy" for x in ("hair", "action", "static", "dynamic", "both")} == set(figures)
    assert {(figure.value, figure.high, figure.clips) for figure in figures.values()} == {(1.0, 1.0, 24 * 23)}
    # as wide as for 24 clips, not for 552 pairs
    assert all(0.8 < figure.low < 0.9 for figure in figures.values())


def test_an_identity_cheat_is_exposed_by_the_static_factors() -> None:
    world = Swapped()
    figures = world.score(world.cheat)
    assert figures["swap_action_accuracy"].value == 1.0
    hair = figures["swap_hair_accuracy"]
    same = (world.identity["hair"] == world.motion["hair"]).double().mean().item()
    assert hair.value == pytest.approx(same)
    assert figures["swap_both_accuracy"].value == figures["swap_static_accuracy"].value == hair.value


def test_shuffled_verdicts_leave_chance_within_the_interval() -> None:
    world = Swapped(40)
    figures = world.score(world.perfect[torch.randperm(len(world.pairs), generator=seeded(4))])
    for name in ("swap_hair_accuracy", "swap_action_accuracy"):
        assert figures[name].low < 0.25 < figures[name].high
    assert figures["swap_both_accuracy"].low < 1 / 16 < figures["swap_both_accuracy"].high


def test_a_judge_that_knows_nothing_names_the_first_class() -> None:
    world = Swapped()
    figures = world.score(knowing_nothing(len(world.pairs)))
    assert figures["swap_action_accuracy"].value == pytest.approx((world.labels["action"] == 0).double().mean().item())


def test_all_at_once_are_counted_pair_by_pair() -> None:
    truth = {factor: torch.zeros(4, dtype=torch.long) for factor in ("hair", "shirt", "action")}
    verdicts = saying(hair=torch.tensor([0, 0, 1, 1]), shirt=torch.tensor([0, 1, 0, 1]), action=torch.tensor([0, 1, 0, 0]))
    found = swap_accuracy(verdicts, truth, truth, MOVING, seeded(), plan_pairs(4, 4, seeded()))
    values = {name.removeprefix("swap_").removesuffix("_accuracy"): figure.value for name, figure in found.items()}
    assert values == {"hair": 0.5, "shirt": 0.5, "action": 0.75, "static": 0.25, "dynamic": 0.75, "both": 0.25}


def test_only_pairs_of_known_classes_count() -> None:
    identity = {"hair": torch.tensor([0, -1, 2, 3]), "action": torch.full((4,), -1)}
    motion = {"hair": torch.full((4,), -1), "action": torch.tensor([0, 1, -1, 3])}
    verdicts = saying(hair=torch.tensor([0, 1, 2, 0]), action=torch.tensor([0, 1, 2, 0]))
    found = swap_accuracy(verdicts, identity, motion, MOVING, seeded(), plan_pairs(4, 4, seeded()))
    assert {name: (round(f.value, 4), f.clips) for name, f in found.items()} == {
        "swap_hair_accuracy": (0.6667, 3), "swap_action_accuracy": (0.6667, 3), "swap_static_accuracy": (0.6667, 3),
        "swap_dynamic_accuracy": (0.6667, 3), "swap_both_accuracy": (0.5, 2),
    }  # fmt: skip


def test_without_a_moving_factor_there_is_no_both() -> None:
    world = Swapped(6)
    found = swap_accuracy(world.perfect, {"hair": world.identity["hair"]}, {}, MOVING, seeded(), world.pairs)
    assert set(found) == {"swap_hair_accuracy", "swap_static_accuracy"}


def test_the_interval_is_wider_than_that_of_pairs_where_hits_depend_on_clips() -> None:
    world = Swapped(30)
    bad = world.pairs[:, 0] % 2 == 0
    verdicts = saying(hair=torch.where(bad, (world.identity["hair"] + 1) % 4, world.identity["hair"]), action=world.motion["action"])
    found, naive = world.score(verdicts)["swap_hair_accuracy"], share(~bad, seeded())
    assert found.value == naive.value == 0.5
    # the truth is the interval of 30 clips, half of which fail
    expected = 2 * 1.96 * (0.25 / 30) ** 0.5
    assert found.high - found.low > 3 * (naive.high - naive.low)
    assert 0.7 * expected < found.high - found.low < 1.4 * expected


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        skill = torch.rand(20, generator=seeded(seed))
        pairs = plan_pairs(20, 120, seeded(seed))
        chance = (skill[pairs[:, 0]] + skill[pairs[:, 1]]) / 2
        hits = torch.rand(len(pairs), generator=seeded(seed + 1000)) < chance
        zero = {"hair": torch.zeros(len(pairs), dtype=torch.long)}
        found = swap_accuracy(saying(hair=(~hits).long()), zero, {}, MOVING, seeded(seed), pairs)["swap_hair_accuracy"]
        held += found.low <= 0.5 <= found.high
    assert held >= 53


def test_clips_of_one_cluster_are_drawn_together() -> None:
    world = Swapped(40)
    people = torch.arange(40) // 8
    good = people[world.pairs[:, 0]] % 2 == 0
    verdicts = saying(hair=torch.where(good, world.identity["hair"], (world.identity["hair"] + 1) % 4), action=world.motion["action"])
    alone = world.score(verdicts)["swap_hair_accuracy"]
    together = swap_accuracy(verdicts, world.identity, world.motion, MOVING, seeded(), people[world.pairs])["swap_hair_accuracy"]
    assert together.value == alone.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_clean_sweep_is_as_sure_as_the_side_with_fewer_clips() -> None:
    pairs = torch.tensor([[who, what] for who in (0, 1) for what in range(2, 30)])
    zero = {"hair": torch.zeros(len(pairs), dtype=torch.long)}
    for side in (pairs, pairs.flip(1)):
        found = swap_accuracy(saying(hair=zero["hair"]), zero, {}, MOVING, seeded(), side)["swap_hair_accuracy"]
        assert found.low == pytest.approx(2 / (2 + 1.96**2))


def test_pairs_within_a_cluster_count_once_each_time_that_it_is_drawn() -> None:
    world, people = Swapped(60), torch.arange(60) // 2
    within = people[world.pairs[:, 0]] == people[world.pairs[:, 1]]
    zero = {"hair": torch.zeros(len(within), dtype=torch.long)}
    found = swap_accuracy(saying(hair=(~within).long()), zero, {}, MOVING, seeded(), people[world.pairs])["swap_hair_accuracy"]
    # as often as its square would double their share
    assert found.value == pytest.approx(1 / 59)
    assert found.low <= found.value < found.high < 1.2 / 59


def test_the_order_of_the_pairs_does_not_matter() -> None:
    world = Swapped(12)
    verdicts = at_random(len(world.pairs))
    order = torch.randperm(len(world.pairs), generator=seeded(9))
    sides = [{f: x[order] for f, x in side.items()} for side in (world.identity, world.motion)]
    there, here = swap_accuracy(verdicts[order], *sides, MOVING, seeded(), world.pairs[order]), world.score(verdicts)
    assert {name: figure.value for name, figure in there.items()} == {name: figure.value for name, figure in here.items()}


def test_two_clips_are_enough() -> None:
    world = Swapped(2)
    figures = world.score(world.perfect)
    assert figures["swap_both_accuracy"].value == 1.0
    assert figures["swap_both_accuracy"].clips == 2


def test_accuracy_by_classes_is_that_of_a_loop() -> None:
    world = Swapped(30)
    verdicts = at_random(len(world.pairs))
    for factor, side in (("hair", world.identity), ("action", world.motion)):
        found = by_classes(verdicts, world.identity, world.motion, factor, MOVING)
        for row in range(4):
            for column in range(4):
                cell = (world.motion[factor] == row) & (world.identity[factor] == column)
                expected = (verdicts.top(factor) == side[factor])[cell].double().mean()
                assert found[row, column].item() == pytest.approx(expected.item(), nan_ok=True)


def test_by_classes_a_cheat_is_right_only_where_both_clips_agree() -> None:
    world = Swapped(60)
    assert torch.equal(by_classes(world.cheat, world.identity, world.motion, "hair", MOVING), torch.eye(4, dtype=torch.double))


def test_a_cell_without_a_pair_is_not_a_number() -> None:
    identity, motion = {"hair": torch.tensor([0, 1, -1])}, {"hair": torch.tensor([1, 1, 0])}
    found = by_classes(saying(2, hair=torch.tensor([0, 0, 0])), identity, motion, "hair", MOVING)
    assert torch.allclose(found, torch.tensor([[float("nan")] * 2, [1.0, 0.0]], dtype=torch.double), equal_nan=True)


def test_verdicts_that_are_not_numbers_or_of_other_clips_are_refused() -> None:
    world = Swapped(5)
    with pytest.raises(UserError, match="finite verdicts on action"):
        world.score(with_nan(world.perfect, "action"))
    with pytest.raises(UserError, match="finite verdicts on hair"):
        by_classes(with_nan(world.perfect, "hair"), world.identity, world.motion, "hair", MOVING)
    with pytest.raises(UserError, match=r"the two clips of each of 20 swapped ones, \(P, 2\), got shape \(20,\)"):
        swap_accuracy(world.perfect, world.identity, world.motion, MOVING, seeded(), world.pairs[:, 0])


def test_pairs_without_labels_are_refused() -> None:
    world = Swapped(5)
    with pytest.raises(UserError, match="at least one factor"):
        swap_accuracy(world.perfect, {}, {}, MOVING, seeded(), world.pairs)
