from __future__ import annotations

from stillmotion.metrics.figure import Figure, Figures
from stillmotion.recipes.cells import leaks, number, printed, told, value_of


def figures(**values: float) -> Figures:
    return {name: Figure(value, value / 2, value, 9) for name, value in values.items()}


def test_shares_are_in_per_cent_and_nats_are_not() -> None:
    found = figures(swap_body_accuracy=0.5, two_factor_entropy=2.0)
    assert told(found, "swap_body_accuracy") == "50.00 (25.00 to 50.00)"
    assert told(found, "two_factor_entropy") == "2.000 (1.000 to 2.000)"
    assert value_of(found, "swap_body_accuracy") == "50.00"
    assert printed({"swap_body_accuracy": 0.9953}, "swap_body_accuracy") == "99.53"


def test_what_was_not_measured_is_a_gap() -> None:
    assert told({}, "swap_body_accuracy") is None
    assert value_of({}, "swap_body_accuracy") is None
    assert printed({}, "swap_body_accuracy") is None
    assert number("swap_body_accuracy", None) is None


def test_a_leak_is_what_a_code_knows_that_is_not_its_own() -> None:
    found = figures(leak_static_to_action_mean=0.4, leak_static_to_action_mean_mlp=0.45, probe_dynamic_action_mean=0.98)
    found |= figures(probe_dynamic_action_mean_mlp=0.99, probe_path_action_sample=0.7, probe_path_action_sample_mlp=0.8)
    found |= figures(resampled_dynamic_action=0.33, chance_action=0.34)
    cells = leaks(found, "action", "dynamic", ("static", "dynamic", "path"))
    assert cells == ["40.0 / 45.0", None, "98.0 / 99.0", None, None, "70.0 / 80.0", "33.00", "34.00"]


def test_of_two_probes_both_must_have_been_asked() -> None:
    found = figures(probe_static_body_mean=0.9, leak_path_to_body_mean=0.2, leak_path_to_body_mean_mlp=0.3)
    assert leaks(found, "body", "static", ("static", "path")) == [None, None, "20.0 / 30.0", None, None, None]
