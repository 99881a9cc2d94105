from __future__ import annotations

from typing import Any

import pytest

from stillmotion.report.figures import cards, lines, percent, probes


def figure(value: float, paper: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "clips": 1500, "paper": paper}


def probed(factor: str, static: float, dynamic: float, chance: float = 0.1, sample: float | None = None) -> dict[str, dict[str, Any]]:
    found = {
        f"chance_{factor}": figure(chance), f"probe_static_{factor}_mean": figure(static), f"probe_dynamic_{factor}_mean": figure(dynamic),
    }
    if sample is not None:
        found |= {f"probe_{code}_{factor}_sample": figure(sample) for code in ("static", "dynamic")}
    return found


@pytest.mark.parametrize(("name", "value", "verdict", "text"), [
    ("swap_static_accuracy", 0.996, "good", "99.6"), ("swap_action_accuracy", 0.8, "fair", "80"),
    ("swap_border", 0.3, "poor", "30"), ("swap_border_person", 1.0, "good", "100"),
    ("psnr_sequence_test", 25.04, "good", "25.0"), ("psnr_sequence_validation", 22.0, "fair", "22.0"),
    ("psnr_sequence_test", 12.0, "poor", "12.0"),
])  # fmt: skip
def test_cards_say_whether_a_figure_is_good(name: str, value: float, verdict: str, text: str) -> None:
    (card,) = cards({name: figure(value)})
    assert (card.verdict, card.value) == (verdict, text)
    assert card.clips == ("1,500 swaps" if name.startswith("swap") else "1,500 clips")


def test_a_card_has_its_interval_in_the_same_unit() -> None:
    assert cards({"swap_border": figure(0.5)})[0].interval == "49.0 – 51.0 %"
    assert cards({"psnr_sequence_test": figure(20.0)})[0].interval == "20.0 – 20.0 dB"
    assert cards({"swap_border": {"value": 0.5}})[0].interval == ""


@pytest.mark.parametrize(("found", "verdict", "words"), [
    (probed("colour", 0.98, 0.12), "good", "kept apart"),
    (probed("colour", 0.98, 0.9), "poor", "leaks into the dynamic code"),
    (probed("colour", 0.98, 0.5, sample=0.15), "fair", "traces show in the mean of the dynamic code"),
    (probed("colour", 0.12, 0.1), "poor", "Neither code"),
    (probed("speed", 0.52, 0.97, chance=0.5), "good", "in the dynamic code"),
    (probed("speed", 0.97, 0.52, chance=0.5), "poor", "in the static code more than in the dynamic code, where it belongs"),
    (probed("whatever", 0.12, 0.97), "good", "in the dynamic code"),
    (probed("whatever", 0.97, 0.12), "good", "in the static code"),
])  # fmt: skip
def test_a_label_should_be_known_by_one_code_alone(found: dict[str, Any], verdict: str, words: str) -> None:
    (probe,) = probes(found)
    assert probe.verdict == verdict
    assert words in probe.words


def test_a_probe_of_one_code_is_told_without_a_verdict() -> None:
    (probe,) = probes({"chance_digit": figure(0.1), "probe_static_digit_mean": figure(0.9)})
    assert (probe.verdict, probe.verdict_word) == ("plain", "")
    assert "90 % of clips; guessing gets 10 %" in probe.words


def test_a_chance_without_a_probe_is_passed_over() -> None:
    assert probes({"chance_digit": figure(0.1)}) == []


def test_the_table_has_every_figure_with_the_published_one_beside_it() -> None:
    first, second = lines({"psnr_sequence_test": figure(25.125), "swap_border": figure(0.5, paper=0.75)})
    assert (first.value, first.interval, first.clips, first.paper) == ("25.12", "25.11 – 25.14", "1,500", "")
    assert (second.value, second.paper) == ("0.500", "0.750")


def test_small_figures_keep_three_digits_and_their_intervals_as_many_decimals() -> None:
    small = {"value": 0.00345, "low": 0.0, "high": 0.0102, "clips": 9, "paper": 0.0075}
    first, second = lines({"imputation_smooth_p50": small, "leak": {"value": 0.0, "low": -0.0004, "high": 0.2}})
    assert (first.value, first.interval, first.paper) == ("0.00345", "0.00000 – 0.01020", "0.00750")
    assert (second.value, second.interval) == ("0.000", "-0.000 – 0.200")


@pytest.mark.parametrize(("share", "text"), [(0, "0"), (0.874, "87"), (0.9961, "99.6"), (1, "100")])
def test_shares_have_decimals_only_where_they_matter(share: float, text: str) -> None:
    assert percent(share) == text


def test_swaps_that_a_judge_saw_are_not_said_to_be_read_from_pixels() -> None:
    names = ("swap_static_accuracy", "swap_dynamic_accuracy", "swap_both_accuracy", "swap_hair_accuracy")
    found = cards({name: {**figure(0.95), "protocol": "swap"} for name in names})
    assert [card.title for card in found] == ["Identity kept", "Movement kept", "Both at once"]
    assert all("judge sees" in card.words for card in found)
    (card,) = cards({"swap_static_accuracy": {**figure(0.95), "protocol": "readers"}})
    assert "read from the pixels" in card.words


def test_where_nothing_is_said_to_move_no_leak_is_believed_by_its_name() -> None:
    """Of videos of which nobody named what moves, each label was taken for one that stays: the action was said to leak."""
    found = {
        "chance_action": figure(0.1), "probe_static_action_mean": figure(0.12), "leak_dynamic_to_action_mean": figure(0.9),
        "chance_person": figure(0.1), "probe_static_person_mean": figure(0.95), "leak_dynamic_to_person_mean": figure(0.9),
    }  # fmt: skip
    action, person = probes(found)
    assert (action.verdict, "the dynamic code" in action.words) == ("good", True)
    assert not any(bar.foreign for bar in (*action.bars, *person.bars))
    assert person.words == "Both codes know it: it leaks into the dynamic code."


def test_a_leak_by_its_name_tells_where_a_factor_belongs() -> None:
    found = {
        "chance_hair": figure(0.1), "probe_static_hair_mean": figure(0.2), "leak_dynamic_to_hair_mean": figure(0.9),
        "chance_turn": figure(0.1), "leak_static_to_turn_mean": figure(0.12), "probe_dynamic_turn_mean": figure(0.9),
        "leak_static_to_turn_sample": figure(0.1), "probe_dynamic_turn_sample": figure(0.8),
    }  # fmt: skip
    hair, turn = probes(found)
    assert [bar.foreign for bar in (*hair.bars, *turn.bars)] == [False, True, True, False]
    assert hair.words == "It is in the dynamic code more than in the static code, where it belongs."
    assert (turn.verdict, [bar.sample for bar in turn.bars]) == ("good", [10.0, 80.0])
