from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saying import at_random, knowing_nothing, of_logits, saying, seeded, with_nan
from scipy.stats import entropy as scipy_entropy

from stillmotion.core.errors import UserError
from stillmotion.metrics.entropies import entropies, entropy
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.judge import Verdicts


def values(figures: Figures) -> dict[str, float]:
    return {name.removeprefix("generation_"): figure.value for name, figure in figures.items()}


def test_clear_and_varied_clips_reach_the_mean_of_the_ceilings() -> None:
    verdicts = saying(6, hair=torch.arange(60) % 6, action=torch.arange(60) % 2)
    assert values(entropies(verdicts, seeded())) == pytest.approx({
        "entropy": (math.log(6) + math.log(2)) / 2, "conditional_entropy": 0.0, "entropy_hair": math.log(6),
        "conditional_entropy_hair": 0.0, "entropy_action": math.log(2), "conditional_entropy_action": 0.0,
    })  # fmt: skip


def test_clips_that_show_nothing_are_unsure_and_one_kind_of_clip_is_not_varied() -> None:
    nothing, one = values(entropies(knowing_nothing(30, 6), seeded())), values(entropies(saying(hair=torch.full((30,), 2)), seeded()))
    assert list(nothing.values()) == pytest.approx([math.log(6)] * 6)
    assert list(one.values()) == [0.0] * 4


def test_entropies_are_those_of_scipy() -> None:
    verdicts = at_random(70)
    rows = [verdicts.probabilities(factor).numpy() for factor in ("hair", "action")]
    found = values(entropies(verdicts, seeded()))
    assert found["entropy_hair"] == pytest.approx(scipy_entropy(rows[0].mean(0)), rel=1e-10)
    assert found["conditional_entropy_action"] == pytest.approx(scipy_entropy(rows[1], axis=1).mean(), rel=1e-10)
    assert found["entropy"] == pytest.approx(sum(scipy_entropy(row.mean(0)) for row in rows) / 2, rel=1e-10)
    assert found["conditional_entropy"] == pytest.approx(sum(scipy_entropy(row, axis=1).mean() for row in rows) / 2, rel=1e-10)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_the_published_way_of_avoiding_the_logarithm_of_zero_gives_the_same(scale: float) -> None:
    rows = (scale * torch.randn(20, 9, generator=seeded(), dtype=torch.double)).softmax(1)
    assert torch.allclose(entropy(rows), -(rows * (rows + 1e-16).log()).sum(1), rtol=0, atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_mean_verdict_is_never_surer_than_its_clips(clips: int, seed: int) -> None:
    found = values(entropies(at_random(clips, seed=seed), seeded()))
    assert -1e-12 <= found["conditional_entropy"] <= found["entropy"] + 1e-12 <= math.log(4) + 2e-12


def test_heads_of_different_size_count_alike() -> None:
    verdicts: Verdicts = of_logits(identity=torch.zeros(5, 52), action=torch.zeros(5, 6))
    assert values(entropies(verdicts, seeded()))["entropy"] == pytest.approx((math.log(52) + math.log(6)) / 2)


def test_intervals_hold_their_value_and_count_the_clips() -> None:
    for figure in entropies(at_random(40), seeded()).values():
        assert figure.low <= figure.value <= figure.high
        assert figure.low < figure.high
        assert figure.clips == 40


def test_the_order_of_the_clips_does_not_matter() -> None:
    verdicts = at_random(50)
    assert values(entropies(verdicts[torch.randperm(50, generator=seeded())], seeded())) == pytest.approx(
        values(entropies(verdicts, seeded())), rel=1e-12
    )


def test_a_single_clip_is_as_varied_as_it_is_unsure() -> None:
    found = values(entropies(at_random(1), seeded()))
    assert found["entropy"] == pytest.approx(found["conditional_entropy"])


def test_no_clips_and_verdicts_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="at least one generated clip, got none"):
        entropies(at_random(0), seeded())
    with pytest.raises(UserError, match="finite verdicts on hair, got 1 of 9 clips"):
        entropies(with_nan(at_random(9), "hair"), seeded())
