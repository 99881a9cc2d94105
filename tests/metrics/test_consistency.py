from __future__ import annotations

import pytest
import torch
from saying import at_random, drawn, knowing_nothing, of_logits, saying, seeded, with_nan

from stillmotion.core.errors import UserError
from stillmotion.metrics.consistency import consistency


def test_a_perfect_auto_encoder_scores_one() -> None:
    verdicts = at_random(50)
    figures = consistency(verdicts, verdicts, seeded())
    assert set(figures) == {"consistency_hair", "consistency_action", "consistency_mean"}
    for figure in figures.values():
        assert (figure.value, figure.clips) == (1.0, 50)
        assert 0.9 < figure.low < 1.0 == figure.high


def test_the_share_is_counted_clip_by_clip_and_the_mean_over_factors() -> None:
    real = saying(hair=torch.tensor([0, 1, 2, 3]), action=torch.tensor([0, 0, 0, 0]))
    made = saying(hair=torch.tensor([0, 1, 2, 0]), action=torch.tensor([0, 1, 2, 3]))
    values = {name: figure.value for name, figure in consistency(real, made, seeded()).items()}
    assert values == {"consistency_hair": 0.75, "consistency_action": 0.25, "consistency_mean": 0.5}


def test_a_judge_that_is_wrong_twice_is_consistent() -> None:
    said = drawn(20)
    assert consistency(saying(hair=said), saying(hair=said), seeded())["consistency_hair"].value == 1.0


def test_shuffled_reconstructions_leave_chance_within_the_interval() -> None:
    said = torch.arange(400) % 4
    figures = consistency(saying(hair=said), saying(hair=said[torch.randperm(400, generator=seeded(2))]), seeded())
    for figure in figures.values():
        assert figure.low < 0.25 < figure.high


def test_a_grey_reconstruction_agrees_with_one_class_alone() -> None:
    real = saying(hair=torch.arange(40) % 4, action=torch.arange(40) % 4)
    assert consistency(real, knowing_nothing(40), seeded())["consistency_mean"].value == 0.25


def test_the_prefix_names_the_judge() -> None:
    verdicts = saying(hair=drawn(9))
    assert list(consistency(verdicts, verdicts, seeded(), prefix="consistency_pooled_judge_")) == [
        "consistency_pooled_judge_hair",
        "consistency_pooled_judge_mean",
    ]


def test_clusters_widen_the_interval() -> None:
    people = torch.arange(200) // 20
    real, made = saying(hair=torch.zeros(200, dtype=torch.long)), saying(hair=people % 2)
    alone, together = consistency(real, made, seeded()), consistency(real, made, seeded(), people)
    for name in alone:
        assert together[name].high - together[name].low > 2 * (alone[name].high - alone[name].low)


def test_the_order_of_the_clips_does_not_matter() -> None:
    real, made, order = at_random(60, seed=0), at_random(60, seed=1), torch.randperm(60, generator=seeded())
    there, here = consistency(real[order], made[order], seeded()), consistency(real, made, seeded())
    assert {name: figure.value for name, figure in there.items()} == {name: figure.value for name, figure in here.items()}


def test_a_single_clip_has_a_wide_interval() -> None:
    figure = consistency(at_random(1), at_random(1), seeded())["consistency_hair"]
    assert (figure.value, figure.clips) == (1.0, 1)
    assert figure.low < 0.3


def test_other_clips_other_judges_and_no_clips_are_refused() -> None:
    with pytest.raises(UserError, match="verdicts on the same clips, at least one, got 9 and 8"):
        consistency(at_random(9), at_random(8), seeded())
    with pytest.raises(UserError, match="got 0 and 0"):
        consistency(at_random(0), at_random(0), seeded())
    with pytest.raises(UserError, match="verdicts of one judge, got one of hair, action and one of hair"):
        consistency(at_random(9), of_logits(hair=torch.zeros(9, 4)), seeded())


@pytest.mark.parametrize("factor", ["hair", "action"])
def test_verdicts_that_are_not_numbers_are_refused(factor: str) -> None:
    verdicts = at_random(9)
    for pair in ((verdicts, with_nan(verdicts, factor)), (with_nan(verdicts, factor), verdicts)):
        with pytest.raises(UserError, match=f"finite verdicts on {factor}"):
            consistency(*pair, seeded())
