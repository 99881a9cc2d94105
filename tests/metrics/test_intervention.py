from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.intervention import intervention
from stillmotion.metrics.judge import Verdicts

CLASSES = {"hair": 4, "action": 3}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(repeats: int = 10) -> dict[str, Tensor]:
    hair, action = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    return {"hair": hair.flatten().repeat(repeats), "action": action.flatten().repeat(repeats)}


def judged(tops: dict[str, Tensor]) -> Verdicts:
    logits = {name: torch.nn.functional.one_hot(top, CLASSES[name]).float() for name, top in tops.items()}
    return Verdicts(logits, torch.zeros(len(next(iter(tops.values()))), 1))


def constant(factor: str) -> dict[str, Tensor]:
    """Clips as they were, but every one judged to be of class 0 of `factor`: right for exactly one in `classes`."""
    return {**grid(), factor: torch.zeros(120, dtype=torch.long)}


def test_what_stays_stays_and_what_was_resampled_is_at_chance() -> None:
    figures = intervention("intervention_static", judged(constant("hair")), grid(), ["action"], seeded())
    assert list(figures) == ["intervention_static"]
    assert figures["intervention_static"].value == pytest.approx(1)
    assert figures["intervention_static"].clips == 120


def test_clips_in_which_nothing_changed_lose_what_is_above_chance() -> None:
    assert intervention("x", judged(grid()), grid(), ["action"], seeded())["x"].value == pytest.approx(1 - (1 - 1 / 4) / 2)


def test_clips_in_which_the_wrong_part_changed_lose_both_ways() -> None:
    figure = intervention("x", judged(constant("action")), grid(), ["action"], seeded())["x"]
    assert figure.value == pytest.approx(1 - ((1 - 1 / 3) + (1 - 1 / 4)) / 2)


def test_factors_of_one_kind_weigh_alike() -> None:
    labels = {**grid(), "top": grid()["hair"]}
    tops = {**constant("hair"), "top": grid()["hair"]}
    verdicts = judged({"hair": tops["hair"], "action": tops["action"]})
    verdicts = Verdicts({**verdicts.logits, "top": torch.nn.functional.one_hot(tops["top"], 5).float()}, verdicts.features)
    assert intervention("x", verdicts, labels, ["action"], seeded())["x"].value == pytest.approx(1 - (0 + (1 - 1 / 5)) / 2 / 2)
    both = intervention("x", verdicts, labels, ["action", "hair"], seeded())["x"]
    assert both.value == pytest.approx(1 - ((3 / 4) / 2 + (1 - 1 / 5)) / 2)


def test_guesses_fall_short_of_one_by_the_spread_of_their_accuracy() -> None:
    scores = []
    for seed in range(100):
        guess = torch.randint(4, (120,), generator=seeded(seed))
        scores.append(intervention("x", judged({**grid(), "hair": guess}), grid(), ["action"], seeded())["x"].value)
    expected = 1 - math.sqrt(2 * 3 / (math.pi * 120)) / 4 / 2
    assert sum(scores) / 100 == pytest.approx(expected, abs=4e-3)


def test_clips_of_unknown_class_do_not_count() -> None:
    labels, tops = grid(), constant("hair")
    tops["action"] = tops["action"].clone()
    tops["action"][:24] = 0
    labels["action"][:24] = -1
    figure = intervention("x", judged(tops), labels, ["action"], seeded())["x"]
    assert (figure.value, figure.clips) == (pytest.approx(1), 120)
    labels["hair"][:24] = -1
    assert intervention("x", judged(tops), labels, ["action"], seeded())["x"].clips == 96


def test_clips_that_belong_together_widen_the_interval() -> None:
    labels = {name: values.repeat_interleave(8) for name, values in grid(2).items()}
    tops = {**labels, "action": torch.where(torch.arange(192) // 8 % 3 == 0, 0, labels["action"])}
    tops["action"][:64] = (tops["action"][:64] + 1) % 3
    alone = intervention("x", judged(tops), labels, ["action"], seeded())["x"]
    together = intervention("x", judged(tops), labels, ["action"], seeded(), torch.arange(24).repeat_interleave(8))["x"]
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_both_kinds_of_factor_are_needed() -> None:
    for stay in ([], ["hair", "action"], ["mood"]):
        with pytest.raises(UserError, match="labelled factors that must stay and others"):
            intervention("x", judged(grid()), grid(), stay, seeded())


def test_a_factor_the_judge_does_not_know_other_clips_nan_and_no_labels_are_refused() -> None:
    with pytest.raises(UserError, match="a judge of hair"):
        intervention("x", judged({"action": grid()["action"]}), grid(), ["action"], seeded())
    with pytest.raises(UserError, match="hair of 120 clips"):
        intervention("x", judged(grid()), grid(5), ["action"], seeded())
    with pytest.raises(UserError, match="clips labelled with hair"):
        intervention("x", judged(grid()), {**grid(), "hair": torch.full((120,), -1)}, ["action"], seeded())
    for hair, expected in ((torch.full((120, 4), torch.nan), "finite logits of hair"), (torch.zeros(120, 1), "two classes of hair, got 1")):
        verdicts = Verdicts({**judged(grid()).logits, "hair": hair}, torch.zeros(120, 1))
        with pytest.raises(UserError, match=expected):
            intervention("x", verdicts, grid(), ["action"], seeded())
