from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from pydantic import ValidationError

from stillmotion.metrics.protocols import OTHER, better, protocol_of, unit_of
from stillmotion.metrics.published import Data, Row, data_of, every_row, published, sources

MUG, STANDARD, VDSM = Data(name="mug"), Data(name="sprites", version="standard"), Data(name="sprites", version="vdsm")

# Typed from the papers: per cent as printed, entropies and divergences in nats.
MUG_TABLE = """
MoCoGAN 63.12 4.332 .183 1.721
DSVAE   54.29 3.608 .374 1.657
R-WAE   71.25 5.149 .131 1.771
S3VAE   70.51 5.136 .135 1.760
SKD     77.45 5.569 .052 1.769
C-DSVAE 81.16 5.341 .092 1.775
SPYL    85.71 5.548 .066 1.779
DBSE    86.90 5.598 .041 1.782
DiffSDA 81.15 5.382 .090 1.773
"""
VDSM_TABLE = {  # consistency, from s, from d
    "body": (99.67, 98.67, 52.67), "topwear": (99.67, 99.67, 47.33), "bottomwear": (99.00, 97.67, 31.67), "hair": (100, 99.33, 21.00),
    "action": (99.33, 45.00, 99.33),
}  # fmt: skip
VDSM_MUG = {"identity": (98.67, 99.00, 65.67), "action": (88.00, 57.33, 83.33)}
REPORT = {  # disagreement and divergence with beta = 1, then with beta = 6, and the divergence of a uniform guess
    "body": (24.8, 3.006, 41.4, 5.325, 25.148), "bottomwear": (29.2, 3.959, 51.4, 7.851, 21.487),
    "topwear": (5.4, 0.695, 13.2, 1.511, 21.456), "hair": (2.0, 0.268, 2.2, 0.325, 17.367),
    "action_direction": (43.0, 7.769, 73.6, 15.633, 18.612),
}  # fmt: skip


def figures(protocol: str, data: Data, method: str) -> dict[str, float]:
    """All that is published of a method."""
    found: dict[str, float] = {}
    for row in every_row():
        if (row.protocol, row.data, row.method) == (protocol, data, method):
            assert not found.keys() & row.figures.keys()
            found |= row.figures
    return found


@pytest.mark.parametrize("line", MUG_TABLE.strip().splitlines())
def test_the_table_of_mug(line: str) -> None:
    method, *values = line.split()
    found = figures("two_factor", MUG, method)
    names = ("two_factor_inception_score", "two_factor_conditional_entropy", "two_factor_entropy")
    assert found["two_factor_accuracy_action"] == pytest.approx(float(values[0]) / 100)
    assert [found[name] for name in names] == [float(value) for value in values[1:]]


def test_the_inception_scores_of_mug_nearly_agree_with_their_entropies() -> None:
    from math import exp

    rows = published("two_factor", MUG)
    assert len(rows) == 9
    for row in rows:
        assert row.figures["two_factor_inception_score"] == pytest.approx(
            exp(row.figures["two_factor_entropy"] - row.figures["two_factor_conditional_entropy"]), rel=0.08
        )


def test_accuracies_on_the_standard_sprites_stand_under_the_protocol_by_which_they_were_measured() -> None:
    found = {row.method: row.figures for row in published("two_factor", STANDARD)}
    name = "two_factor_accuracy_action_direction"
    assert found == {"MoCoGAN": {name: 0.9289}, "DSVAE": {name: 0.9073}, "S3VAE": {name: 0.9949}}
    assert not published("vdsm", STANDARD)


@pytest.mark.parametrize(("table", "data", "mean"), [(VDSM_TABLE, VDSM, 99.53), (VDSM_MUG, MUG, 93.33)])
def test_the_first_two_tables_of_vdsm(table: dict[str, tuple[float, ...]], data: Data, mean: float) -> None:
    embedding, consistency = figures("vdsm", data, "VDSM"), figures("vdsm_released", data, "VDSM")
    for factor, (same, static, dynamic) in table.items():
        assert consistency[f"consistency_pooled_judge_{factor}"] == pytest.approx(same / 100)
        assert embedding[f"embedding_static_{factor}"] == pytest.approx(static / 100)
        assert embedding[f"embedding_dynamic_{factor}"] == pytest.approx(dynamic / 100)
    if data == MUG:  # of Sprites the published mean is over five factors, ours over all of the judge's
        assert consistency.pop("consistency_pooled_judge_mean") == pytest.approx(mean / 100)
    assert sum(consistency.values()) / len(table) == pytest.approx(mean / 100, abs=6e-5)
    assert len(consistency) == len(table)


def test_the_entropies_of_vdsm_are_over_its_own_heads() -> None:
    found = figures("vdsm", MUG, "VDSM")
    assert (found["generation_entropy"], found["generation_conditional_entropy"]) == (2.21, 0.203)


def test_no_two_of_the_distances_in_one_table_were_measured_alike() -> None:
    rows = {row.method: row for row in every_row() if row.protocol == "frechet_kinetics"}
    generation = {method: row.figures["frechet_kinetics_generation"] for method, row in rows.items()}
    assert generation == {"VDSM": 44.12, "G3AN": 67.12, "MoCoGAN": 87.11, "TGAN": 97.07, "VGAN": 160.76}
    assert rows["VDSM"].figures["frechet_kinetics_reconstruction"] == 17.64
    assert rows["VDSM"].differs != rows["G3AN"].differs != ""
    assert published("frechet_kinetics", MUG) == []


@pytest.mark.parametrize(("method", "first"), [("DSA", 0), ("DSA, beta = 6", 2)])
def test_the_tables_of_the_dsa_report(method: str, first: int) -> None:
    found = figures("dsa_report", STANDARD, method)
    assert len(found) == 3 * len(REPORT)
    for factor, values in REPORT.items():
        assert found[f"disagreement_{factor}"] == pytest.approx(values[first] / 100)
        assert found[f"disagreement_kl_{factor}"] == values[first + 1]
        assert found[f"disagreement_kl_random_{factor}"] == values[4]


def test_divergences_by_another_judge_never_stand_beside_ours() -> None:
    rows = published("dsa_report", STANDARD)
    assert [row.method for row in rows] == ["DSA", "DSA, beta = 6"]
    assert all(row.figures.keys() == {f"disagreement_{factor}" for factor in REPORT} for row in rows)
    apart = [row for row in every_row() if row.protocol == "dsa_report" and row.differs]
    assert all("_kl_" in name for row in apart for name in row.figures)
    assert all("13.8" in row.differs and "9.72" in row.differs for row in apart)


@pytest.mark.parametrize("data", [VDSM, MUG])
def test_of_vdsm_only_what_the_pooled_judge_gave_stands_beside_ours_and_says_what_is_not_repeated(data: Data) -> None:
    assert published("vdsm", data) == []
    (row,) = published("vdsm_released", data)
    assert all(words in row.note for words in ("architecture", "zeroing gradients", "training mode"))
    assert ("nine classes" in row.note) == (data == MUG)
    embedding = next(row for row in every_row() if row.data == data and any(name.startswith("embedding") for name in row.figures))
    assert "shares of the experts" in embedding.differs


def test_the_bounds_on_the_controlled_pendulum() -> None:
    rows = published("likelihood", Data(name="pendulum", version="controlled"))
    assert [row.figures["elbo_per_frame"] for row in rows] == [810.08, 807.02, 798.56, 784.70]


def test_every_figure_is_one_that_we_measure_under_that_protocol_and_shares_are_fractions() -> None:
    pairs = [(row, name, value) for row in every_row() for name, value in row.figures.items()]
    assert len(pairs) > 90
    assert all(protocol_of(name) == row.protocol != OTHER for row, name, _ in pairs)
    assert all(0 <= value <= 1 for _, name, value in pairs if unit_of(name) == "share")
    assert {better(name) for _, name, _ in pairs} == {"higher", "lower", ""}


def test_the_file_holds_nothing_twice() -> None:
    seen = [(row.protocol, row.data, row.method, name) for row in every_row() for name in row.figures]
    assert len(set(seen)) == len(seen)


def entry(**changes: Any) -> dict[str, Any]:
    first = json.loads(files("stillmotion.metrics").joinpath("published.json").read_text(encoding="utf-8"))["rows"][0]
    return {**first, **changes}


@pytest.mark.parametrize(("changes", "word"), [
    ({"figures": {"two_factor_accuracy_action": 63.12}}, "between 0 and 1"), ({"figures": {"consistency_hair": 0.5}}, "figure of vdsm"),
    ({"protocol": "mine"}, "no protocol 'mine'"), ({"figures": {}}, "figures"), ({"comment": "x"}, "comment"), ({"method": ""}, "method"),
])  # fmt: skip
def test_an_entry_that_cannot_be_right_is_refused(changes: dict[str, Any], word: str) -> None:
    assert Row.model_validate(entry()).method == "MoCoGAN"
    with pytest.raises(ValidationError, match=word):
        Row.model_validate(entry(**changes))


def test_a_run_names_its_data_with_its_version() -> None:
    assert data_of("sprites", {}) == STANDARD
    assert data_of("sprites", {"version": "vdsm", "validation": 3}) == VDSM
    assert data_of("pendula", {"clips": 3}) == Data(name="pendula")
    assert (str(STANDARD), str(MUG)) == ("sprites (standard)", "mug")
    assert published("two_factor", data_of("pendula", {})) == []


def test_methods_from_one_table_share_a_sentence() -> None:
    (text,) = sources(published("two_factor", MUG))
    assert text == "MoCoGAN, DSVAE, R-WAE, S3VAE, SKD, C-DSVAE, SPYL, DBSE, DiffSDA: DiffSDA, appendix, MUG."
    assert len(sources(published("dsa_report", STANDARD))) == 2
