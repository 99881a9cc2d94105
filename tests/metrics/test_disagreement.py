from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saying import at_random, drawn, knowing_nothing, of_logits, saying, seeded, with_nan
from scipy.special import rel_entr

from stillmotion.core.errors import UserError
from stillmotion.metrics.disagreement import disagreement


def test_a_clip_that_keeps_what_it_should_is_not_disagreed_about() -> None:
    verdicts = at_random(30)
    found = disagreement(verdicts, verdicts, ["hair"], seeded())
    assert set(found) == {"disagreement_hair", "disagreement_kl_hair", "disagreement_kl_random_hair"}
    assert found["disagreement_hair"].value == 0.0
    assert found["disagreement_hair"].high > 0.0
    assert found["disagreement_kl_hair"].value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("classes", [6, 9])
def test_sure_verdicts_give_the_closed_forms(classes: int) -> None:
    real, other = saying(classes, hair=torch.zeros(10, dtype=torch.long)), saying(classes, hair=torch.ones(10, dtype=torch.long))
    found = disagreement(real, other, ["hair"], seeded())
    total = 1 + (classes - 1) * 1e-6
    most, least = 1 / total, 1e-6 / total
    assert found["disagreement_hair"].value == 1.0
    assert found["disagreement_kl_hair"].value == pytest.approx((most - least) * math.log(1e6), rel=1e-9)
    expected = -math.log(classes) - (math.log(most) + (classes - 1) * math.log(least)) / classes
    assert found["disagreement_kl_random_hair"].value == pytest.approx(expected, rel=1e-9)


def test_shuffled_clips_disagree_as_chance_says() -> None:
    said = torch.arange(600) % 6
    real, made = saying(6, hair=said), saying(6, hair=said[torch.randperm(600, generator=seeded(1))])
    found = disagreement(real, made, ["hair"], seeded())["disagreement_hair"]
    assert found.low < 5 / 6 < found.high


def test_decoded_clips_that_show_nothing_are_those_of_kl_random() -> None:
    found = disagreement(at_random(50), knowing_nothing(50), ["action"], seeded())
    assert found["disagreement_kl_action"].value == pytest.approx(found["disagreement_kl_random_action"].value, rel=1e-12)


def test_kl_is_that_of_scipy() -> None:
    real, made = at_random(40, seed=0), at_random(40, seed=1)
    p, q = made.probabilities("hair").numpy(), real.probabilities("hair").numpy()
    found = disagreement(real, made, ["hair"], seeded())
    assert found["disagreement_kl_hair"].value == pytest.approx(rel_entr(p, q).sum(1).mean(), abs=1e-4)
    assert found["disagreement_kl_random_hair"].value == pytest.approx(rel_entr(1 / 4, q).sum(1).mean(), abs=1e-4)


@given(st.integers(0, 10**6), st.floats(0.0, 500.0))
@settings(max_examples=25, deadline=None)
def test_kl_is_never_negative_and_bounded_by_the_clamp(seed: int, scale: float) -> None:
    real, made = (of_logits(hair=scale * at_random(5, seed=s).logits["hair"]) for s in (seed, seed + 1))
    found = disagreement(real, made, ["hair"], seeded())
    for name in ("disagreement_kl_hair", "disagreement_kl_random_hair"):
        assert -1e-12 <= found[name].low <= found[name].high <= math.log(1e6) + 1e-9


def test_clusters_and_the_number_of_clips_are_kept() -> None:
    people = torch.arange(200) // 20
    real, made = saying(hair=torch.zeros(200, dtype=torch.long)), saying(hair=people % 2)
    alone, together = disagreement(real, made, ["hair"], seeded()), disagreement(real, made, ["hair"], seeded(), people)
    for name in ("disagreement_hair", "disagreement_kl_hair"):
        assert together[name].clips == 200
        assert together[name].high - together[name].low > 2 * (alone[name].high - alone[name].low)


def test_the_order_of_the_clips_does_not_matter() -> None:
    real, made, order = at_random(50, seed=0), at_random(50, seed=1), torch.randperm(50, generator=seeded())
    there, here = disagreement(real[order], made[order], ["hair"], seeded()), disagreement(real, made, ["hair"], seeded())
    assert {k: f.value for k, f in there.items()} == pytest.approx({k: f.value for k, f in here.items()}, rel=1e-12)


def test_a_single_clip_is_measured() -> None:
    found = disagreement(saying(hair=drawn(1)), saying(hair=drawn(1)), ["hair"], seeded())
    assert {figure.clips for figure in found.values()} == {1}
    assert found["disagreement_hair"].high > 0.7


def test_bad_verdicts_and_unknown_factors_are_refused() -> None:
    verdicts = at_random(9)
    with pytest.raises(UserError, match=r"a factor of the judge \(hair, action\), got shirt"):
        disagreement(verdicts, verdicts, ["shirt"], seeded())
    with pytest.raises(UserError, match="finite verdicts on hair"):
        disagreement(verdicts, with_nan(verdicts, "hair"), ["action"], seeded())
    with pytest.raises(UserError, match="verdicts on the same clips"):
        disagreement(verdicts, verdicts[:4], ["hair"], seeded())
    with pytest.raises(UserError, match="at least one, got 0 and 0"):
        disagreement(verdicts[:0], verdicts[:0], ["hair"], seeded())
