from __future__ import annotations

import pytest

from stillmotion.metrics.protocols import (
    NAMES,
    PROTOCOLS,
    REPRODUCTION,
    better,
    needs_judge,
    needs_moving,
    protocol_of,
    shown,
    symbol,
    unit_of,
)  # fmt: skip

# name, protocol, unit, which way is better
FIGURES = [
    ("psnr_sequence_test", "reconstruction", "dB", "higher"),
    ("ssim_sequence_test", "reconstruction", "plain", "higher"),
    ("two_factor_accuracy_action", "two_factor", "share", "higher"),
    ("two_factor_accuracy_body_aggregate", "two_factor", "share", "higher"),
    ("two_factor_inception_score", "two_factor", "plain", "higher"),
    ("two_factor_entropy", "two_factor", "nats", "higher"),
    ("two_factor_conditional_entropy_aggregate", "two_factor", "nats", "lower"),
    ("swap_static_accuracy", "swap", "share", "higher"),
    ("swap_border_accuracy", "readers", "share", "higher"),
    ("swap_border_person", "readers", "share", "higher"),
    ("swap_frequency_within_5_percent", "readers", "share", "higher"),
    ("consistency_hair", "vdsm", "share", "higher"),
    ("embedding_dynamic_hair", "vdsm", "share", ""),
    ("generation_conditional_entropy_body", "vdsm", "nats", "lower"),
    ("consistency_pooled_judge_hair", "vdsm_released", "share", "higher"),
    ("disagreement_hair", "dsa_report", "share", "lower"),
    ("disagreement_kl_hair", "dsa_report", "nats", "lower"),
    ("disagreement_kl_random_hair", "dsa_report", "nats", ""),
    ("chance_hair", "leakage", "share", ""),
    ("probe_static_hair_mean_mlp", "leakage", "share", "higher"),
    ("leak_dynamic_to_hair_sample", "leakage", "share", "lower"),
    ("resampled_static_hair", "leakage", "share", "lower"),
    ("mig", "benchmark", "plain", "higher"),
    ("mig_hair", "benchmark", "plain", "higher"),
    ("dci_completeness", "benchmark", "plain", "higher"),
    ("factor_vae", "benchmark", "share", "higher"),
    ("intervention_static", "benchmark", "plain", "higher"),
    ("frechet_judge_generation", "frechet_judge", "plain", "lower"),
    ("frechet_judge_floor", "frechet_judge", "plain", ""),
    ("frechet_kinetics_reconstruction", "frechet_kinetics", "plain", "lower"),
    ("imputation_smooth_p50", "imputation", "share", "lower"),
    ("imputation_pong_margin_filter_p50", "imputation", "share", "higher"),
    ("elbo_per_frame", "likelihood", "nats", "higher"),
    ("migration", "other", "plain", ""),
]


@pytest.mark.parametrize(("name", "protocol", "unit", "way"), FIGURES)
def test_a_name_tells_protocol_unit_and_which_way_is_better(name: str, protocol: str, unit: str, way: str) -> None:
    assert (protocol_of(name), unit_of(name), better(name)) == (protocol, unit, way)
    assert protocol in PROTOCOLS


def test_no_name_alone_makes_a_figure_one_of_a_reproduction() -> None:
    # so that a figure of a paper keeps its own protocol where it has one
    assert REPRODUCTION in PROTOCOLS
    assert REPRODUCTION not in {protocol for _, protocol in NAMES}


def test_swaps_that_no_judge_saw_were_read_from_pixels() -> None:
    assert protocol_of("swap_static_accuracy", judged=False) == "readers"
    assert protocol_of("consistency_hair", judged=False) == "vdsm"


@pytest.mark.parametrize(("name", "needed"), [
    ("swap_both_accuracy", True), ("two_factor_entropy", True), ("consistency_hair", True), ("resampled_dynamic_action", True),
    ("frechet_judge_generation", True), ("disagreement_kl_hair", True), ("embedding_static_hair", False), ("leak_static_to_action", False),
    ("psnr_poses_test", False), ("frechet_kinetics_generation", False), ("swap_border_person", False), ("mig", False),
    ("consistency_pooled_judge_hair", False),
])  # fmt: skip
def test_what_depends_on_the_judge(name: str, needed: bool) -> None:
    assert needs_judge(name) is needed


@pytest.mark.parametrize(("name", "needed"), [
    ("swap_both_accuracy", True), ("swap_hair_accuracy", True), ("two_factor_entropy", True), ("disagreement_kl_hair", True),
    ("leak_static_to_action_mean", True), ("probe_static_hair_mean", True), ("resampled_static_hair", True), ("intervention_static", True),
    ("mig", False), ("consistency_hair", False), ("embedding_static_hair", False), ("generation_entropy", False),
    ("psnr_poses_test", False), ("frechet_judge_generation", False), ("swap_border_person", False), ("elbo_per_frame", False),
])  # fmt: skip
def test_what_depends_on_which_factors_move(name: str, needed: bool) -> None:
    assert needs_moving(name) is needed


@pytest.mark.parametrize(("name", "value", "text", "unit"), [
    ("swap_both_accuracy", 0.98765, "98.8", "%"), ("psnr_sequence_test", 26.456, "26.46", "dB"),
    ("two_factor_entropy", 2.1972, "2.197", "nats"), ("mig", 0.51234, "0.512", ""),
    ("elbo_per_frame", 810.08, "810.08", "nats"), ("disagreement_kl_hair", 0.268, "0.268", "nats"),
])  # fmt: skip
def test_values_are_shown_in_their_unit(name: str, value: float, text: str, unit: str) -> None:
    assert (shown(name, value), symbol(name)) == (text, unit)


def test_a_published_share_keeps_its_second_decimal_and_nothing_is_shown_of_nothing() -> None:
    assert shown("swap_both_accuracy", 0.8116, digits=2) == "81.16"
    assert shown("imputation_smooth_n9", 0.01204) == "1.20"
    assert shown("mig", None) == ""
