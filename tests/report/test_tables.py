from __future__ import annotations

from typing import Any

import pytest

from oracles.measured_runs import JUDGE, entry, measured_results, older_results
from stillmotion.report.tables import LONG, Evaluation, evaluation, judge_facts

ACTION = "two_factor_accuracy_action_direction"


def found(figures: dict[str, Any], **changes: Any) -> Evaluation:
    seen = evaluation(measured_results(figures, **changes))
    assert seen is not None
    return seen


def test_a_run_that_was_never_evaluated_has_no_evaluation() -> None:
    assert evaluation(None) is None
    assert evaluation(older_results({"mig": 0.5})) is None


def test_every_protocol_has_a_table_of_its_own() -> None:
    tables = found({ACTION: 0.95, "consistency_hair": 0.9, "psnr_poses_test": 25.0, "swap_both_accuracy": 0.5}).tables
    assert [[line.name for line in table.lines] for table in tables] == [
        ["swap_both_accuracy"], [ACTION], ["consistency_hair"], ["psnr_poses_test"],
    ]  # fmt: skip
    assert [table.judged for table in tables] == [True, True, True, False]


def test_published_numbers_stand_beside_ours_only_on_the_same_data() -> None:
    (table,) = found({ACTION: 0.95}).tables
    assert table.methods == ("MoCoGAN", "DSVAE", "S3VAE")
    assert table.lines[0].published == ("92.89", "90.73", "99.49")
    assert len(table.sources) == 1
    (elsewhere,) = found({ACTION: 0.95}, data={"name": "digits", "options": {}}).tables
    assert (elsewhere.methods, elsewhere.lines[0].published, elsewhere.sources) == ((), (), ())


def test_vdsm_does_not_stand_beside_consistency_by_a_clean_judge() -> None:
    data = {"name": "sprites", "options": {"version": "vdsm"}}
    clean, released = found({"consistency_hair": 0.9, "consistency_pooled_judge_hair": 0.9}, data=data).tables
    assert clean.methods == ()
    assert (released.methods, released.lines[0].published) == (("VDSM",), ("100.00",))


def test_published_methods_without_any_of_our_figures_have_no_column() -> None:
    (table,) = found({"two_factor_accuracy_hair": 0.95}).tables
    assert (table.methods, table.sources) == ((), ())


def test_a_line_has_the_unit_of_its_figure() -> None:
    lines = {line.name: line for table in found({ACTION: 0.95, "psnr_poses_test": entry(25.0, margin=None)}).tables for line in table.lines}
    assert (lines[ACTION].value, lines[ACTION].unit, lines[ACTION].interval, lines[ACTION].clips) == ("95.0", "%", "94.0 – 96.0", "2,664")
    assert (lines["psnr_poses_test"].value, lines["psnr_poses_test"].unit, lines["psnr_poses_test"].interval) == ("25.00", "dB", "")


def test_facts_command_and_what_was_skipped_are_told() -> None:
    seen = found({"mig": 0.5}, skipped={"frechet_kinetics": "it needs weights"}, judge=None)
    assert seen.judge is None
    assert seen.command == "stillmotion evaluate RUN"
    assert seen.skipped == (("frechet kinetics", "it needs weights"),)
    assert dict(seen.facts) == {"data": "sprites", "split": "test", "clips": "2,664", "seed": "0", "minutes": "1.5", "commit": "f00d"}


def test_the_judge_is_told_with_its_own_accuracy_and_calibration() -> None:
    judge = found({"swap_both_accuracy": 0.5}).judge
    assert judge is not None
    (head,) = judge.heads
    assert (head.accuracy, head.interval, head.clips, head.ece, head.nll) == ("99.80", "99.00 – 99.90", "2,664", "0.0020", "0.0100")
    assert (judge.sha256, judge.data, judge.other_split) == ("0123456789ab", "sprites, version standard", False)
    bare = judge_facts({"folder": "x", "other_split": True, "accuracy": {"hair": {"value": 1}}})
    assert bare is not None
    assert (bare.heads[0].interval, bare.heads[0].ece, bare.data, bare.other_split) == ("", "", "", True)


@pytest.mark.parametrize(("count", "folded"), [(LONG, False), (LONG + 1, True)])
def test_long_tables_are_folded(count: int, folded: bool) -> None:
    (table,) = found({f"leak_static_to_{k}_mean": 0.1 for k in range(count)}, judge=JUDGE).tables
    assert table.long is folded


def test_swaps_are_shown_for_every_ordered_pair_of_classes() -> None:
    tables = {
        "swap_action": {"classes": ["walk", "slash"], "accuracy": [[1.0, 0.876], [None, 0.0]]},
        "swap_character": {"classes": [str(k) for k in range(13)], "accuracy": [[1.0] * 13] * 13},
        "swap_one": {"classes": ["a"], "accuracy": [[1.0]]},
    }
    results = measured_results({ACTION: 0.95})
    results["evaluation"]["tables"] = tables
    seen = evaluation(results)
    assert seen is not None
    assert [table.factor for table in seen.swaps] == ["action"]
    assert seen.swaps[0].rows == (("walk", (("100", 1.0), ("88", 0.876))), ("slash", (("–", 0.0), ("0", 0.0))))
