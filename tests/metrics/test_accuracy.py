from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saying import at_random, drawn, knowing_nothing, saying, seeded, with_nan
from torchmetrics.functional.classification import multiclass_accuracy

from stillmotion.core.errors import UserError
from stillmotion.metrics.accuracy import accuracies


def test_a_judge_that_is_right_scores_one_of_all_clips() -> None:
    labels = {"hair": drawn(40)}
    figure = accuracies(saying(hair=labels["hair"]), labels, ["hair"], seeded())["hair"]
    assert (figure.value, figure.high, figure.clips) == (1.0, 1.0, 40)
    assert 0.85 < figure.low < 1.0


def test_the_share_is_that_of_torchmetrics() -> None:
    verdicts, labels = at_random(200), {"hair": drawn(200)}
    oracle = multiclass_accuracy(verdicts.logits["hair"], labels["hair"], num_classes=4, average="micro")
    assert accuracies(verdicts, labels, ["hair"], seeded())["hair"].value == pytest.approx(oracle.item(), abs=1e-7)


def test_shuffled_labels_leave_chance_within_the_interval() -> None:
    labels = torch.arange(400) % 4
    figure = accuracies(saying(hair=labels), {"hair": labels[torch.randperm(400, generator=seeded())]}, ["hair"], seeded())["hair"]
    assert figure.low < 0.25 < figure.high
    assert figure.high - figure.low < 0.12


def test_a_judge_that_knows_nothing_is_right_on_the_class_that_it_names_first() -> None:
    labels = {"hair": torch.arange(100) % 4}
    assert accuracies(knowing_nothing(100), labels, ["hair"], seeded())["hair"].value == 0.25


def test_clips_of_unknown_class_do_not_count() -> None:
    labels = torch.tensor([0, 1, -1, -1, 2])
    said = torch.tensor([0, 1, 3, 3, 3])
    figure = accuracies(saying(hair=said), {"hair": labels}, ["hair"], seeded(), clusters=torch.arange(5))["hair"]
    assert (figure.value, figure.clips) == (pytest.approx(2 / 3), 3)


def test_clusters_widen_the_interval() -> None:
    people = torch.arange(400) // 20
    labels, hit = torch.zeros(400, dtype=torch.long), (people % 2).bool()
    verdicts = saying(hair=torch.where(hit, 0, 1))
    alone = accuracies(verdicts, {"hair": labels}, ["hair"], seeded())["hair"]
    together = accuracies(verdicts, {"hair": labels}, ["hair"], seeded(), people)["hair"]
    assert together.value == alone.value == 0.5
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_factors_that_the_judge_or_the_labels_lack_are_left_out() -> None:
    labels = {"hair": drawn(9), "age": drawn(9), "action": torch.full((9,), -1)}
    assert list(accuracies(at_random(9), labels, ["hair", "age", "action", "shirt"], seeded(), name="x_{}_y")) == ["x_hair_y"]


@given(st.permutations(range(30)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_clips_does_not_matter(order: list[int]) -> None:
    verdicts, labels, index = at_random(30), drawn(30), torch.tensor(order)
    here = accuracies(verdicts, {"hair": labels}, ["hair"], seeded())["hair"]
    there = accuracies(verdicts[index], {"hair": labels[index]}, ["hair"], seeded())["hair"]
    assert there.value == here.value


def test_verdicts_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="finite verdicts on hair, got 1 of 9 clips with NaN"):
        accuracies(with_nan(at_random(9), "hair"), {"hair": drawn(9)}, ["hair"], seeded())


def test_labels_of_other_clips_or_classes_are_refused() -> None:
    with pytest.raises(UserError, match="one label of hair for each of 9 verdicts, got 8"):
        accuracies(at_random(9), {"hair": drawn(8)}, ["hair"], seeded())
    with pytest.raises(UserError, match="labels of hair below 4, .* got 4.*judge train"):
        accuracies(at_random(9), {"hair": torch.full((9,), 4)}, ["hair"], seeded())


@pytest.mark.parametrize(("clips", "label"), [(0, 0), (5, -1)])
def test_no_clip_to_measure_is_refused(clips: int, label: int) -> None:
    with pytest.raises(UserError, match="clips of known hair, got . clips labelled hair, and a judge of hair, action"):
        accuracies(at_random(clips), {"hair": torch.full((clips,), label)}, ["hair"], seeded())


def test_no_factor_to_measure_is_refused() -> None:
    with pytest.raises(UserError, match="at least one factor to measure"):
        accuracies(at_random(5), {"hair": drawn(5)}, [], seeded())
