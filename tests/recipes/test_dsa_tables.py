from __future__ import annotations

from stillmotion.metrics.exhibits import Table
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.recipes.dsa_tables import ROWS, beta_table, disagreement_table, leak_table, models_table, swap_table, two_factor_table


def told(**values: float) -> Figures:
    return {name: Figure(value, value / 2, value, 9) for name, value in values.items()}


def row(table: Table, label: str) -> dict[str, object]:
    """Head of each column -> cell."""
    return next(dict(zip(table.head, cells, strict=True)) for cells in table.rows if cells[0] == label)


def test_a_cell_has_its_unit_and_its_interval_and_what_was_not_measured_is_a_gap() -> None:
    figures = told(disagreement_body=0.02, disagreement_kl_body=0.5, disagreement_kl_random_body=9.5, disagreement_direction_as_static=0.25)
    table = disagreement_table(figures)
    skin = row(table, "skin")
    assert (skin["disagreement, %"], skin["KL"]) == ("2.00 (1.00 to 2.00)", "0.500 (0.250 to 0.500)")
    assert row(table, "hair")["disagreement, %"] is None
    assert row(table, "direction, counted to what stays")["disagreement, %"] == "25.00 (12.50 to 25.00)"
    assert [cells[0] for cells in table.rows[:-1]] == list(ROWS)


def test_published_values_are_those_of_the_report() -> None:
    nine = row(disagreement_table({}), "action and direction")
    report = [nine[f"published, report: {word}"] for word in ("disagreement, %", "KL", "KL-random")]
    assert report == ["43.00", "7.769", "18.612"]
    # the report and the paper have no row for the action by itself
    assert row(disagreement_table({}), "action")["published, report: disagreement, %"] is None
    assert row(two_factor_table({}), "action and direction")["published, DSVAE"] == "90.73"


def test_every_beta_has_its_columns() -> None:
    table = beta_table({"beta 1": told(disagreement_topwear=0.1), "beta 150": told(disagreement_topwear=0.8)}, "Short.")
    top = row(table, "top")
    assert (top["beta 1: disagreement, %"], top["beta 150: disagreement, %"]) == ("10.00 (5.00 to 10.00)", "80.00 (40.00 to 80.00)")
    assert (top["published, report, beta 6: disagreement, %"], top["beta 1: KL"]) == ("13.20", None)
    assert table.note.startswith("Short. ")


def test_a_leak_is_what_the_other_code_knows() -> None:
    figures = told(probe_static_body_mean=0.9, probe_static_body_mean_mlp=0.95)
    figures |= told(leak_dynamic_to_body_sample=0.2, leak_dynamic_to_body_sample_mlp=0.3)
    figures |= told(leak_static_to_action_mean=0.4, leak_static_to_action_mean_mlp=0.5, resampled_static_body=0.17, chance_body=0.16)
    skin, action = row(leak_table(figures), "skin"), row(leak_table(figures), "action")
    assert (skin["f, means"], skin["path, samples"], skin["path, means"]) == ("90.0 / 95.0", "20.0 / 30.0", None)
    assert (skin["drawn anew"], skin["chance"]) == ("17.00", "16.00")
    assert (action["f, means"], action["path, means"]) == ("40.0 / 50.0", None)


def test_models_stand_side_by_side() -> None:
    table = models_table({"full": told(disagreement_hair=0.01, swap_both_accuracy=0.98, kl_static=20.5)}, {"full": 1500})
    full = row(table, "full")
    assert (full["steps"], full["hair, disagreement %"], full["swap, both %"], full["f says, nats"]) == ("1,500", "1.00", "98.00", "20.500")
    assert row(swap_table(told(swap_both_accuracy=0.5)), "both")["right, %"] == "50.00 (25.00 to 50.00)"
