from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from oracles.measured_runs import JUDGE, entry, measured_results, older_results, write_run
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.recipes.compare import Cell, Table, compare
from stillmotion.recipes.measured import read_runs

SWAP = "swap_both_accuracy"


def only(tables: list[Table]) -> Table:
    (table,) = tables
    return table


def pair(place: Path, first: Any, second: Any, name: str = SWAP) -> Table:
    """Two runs of different recipes that were measured alike."""
    folders = [write_run(place / f"run{k}", measured_results({name: value}), steps=k + 1) for k, value in enumerate((first, second))]
    return only(compare(folders))


def best(table: Table, name: str = SWAP) -> list[bool]:
    return [cell is not None and cell.best for cell in table.rows[name]]


def test_there_is_one_table_per_protocol_with_a_column_for_each_run(tmp_path: Path) -> None:
    figures = {SWAP: 0.9, "psnr_sequence_test": 25.0, "leak_static_to_action_mean": 0.4, "consistency_hair": 0.8, "two_factor_entropy": 2.1}
    folders = [write_run(tmp_path / name, measured_results(figures), steps=steps) for name, steps in (("a", 1), ("b", 2))]
    tables = compare(folders)
    assert [table.protocol for table in tables] == ["swap", "two_factor", "leakage", "vdsm", "reconstruction"]
    for table in tables:
        assert [column.name for column in table.columns if column.kind == "run"] == ["a", "b"]
    assert tables[0].rows == {SWAP: (Cell(0.9, 0.89, 0.91, 2664), Cell(0.9, 0.89, 0.91, 2664))}
    assert tables[0].columns[0].detail == "seed 0"


def test_one_run_is_fine_and_is_counted_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", measured_results({SWAP: 0.9}))
    table = only(compare([folder, folder / "."]))
    assert len(table.columns) == 1
    assert best(table) == [False]


def test_a_figure_that_one_run_lacks_is_empty_there(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", measured_results({SWAP: 0.9, "swap_static_accuracy": 0.8}), steps=1)
    second = write_run(tmp_path / "b", measured_results({SWAP: 0.9}), steps=2)
    assert only(compare([second, first])).rows["swap_static_accuracy"][0] is None


@pytest.mark.parametrize("change", [
    {"split": "validation"}, {"judge": {**JUDGE, "sha256": "another"}}, {"data": {"name": "sprites", "options": {"version": "vdsm"}}},
    {"data": {"name": "pendula", "options": {}}},
])  # fmt: skip
def test_another_split_judge_or_data_set_has_a_table_of_its_own(tmp_path: Path, change: dict[str, Any]) -> None:
    folders = [write_run(tmp_path / "a", measured_results({SWAP: 0.9})), write_run(tmp_path / "b", measured_results({SWAP: 0.5}, **change))]
    tables = compare(folders)
    assert [table.protocol for table in tables] == ["swap", "swap"]
    assert [column.name for table in tables for column in table.columns] == ["a", "b"]
    assert (tables[0].heading, tables[0].judge) != (tables[1].heading, tables[1].judge)


def test_the_judge_does_not_part_what_it_never_saw(tmp_path: Path) -> None:
    figures = {"psnr_sequence_test": 25.0, "mig": 0.2, "leak_static_to_action_mean": 0.4}
    others = measured_results(figures, judge={**JUDGE, "sha256": "another"})
    tables = compare([write_run(tmp_path / "a", measured_results(figures)), write_run(tmp_path / "b", others, steps=1)])
    assert [len(table.columns) for table in tables] == [2, 2, 2]
    assert {table.judge for table in tables} == {""}


def test_runs_of_which_other_factors_were_said_to_move_have_tables_of_their_own(tmp_path: Path) -> None:
    figures = {SWAP: 0.9, "consistency_hair": 0.8, "leak_static_to_action_mean": 0.4, "mig": 0.1, "intervention_static": 0.5}
    moving = {"a": ["direction", "action"], "b": ["action"], "c": ["action", "direction"]}
    measured = {name: measured_results(figures, moving=factors) for name, factors in moving.items()}
    tables = compare([write_run(tmp_path / name, found, steps=k) for k, (name, found) in enumerate(measured.items(), 1)])
    assert [(table.protocol, [column.name for column in table.columns]) for table in tables] == [
        ("swap", ["a", "c"]), ("swap", ["b"]), ("leakage", ["a", "c"]), ("leakage", ["b"]), ("vdsm", ["a", "b", "c"]),
        ("benchmark", ["a", "b", "c"]), ("benchmark", ["a", "c"]), ("benchmark", ["b"]),
    ]  # fmt: skip
    words = "test clips of sprites (standard)"
    assert [table.heading for table in tables[:2]] == [f"{words}; said to move: action, direction", f"{words}; said to move: action"]
    assert (tables[4].heading, list(tables[5].rows)) == (words, ["mig"])


def test_only_what_the_judge_saw_is_parted_by_the_judge(tmp_path: Path) -> None:
    plain = {"leak_static_to_action_mean": 0.4, "probe_static_hair_mean": 0.9}
    judges = {"a": JUDGE, "b": {**JUDGE, "sha256": "another"}, "c": JUDGE, "none": None}
    folders = [
        write_run(tmp_path / name, measured_results({**plain, **({"resampled_static_hair": 0.2} if judge else {})}, judge=judge), steps=k)
        for k, (name, judge) in enumerate(judges.items(), 1)
    ]
    tables = compare(folders)
    assert {table.protocol for table in tables} == {"leakage"}
    assert [[column.name for column in table.columns] for table in tables] == [["a", "b", "c", "none"], ["a", "c"], ["b"]]
    assert [list(table.rows) for table in tables] == [[*plain], ["resampled_static_hair"], ["resampled_static_hair"]]
    assert [table.judge[:14] for table in tables] == ["", "judge 01234567", "judge another,"]


def test_runs_seen_by_one_judge_have_all_figures_of_a_protocol_in_one_table(tmp_path: Path) -> None:
    figures = {"leak_static_to_action_mean": 0.4, "resampled_static_hair": 0.2}
    other = write_run(tmp_path / "b", measured_results({"chance_hair": 0.2}), steps=1)
    table = only(compare([write_run(tmp_path / "a", measured_results(figures)), other]))
    assert [list(table.rows), len(table.columns)] == [[*figures, "chance_hair"], 2]


def test_distances_on_other_weights_have_a_table_of_their_own(tmp_path: Path) -> None:
    def measured(name: str, extras: dict[str, Any] | None, steps: int) -> Path:
        found = {"frechet_kinetics_reconstruction": 20.0, "frechet_judge_reconstruction": 3.0}
        return write_run(tmp_path / name, measured_results(found, extras=extras), steps=steps)

    given = [{"kinetics": {"file": "x.pth", "sha256": sha}} for sha in ("aaaaaaaaaa", "bbbbbbbbbb", "aaaaaaaaaa")]
    forgotten: list[dict[str, Any] | None] = [{"kinetics": None}, None]
    folders = [measured(f"run{k}", extras, k + 1) for k, extras in enumerate([*given, *forgotten])]
    judged, *kinetics = compare(folders)
    assert len(judged.columns) == 5
    assert [[column.name for column in table.columns] for table in kinetics] == [["run0", "run2"], ["run1"], ["run3"], ["run4"]]
    assert [table.heading.split("; ")[-1] for table in kinetics] == [
        "Kinetics weights aaaaaaaa", "Kinetics weights bbbbbbbb", "Kinetics weights unknown", "Kinetics weights unknown",
    ]  # fmt: skip


def test_weights_are_those_of_the_evaluation_that_took_the_distances(tmp_path: Path) -> None:
    results = measured_results(
        {"frechet_kinetics_reconstruction": 20.0}, extras={"kinetics": None},
        protocols={"frechet_kinetics": {"extras": {"kinetics": {"sha256": "aaaaaaaaaa"}}}, "swap": {"extras": {"kinetics": None}}},
    )  # fmt: skip
    assert only(compare([write_run(tmp_path / "a", results)])).heading.endswith("; Kinetics weights aaaaaaaa")


def test_other_clips_under_the_same_options_have_a_table_of_their_own(tmp_path: Path) -> None:
    def measured(name: str, clips: str | None, steps: int) -> Path:
        data = {"name": "sprites", "options": {}, **({"clips_sha256": clips} if clips else {})}
        return write_run(tmp_path / name, measured_results({SWAP: 0.9}, data=data), steps=steps)

    tables = compare([measured(f"run{k}", clips, k + 1) for k, clips in enumerate(["aaaaaaaaaa", "bbbbbbbbbb", "aaaaaaaaaa", None])])
    assert [[column.name for column in table.columns] for table in tables] == [["run0", "run2"], ["run1"], ["run3"]]
    words = "test clips of sprites (standard)"
    assert [table.heading for table in tables] == [f"{words}; clips aaaaaaaa", f"{words}; clips bbbbbbbb", words]


def test_the_hash_of_the_clips_is_found_in_runs_that_were_never_evaluated(tmp_path: Path) -> None:
    results = older_results({"psnr_poses_test": 25.0}) | {"clips_sha256": "aaaaaaaaaa"}
    assert only(compare([write_run(tmp_path / "a", results)])).heading == "sprites (standard); clips aaaaaaaa"


def test_figures_that_name_their_own_split_stand_apart(tmp_path: Path) -> None:
    figures = {"swap_border": entry(0.9), "swap_border_person": entry(0.8) | {"split": "validation"}}
    tables = compare([write_run(tmp_path / "a", measured_results(figures)), write_run(tmp_path / "b", measured_results(figures), steps=1)])
    assert [(table.heading.split()[0], list(table.rows), len(table.columns)) for table in tables] == [
        ("test", ["swap_border"], 2), ("validation", ["swap_border_person"], 2),
    ]  # fmt: skip


def test_options_at_their_default_and_places_of_files_do_not_part_runs(tmp_path: Path) -> None:
    given = {"name": "sprites", "options": {"version": "standard", "validation": 100, "root": "elsewhere"}}
    results = {"a": measured_results({SWAP: 0.9}), "b": measured_results({SWAP: 0.9}, data=given)}
    assert len(compare([write_run(tmp_path / name, found) for name, found in results.items()])) == 1


def test_the_heading_names_data_split_and_how_good_the_judge_is(tmp_path: Path) -> None:
    table = only(compare([write_run(tmp_path / "a", measured_results({SWAP: 0.9}))]))
    assert table.heading == "test clips of sprites (standard)"
    assert table.judge == "judge 01234567, right on held-out real clips: hair 99.8 %"
    foreign = measured_results({SWAP: 0.9}, judge={"sha256": "abc", "other_split": True})
    (other,) = compare([write_run(tmp_path / "b", foreign)])
    assert other.judge == "judge abc, whose accuracy is not known; trained on another split, it may know clips that it judged"


# Which is best


@pytest.mark.parametrize(("first", "second", "marked"), [
    (entry(0.90), entry(0.87), [True, False]), (entry(0.87), entry(0.90), [False, True]), (entry(0.90), entry(0.885), [False, False]),
    (entry(0.90), entry(0.5, margin=None), [False, False]),
])  # fmt: skip
def test_the_best_is_marked_where_intervals_do_not_overlap(tmp_path: Path, first: Any, second: Any, marked: list[bool]) -> None:
    assert best(pair(tmp_path, first, second)) == marked


@pytest.mark.parametrize(("name", "marked"), [
    ("leak_static_to_action_mean", [False, True]), ("probe_static_hair_mean", [True, False]), ("chance_hair", [False, False]),
    ("disagreement_hair", [False, True]), ("embedding_static_hair", [False, False]), ("frechet_judge_reconstruction", [False, True]),
])  # fmt: skip
def test_lower_is_better_of_some_and_neither_of_others(tmp_path: Path, name: str, marked: list[bool]) -> None:
    table = pair(tmp_path, 0.9, 0.5, name)
    assert best(table, name)[:2] == marked


def test_of_three_the_best_must_be_apart_from_both(tmp_path: Path) -> None:
    values = {"a": 0.9, "b": 0.5, "c": 0.895}
    folders = [write_run(tmp_path / name, measured_results({SWAP: value}), steps=k + 1) for k, (name, value) in enumerate(values.items())]
    assert not any(best(only(compare(folders))))


# Seeds


def test_runs_that_differ_in_their_seed_alone_are_averaged_too(tmp_path: Path) -> None:
    values = [0.90, 0.93, 0.92]
    folders = [write_run(tmp_path / f"s{seed}", measured_results({SWAP: value}, seed=seed)) for seed, value in enumerate(values)]
    table = only(compare(folders))
    assert [column.kind for column in table.columns] == ["run", "run", "run", "seeds"]
    assert table.columns[3].detail == "mean ± sd of 3 seeds"
    last = table.rows[SWAP][3]
    assert last is not None
    assert last.value == pytest.approx(mean(values))
    assert last.spread == pytest.approx(stdev(values))
    assert not any(best(table))  # seeds of one recipe are no rivals


def test_the_best_of_several_seeds_is_marked_at_their_mean_and_only_if_all_of_them_are_better(tmp_path: Path) -> None:
    seeds = [write_run(tmp_path / f"s{seed}", measured_results({SWAP: value}, seed=seed)) for seed, value in enumerate((0.90, 0.80))]
    worse = write_run(tmp_path / "worse", measured_results({SWAP: 0.5}), steps=9)
    between = write_run(tmp_path / "between", measured_results({SWAP: 0.85}), steps=8)
    assert best(only(compare([seeds[0], worse, seeds[1]]))) == [False, False, True, False]
    assert not any(best(only(compare([*seeds, between]))))


def test_other_settings_or_the_same_seed_again_are_not_averaged(tmp_path: Path) -> None:
    first, again = (write_run(tmp_path / name, measured_results({SWAP: 0.9})) for name in ("a", "again"))
    other = write_run(tmp_path / "other", measured_results({SWAP: 0.9}, seed=1), steps=9)
    assert [column.kind for column in only(compare([first, again, other])).columns] == ["run"] * 3


# Published numbers


def test_published_numbers_stand_beside_ours_under_the_same_protocol_on_the_same_data(tmp_path: Path) -> None:
    name = "two_factor_accuracy_action_direction"
    table = only(compare([write_run(tmp_path / "a", measured_results({name: 0.95}))]))
    assert [(column.name, column.kind) for column in table.columns][1:] == [
        ("MoCoGAN", "published"), ("DSVAE", "published"), ("S3VAE", "published"),
    ]  # fmt: skip
    assert table.rows[name][3] == Cell(0.9949)
    assert "table 2" in table.notes[0]
    elsewhere = measured_results({name: 0.95}, data={"name": "sprites", "options": {"version": "vdsm"}})
    assert len(only(compare([write_run(tmp_path / "b", elsewhere)])).columns) == 1


def test_vdsm_stands_beside_consistency_only_where_it_was_measured_its_way(tmp_path: Path) -> None:
    data = {"name": "sprites", "options": {"version": "vdsm"}}
    figures = {"consistency_hair": 0.9, "embedding_static_hair": 0.9, "consistency_pooled_judge_hair": 0.9}
    ours, released = compare([write_run(tmp_path / "a", measured_results(figures, data=data))])
    assert [column.kind for column in ours.columns] == ["run"]
    assert released.rows["consistency_pooled_judge_hair"][1] == Cell(1.0)
    assert "Not repeated of the released judge" in released.notes[0]
    assert released.judge == ""


def test_published_shares_stand_beside_ours_but_not_divergences_by_another_judge(tmp_path: Path) -> None:
    table = only(compare([write_run(tmp_path / "a", measured_results({"disagreement_hair": 0.1, "disagreement_kl_hair": 0.3}))]))
    assert [column.name for column in table.columns] == ["a", "DSA", "DSA, beta = 6"]
    assert table.rows["disagreement_hair"][1:] == (Cell(0.02), Cell(0.022))
    assert table.rows["disagreement_kl_hair"][1:] == (None, None)


# Older runs and errors


def test_figures_of_older_runs_go_to_the_protocols_of_their_names(tmp_path: Path) -> None:
    figures = {"psnr_poses_test": 25.0, "chance_hair": 0.2, "probe_static_action_mean": 0.9, SWAP: 0.5}
    worse = {**figures, "probe_static_action_mean": 0.3}
    folders = [write_run(tmp_path / "a", older_results(figures)), write_run(tmp_path / "b", older_results(worse), steps=1)]
    tables = {table.protocol: table for table in compare(folders)}
    assert list(tables) == ["leakage", "reconstruction", "readers"]
    # whether the static code should know the action was not in the name
    assert not any(best(tables["leakage"], "probe_static_action_mean"))
    assert tables["reconstruction"].heading == "sprites (standard)"
    assert [run.evaluated for run in read_runs(folders)] == [False, False]


def test_a_run_without_its_settings_is_known_by_its_recipe(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", older_results({"psnr_poses_test": 25.0}))
    (folder / "run.json").unlink()
    assert only(compare([folder])).heading == "sprites (standard)"


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / place / "run", measured_results({SWAP: 0.9}), steps=k + 1) for k, place in enumerate("xy")]
    assert [column.name for column in only(compare(folders)).columns] == ["x/run", "y/run"]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"results\.json.*stillmotion resume"):
        compare([write_run(tmp_path / "a", None)])


def test_a_finished_run_that_was_never_measured_is_refused_with_the_command_for_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", None)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    with pytest.raises(FileRefused, match=r"never evaluated.*stillmotion evaluate"):
        compare([folder])


def test_a_run_without_figures_and_no_run_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has none.*stillmotion evaluate"):
        compare([write_run(tmp_path / "a", measured_results({}))])
    with pytest.raises(UserError, match="at least one run folder"):
        compare([])
