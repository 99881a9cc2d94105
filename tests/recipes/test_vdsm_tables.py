from __future__ import annotations

from collections.abc import Callable

import pytest

from stillmotion.metrics import published as published_numbers
from stillmotion.metrics.exhibits import Table
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.metrics.protocols import protocol_of
from stillmotion.metrics.published import Data, every_row
from stillmotion.recipes import vdsm_tables
from stillmotion.recipes.vdsm_tables import (
    CLASSIFIER_NOTE,
    PUBLISHED_NOTE,
    SPRITES,
    leak_table,
    pooled_table,
    published_here,
    quality_table,
    swap_table,
    table_1,
    table_2,
    table_3,
    two_factor_table,
)

OWN, STANDARD, FACES = Data(name="sprites", version="vdsm"), Data(name="sprites", version="standard"), Data(name="mug")
PAPER = {
    "body": ("99.67", "98.67", "52.67"), "shirt": ("99.67", "99.67", "47.33"), "pants": ("99.00", "97.67", "31.67"),
    "hair": ("100.00", "99.33", "21.00"), "action": ("99.33", "45.00", "99.33"),
}  # fmt: skip
"""Table 1, Sprites."""


def told(**values: float) -> Figures:
    return {name: Figure(value, value / 2, value, 9) for name, value in values.items()}


def row(table: Table | None, label: str) -> dict[str, object]:
    """Head of each column -> cell."""
    assert table is not None
    return next(dict(zip(table.head, cells, strict=True)) for cells in table.rows if cells[0] == label)


@pytest.mark.parametrize("label", PAPER)
def test_table_1_stands_beside_the_published_one(label: str) -> None:
    factor = SPRITES.rows[label]
    figures = told(**{f"consistency_{factor}": 0.98, f"embedding_static_{factor}": 0.97, f"embedding_dynamic_{factor}": 0.3})
    cells = row(table_1(figures, OWN), label)
    assert [cells[f"{word}, %"] for word in ("consistency", "accuracy from s", "accuracy from d")] == [
        "98.00 (49.00 to 98.00)", "97.00 (48.50 to 97.00)", "30.00 (15.00 to 30.00)",
    ]  # fmt: skip
    assert tuple(cells[f"published: {word}, %"] for word in ("consistency", "accuracy from s", "accuracy from d")) == PAPER[label]


def test_nine_classes_and_the_direction_are_beside_the_action_of_the_paper() -> None:
    table = table_1({}, OWN)
    assert [cells[0] for cells in table.rows] == ["body", "shirt", "pants", "hair", "action", "action and direction", "direction"]
    assert set(row(table, "action and direction").values()) == {"action and direction", None}


def test_of_standard_characters_the_paper_has_no_table_1() -> None:
    table = table_1({}, STANDARD)
    assert not any("published" in head for head in table.head)
    assert "Published" not in table.note


def test_faces_have_an_identity_and_an_expression_beside_what_was_published_of_them() -> None:
    figures = told(consistency_action=0.9, embedding_dynamic_action=0.85, consistency_mean=0.94, generation_entropy=2.0)
    table = table_1(figures, FACES)
    assert [cells[0] for cells in table.rows] == ["identity", "expression"]
    cells = row(table, "expression")
    assert [cells[f"published: {word}, %"] for word in ("consistency", "accuracy from s", "accuracy from d")] == ["88.00", "57.33", "83.33"]
    assert (cells["consistency, %"], cells["accuracy from d, %"]) == ("90.00 (45.00 to 90.00)", "85.00 (42.50 to 85.00)")
    assert "1,120" not in table.note
    second = table_2(figures, FACES, 2.9)
    mean = row(second, "consistency, mean of identity and expression, %")
    assert (mean["here"], mean["published, VDSM"]) == ("94.00 (47.00 to 94.00)", "93.33")
    assert row(second, "H(y), new clips from the priors, nats")["published, VDSM"] == "2.210"
    assert row(second, "H(y), new clips from the aggregate posterior, nats")["published, VDSM"] is None


def test_faces_stand_beside_the_methods_that_were_measured_on_them_by_two_factors() -> None:
    table = two_factor_table(told(two_factor_accuracy_action=0.8), FACES)
    assert row(table, "expression")["published, DBSE"] == "86.90"
    assert row(table, "H(y)")["published, MoCoGAN"] == "1.721"
    assert "six classes" in table.note
    assert [cells[0] for cells in swap_table({}, FACES).rows] == ["identity", "expression", "all that stays", "all that moves", "both"]
    assert [cells[0] for cells in leak_table({}, FACES).rows] == ["identity", "expression"]


def test_samples_have_chance_beside_them_and_three_codes() -> None:
    figures = told(leak_static_to_action_sample=0.34, leak_static_to_action_sample_mlp=0.35, leak_dynamic_to_body_sample=0.15)
    figures |= told(leak_dynamic_to_body_sample_mlp=0.16, probe_path_action_mean=0.9, probe_path_action_mean_mlp=0.99, chance_action=1 / 3)
    figures |= told(probe_static_body_sample=0.97, probe_static_body_sample_mlp=0.98, resampled_static_body=0.14)
    table = leak_table(figures, OWN)
    action, body = row(table, "action"), row(table, "body")
    assert (action["s, samples"], action["path, means"], action["chance"]) == ("34.0 / 35.0", "90.0 / 99.0", "33.33")
    assert (body["s, samples"], body["d, samples"], body["drawn anew"], body["d, means"]) == ("97.0 / 98.0", "15.0 / 16.0", "14.00", None)


def test_table_2_has_self_reconstruction_alone() -> None:
    figures = told(consistency_five_mean=0.99, consistency_mean=0.5, generation_entropy=1.4, generation_conditional_entropy_aggregate=0.1)
    table = table_2(figures, OWN, 1.7)
    mean = row(table, "consistency, mean of the five attributes of the paper, %")
    assert (mean["here"], mean["published, VDSM"]) == ("99.00 (49.50 to 99.00)", "99.53")
    entropy = row(table, "H(y), new clips from the priors, nats")
    assert (entropy["here"], entropy["published, VDSM"]) == ("1.400 (0.700 to 1.400)", None)
    assert row(table, "H(y|x), new clips from the aggregate posterior, nats")["here"] == "0.100 (0.050 to 0.100)"
    assert "at most 1.700" in table.note
    assert "S3VAE" not in str(table)
    assert row(table_2(figures, STANDARD, 1.7), "consistency, mean of the five attributes of the paper, %")["published, VDSM"] is None


def test_two_factors_stand_beside_the_rows_of_that_protocol_and_these_characters() -> None:
    figures = told(two_factor_accuracy_action_direction=0.6, two_factor_accuracy_action_direction_aggregate=0.98, two_factor_entropy=2.1)
    figures |= told(two_factor_inception_score_aggregate=8.9, two_factor_conditional_entropy=0.01)
    table = two_factor_table(figures, STANDARD)
    nine = row(table, "action and direction")
    assert [nine[f"published, {name}"] for name in ("MoCoGAN", "DSVAE", "S3VAE")] == ["92.89", "90.73", "99.49"]
    assert nine["drawn from the priors"] == "60.00 (30.00 to 60.00)"
    assert nine["drawn from the aggregate posterior"] == "98.00 (49.00 to 98.00)"
    assert row(table, "inception score")["drawn from the aggregate posterior"] == "8.900 (4.450 to 8.900)"
    assert row(table, "H(y)")["drawn from the priors"] == "2.100 (1.050 to 2.100)"
    assert row(table, "H(y|x)")["drawn from the priors"] == "0.010 (0.005 to 0.010)"
    # VDSM's own 99.53 is of another protocol
    assert "99.53" not in str(table)
    assert "VDSM" not in " ".join(table.head)


def test_of_the_papers_characters_no_two_factor_row_was_published() -> None:
    table = two_factor_table({}, OWN)
    assert table.head == ("", "drawn from the priors", "drawn from the aggregate posterior")
    assert "vdsm/standard" in table.note


def test_swaps_count_what_stays_and_what_moves() -> None:
    table = swap_table(told(swap_static_accuracy=0.97, swap_dynamic_accuracy=1.0, swap_both_accuracy=0.96, swap_hair_accuracy=0.99), OWN)
    shares = [row(table, label)["right, %"] for label in ("hair", "all that stays", "all that moves", "both", "body")]
    assert shares == ["99.00 (49.50 to 99.00)", "97.00 (48.50 to 97.00)", "100.00 (50.00 to 100.00)", "96.00 (48.00 to 96.00)", None]


def test_table_3_is_of_our_judge_and_says_so() -> None:
    figures = told(frechet_judge_reconstruction=1.0, frechet_judge_generation_aggregate=2.0, frechet_judge_floor=0.5)
    figures |= told(frechet_judge_generation_aggregate_infinity=1.5)
    table = table_3(figures)
    assert "judge" in table.title
    assert row(table, "reconstruction")["distance"] == "1.000 (0.500 to 1.000)"
    drawn = row(table, "generation, from the aggregate posterior")
    assert (drawn["distance"], drawn["of infinitely many clips"]) == ("2.000 (1.000 to 2.000)", "1.500 (0.750 to 1.500)")
    assert row(table, "generation, from the priors")["distance"] is None
    assert row(table, "real clips among themselves")["distance"] == "0.500 (0.250 to 0.500)"
    # published distances are of other clips on other features: told below the table, never in it
    assert not any("published" in head for head in table.head)
    assert all(number in table.note for number in ("44.12", "17.64", "Kinetics", "MUG"))


def test_reconstructions_have_their_quality() -> None:
    cells = row(quality_table(told(psnr_sequence_test=30.0, ssim_poses_test=0.9)), "through the sequence model")
    assert (cells["PSNR, dB"], cells["SSIM"]) == ("30.00 (15.00 to 30.00)", None)


def test_the_pooled_judges_consistency_has_a_table_of_its_own_where_it_was_measured() -> None:
    assert pooled_table(told(consistency_body=1.0), OWN) is None
    table = pooled_table(told(consistency_pooled_judge_body=0.9), OWN)
    assert row(table, "body") == {"": "body", "here, %": "90.00 (45.00 to 90.00)", "published, %": "99.67"}
    assert row(table, "direction")["published, %"] is None


def test_results_have_published_values_of_the_same_protocol_alone() -> None:
    figures = told(consistency_body=1.0, consistency_pooled_judge_body=0.9, embedding_static_action=0.3, frechet_judge_generation=1.0)
    figures |= told(two_factor_accuracy_action_direction=1.0)
    assert published_here(OWN, figures) == {"consistency_pooled_judge_body": 0.9967}
    assert published_here(STANDARD, figures) == {}


class Asked(dict[str, Figure]):
    """Figures that remember what was asked of them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return False

    def get(self, name: str, default: object = None) -> None:  # type: ignore[override]
        self.names.add(name)


TABLES: dict[str, tuple[str, Callable[[Figures], Table]]] = {
    "table 1": ("vdsm", lambda figures: table_1(figures, OWN)),
    "leaks": ("leakage", lambda figures: leak_table(figures, OWN)),
    "table 2": ("vdsm", lambda figures: table_2(figures, OWN, 1.0)),
    "two factors": ("two_factor", lambda figures: two_factor_table(figures, STANDARD)),
    "swaps": ("swap", lambda figures: swap_table(figures, OWN)),
    "table 3": ("frechet_judge", table_3),
    "quality": ("reconstruction", quality_table),
}


def _pooled(figures: Figures, data: Data) -> Table:
    table = pooled_table(figures, data)
    assert table is not None
    return table


PUBLISHED_TABLES: dict[str, tuple[str, Callable[[Figures, Data], Table]]] = {
    "table 1": ("vdsm", table_1),
    "pooled": ("vdsm_released", _pooled),
    "table 2": ("vdsm", lambda figures, data: table_2(figures, data, 1.0)),
    "two factors": ("two_factor", two_factor_table),
}


def published_cells(table: Table) -> set[object]:
    return {cell for cells in table.rows for head, cell in zip(table.head, cells, strict=True) if "published" in head} - {None}


@pytest.mark.parametrize("name", TABLES)
def test_no_table_mixes_protocols(name: str) -> None:
    protocol, make = TABLES[name]
    asked = Asked()
    make(asked)
    assert {protocol_of(figure) for figure in asked.names} == {protocol}


@pytest.mark.parametrize("data", [OWN, STANDARD], ids=str)
@pytest.mark.parametrize("name", PUBLISHED_TABLES)
def test_values_that_were_measured_otherwise_stand_in_a_table_that_says_so(name: str, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, make = PUBLISHED_TABLES[name]
    figures = told(consistency_pooled_judge_body=0.9)
    whole = make(figures, data)
    alike = tuple(row for row in every_row() if row.protocol == protocol and not row.differs)
    for module in (vdsm_tables, published_numbers):
        monkeypatch.setattr(module, "every_row", lambda: alike)
    kept = make(figures, data)
    otherwise = published_cells(whole) != published_cells(kept)
    assert otherwise == (PUBLISHED_NOTE in whole.note)
    assert otherwise == (data == OWN and name in ("table 1", "table 2"))


def test_the_classifier_is_told_of_where_its_accuracies_stand() -> None:
    assert CLASSIFIER_NOTE in table_1({}, OWN).note
    assert CLASSIFIER_NOTE not in table_1({}, STANDARD).note + table_2({}, OWN, 1.0).note
