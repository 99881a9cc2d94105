from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saying import at_random, drawn, knowing_nothing, saying, seeded, with_nan
from scipy.stats import entropy as scipy_entropy

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.judge import Verdicts
from stillmotion.metrics.two_factor import kept_content, kept_motion

MOVING = ("action", "facing")


def motion(verdicts: Verdicts, actions: torch.Tensor) -> Figures:
    return kept_motion(verdicts, {"action": actions}, MOVING, seeded())


def three(figures: Figures) -> list[float]:
    return [figures[f"two_factor_{name}"].value for name in ("inception_score", "entropy", "conditional_entropy")]


@pytest.mark.parametrize("classes", [2, 6, 9])
def test_a_perfect_swapper_reaches_the_ceilings(classes: int) -> None:
    actions = torch.arange(classes * 5) % classes
    figures = motion(saying(classes, action=actions), actions)
    assert three(figures) == pytest.approx([classes, math.log(classes), 0.0])
    accuracy = figures["two_factor_accuracy_action"]
    assert (accuracy.value, accuracy.clips) == (1.0, 5 * classes)


def test_a_judge_that_knows_nothing_scores_one() -> None:
    figures = motion(knowing_nothing(60, 6), torch.arange(60) % 6)
    assert three(figures) == pytest.approx([1.0, math.log(6), math.log(6)])
    assert figures["two_factor_accuracy_action"].value == pytest.approx(1 / 6)


def test_a_model_that_always_shows_one_action_scores_one_and_chance() -> None:
    figures = motion(saying(action=torch.full((40,), 2)), torch.arange(40) % 4)
    assert three(figures) == pytest.approx([1.0, 0.0, 0.0])
    assert figures["two_factor_accuracy_action"].value == 0.25


def test_shuffled_movement_is_at_chance_though_the_clips_are_clear() -> None:
    actions = torch.arange(400) % 4
    figures = motion(saying(action=actions[torch.randperm(400, generator=seeded(3))]), actions)
    accuracy = figures["two_factor_accuracy_action"]
    assert accuracy.low < 0.25 < accuracy.high
    assert figures["two_factor_inception_score"].value == pytest.approx(4, abs=0.05)


def test_entropies_are_those_of_scipy() -> None:
    verdicts, actions = at_random(80), torch.arange(80) % 4
    rows = verdicts.probabilities("action").numpy()
    varied, unsure = scipy_entropy(rows.mean(0)), scipy_entropy(rows, axis=1).mean()
    assert three(motion(verdicts, actions)) == pytest.approx([math.exp(varied - unsure), varied, unsure], rel=1e-10)


def test_classes_of_unequal_size_count_alike() -> None:
    few, many = torch.arange(8) % 4, torch.tensor([0] * 7 + [1, 1, 2])
    verdicts = at_random(18)
    rows, actions = verdicts.probabilities("action"), torch.cat([few, many])
    by_class = torch.stack([rows[actions == k].mean(0) for k in range(4)])
    unsure = torch.stack([torch.from_numpy(scipy_entropy(rows[actions == k].numpy(), axis=1)).mean() for k in range(4)]).mean()
    found = three(motion(verdicts, actions))
    assert found[1:] == pytest.approx([scipy_entropy(by_class.mean(0).numpy()), unsure.item()], rel=1e-10)
    assert found[0] == pytest.approx(math.exp(found[1] - found[2]))


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_clips_of_one_class_written_twice_change_nothing_and_the_score_keeps_its_bounds(seed: int, chosen: int) -> None:
    verdicts, actions = at_random(12, seed=seed), torch.arange(12) % 4
    index = torch.cat([torch.arange(12), (actions < chosen).nonzero().flatten().repeat(1 if chosen == 4 else 3)])
    once, more = three(motion(verdicts, actions)), three(motion(verdicts[index], actions[index]))
    assert more == pytest.approx(once, rel=1e-9)
    assert 1 <= once[0] <= 4


def test_intervals_hold_their_value_and_shrink_with_clips() -> None:
    small, large = (motion(at_random(n), drawn(n)) for n in (40, 1000))
    for name, figure in large.items():
        assert figure.low <= figure.value <= figure.high
        assert figure.high - figure.low < small[name].high - small[name].low


def test_clips_of_unknown_action_do_not_count() -> None:
    verdicts, actions = at_random(40), drawn(40)
    known = torch.arange(40) % 3 != 0
    found = kept_motion(verdicts, {"action": actions.where(known, -1)}, MOVING, seeded(), clusters=torch.arange(40))
    assert three(found) == pytest.approx(three(motion(verdicts[known], actions[known])), rel=1e-10)
    assert {figure.clips for figure in found.values()} == {int(known.sum())}


def test_a_single_clip_and_a_single_class_are_one_kind_of_clip() -> None:
    for clips in (1, 7):
        figures = motion(saying(action=torch.full((clips,), 3)), torch.full((clips,), 3))
        assert three(figures) == pytest.approx([1.0, 0.0, 0.0])
        assert figures["two_factor_accuracy_action"].clips == clips


def test_the_order_of_the_clips_does_not_matter() -> None:
    verdicts, actions, order = at_random(50), drawn(50), torch.randperm(50, generator=seeded(5))
    assert three(motion(verdicts[order], actions[order])) == pytest.approx(three(motion(verdicts, actions)), rel=1e-12)


def test_static_factors_are_the_other_run_and_suffixes_tell_the_source() -> None:
    labels = {"hair": drawn(20), "action": drawn(20, seed=2), "facing": drawn(20, seed=3)}
    verdicts = saying(hair=labels["hair"], action=labels["hair"], facing=labels["facing"])
    content = kept_content(verdicts, labels, MOVING, seeded(), suffix="_aggregate")
    assert list(content) == ["two_factor_accuracy_hair_aggregate"]
    assert content["two_factor_accuracy_hair_aggregate"].value == 1.0
    kept = kept_motion(verdicts, labels, MOVING, seeded(), suffix="_aggregate")
    assert {name.removesuffix("_aggregate") for name in kept} == {
        "two_factor_accuracy_action", "two_factor_accuracy_facing", "two_factor_inception_score", "two_factor_entropy",
        "two_factor_conditional_entropy",
    }  # fmt: skip
    assert all(name.endswith("_aggregate") for name in kept)


def test_entropies_are_of_the_first_moving_factor_or_of_the_one_named() -> None:
    labels = {"action": torch.arange(20) % 4, "facing": torch.arange(20) % 2}
    verdicts = saying(**labels)
    assert three(kept_motion(verdicts, labels, MOVING, seeded()))[0] == pytest.approx(4)
    assert three(kept_motion(verdicts, labels, MOVING, seeded(), factor="facing"))[0] == pytest.approx(2)
    with pytest.raises(UserError, match=r"a moving factor that is judged and labelled \(action, facing\), got hair"):
        kept_motion(verdicts, labels, MOVING, seeded(), factor="hair")


def test_data_without_the_half_that_is_asked_for_is_refused() -> None:
    with pytest.raises(UserError, match="clips of known action or facing"):
        kept_motion(at_random(9), {"hair": drawn(9)}, MOVING, seeded())
    with pytest.raises(UserError, match="clips of known hair"):
        kept_content(at_random(9), {"action": drawn(9)}, MOVING, seeded())
    with pytest.raises(UserError, match="clips of known action"):
        kept_motion(at_random(0), {"action": drawn(0)}, MOVING, seeded())


def test_verdicts_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="finite verdicts on action"):
        motion(with_nan(at_random(9), "action"), drawn(9))
    with pytest.raises(UserError, match="finite verdicts on hair"):
        kept_content(with_nan(at_random(9), "hair"), {"hair": drawn(9)}, MOVING, seeded())
