"""`evaluate` and `compare` as a user types them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from oracles.commands import TINY, Stillmotion, run, write_yaml
from stillmotion.cli.evaluate import _telling
from stillmotion.cli.main import app
from stillmotion.metrics.judge import Judge
from stillmotion.metrics.judge_files import load_judge
from stillmotion.models import files
from stillmotion.recipes import judge as recipe


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, a terminal of 80 columns, and own judges that are made in no time."""
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(recipe, "NARROW", recipe.Lessons((2, 2, 3, 4), 2))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def evaluated(finished: Path, judge: Path, place: Path) -> Path:
    """The same run with everything measured; what the command said lies beside it."""
    shutil.copytree(finished, place / "evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        result = run("evaluate", place / "evaluated", "--judge", judge)
    assert result.code == 0, result
    (place / "out.txt").write_text(result.out, encoding="utf-8")
    (place / "err.txt").write_text(result.err, encoding="utf-8")
    return place / "evaluated"


@pytest.fixture
def tiny(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may write into."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def judges(data_root: Path) -> list[Path]:
    return sorted((data_root / "judges").glob("*")) if data_root.exists() else []


# evaluate


def test_everything_is_measured_under_its_protocol(evaluated: Path, judge: Path) -> None:
    found = results(evaluated)
    protocols = {figure["protocol"] for figure in found["figures"].values()}
    assert protocols == {
        "swap", "two_factor", "leakage", "vdsm", "dsa_report", "benchmark", "frechet_judge", "reconstruction", "imputation", "readers",
    }  # fmt: skip
    assert found["judge"]["folder"] == str(judge)
    assert found["judge"]["sha256"] == load_judge(judge).sha256
    told = found["evaluation"]
    assert (told["split"], told["clips"], told["moving"], told["seed"]) == ("test", 14, ["speed"], 0)
    assert told["command"] == f"stillmotion evaluate {evaluated} --judge {judge}"
    assert (evaluated / "report.html").is_file()


def test_the_terminal_tells_what_happens_and_ends_with_where_it_is(evaluated: Path, place: Path) -> None:
    out, err = ((place / name).read_text(encoding="utf-8").splitlines() for name in ("out.txt", "err.txt"))
    assert [line for line in err if line.startswith("measuring: ")][:3] == [
        "measuring: reconstruction", "measuring: reconstruction by poses", "measuring: swaps",
    ]  # fmt: skip
    assert out[-3:-1] == [f"tables   {evaluated / 'tables.md'}", f"report   {evaluated / 'report.html'}"]
    assert re.fullmatch(rf"results  {re.escape(str(evaluated / 'results.json'))}  \(14 test clips, \d+\.\d minutes\)", out[-1])
    titles = ["Swaps", "Two factors, one kept and one drawn", "Leakage", "Scores of the VDSM paper", "Scores of codes", "Reconstruction"]
    assert [line for line in out if line in titles] == titles


def test_a_judge_that_errs_is_told_with_its_scores(evaluated: Path, judge: Path, place: Path) -> None:
    right = load_judge(judge).facts["accuracy"]
    assert all(right[factor]["value"] < 0.9 for factor in right), "two steps teach little"
    told = [f"{factor} {100 * right[factor]['value']:.1f} %" for factor in ("colour", "speed")]
    err = (place / "err.txt").read_text(encoding="utf-8").splitlines()
    assert err[-1] == f"beware: of real clips the judge is right on no more than {', '.join(told)}; its scores of them mean little"


def test_tables_fit_the_terminal_and_show_shares_in_per_cent(evaluated: Path, place: Path) -> None:
    out = (place / "out.txt").read_text(encoding="utf-8").splitlines()
    tables = [line for line in out if not line.startswith(("tables", "report", "results"))]
    assert max(map(len, tables)) <= 80
    figures = results(evaluated)["figures"]
    for name, figure in figures.items():
        [line] = [line for line in tables if line.split()[:1] == [name]]
        if " % " in line:
            assert f" {100 * figure['value']:.{2 if name.startswith('imputation') else 1}f}" in line
    assert sum(" % " in line for line in tables) > 30


def test_without_a_judge_one_is_trained_and_kept(tiny: Path, data_root: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("evaluate", tiny, "--only", "swap", "--no-report")
    assert result.code == 0, result
    [folder] = judges(data_root)
    assert result.err.startswith(f"training a judge of colour, speed first; it is kept in {folder}\n")
    digest = load_judge(folder).sha256
    again = stillmotion("evaluate", tiny, "--only", "swap", "--no-report")
    assert again.err.startswith("measuring: swaps\n")
    assert results(tiny)["judge"]["sha256"] == digest == load_judge(folder).sha256


def test_only_one_protocol_is_taken_and_shown_and_the_others_stay(
    evaluated: Path, judge: Path, tmp_path: Path, stillmotion: Stillmotion
) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "again")
    before = results(folder)["figures"]
    result = stillmotion("evaluate", folder, "--judge", judge, "--only", "swap", "--only", "reconstruction", "--no-report", "--seed", 1)
    assert result.code == 0, result
    assert [line for line in result.err.splitlines() if line.startswith("measuring")] == [
        "measuring: reconstruction", "measuring: reconstruction by poses", "measuring: swaps",
    ]  # fmt: skip
    assert "\nSwaps\n" in result.out
    assert "\nReconstruction\n" in result.out
    assert "Leakage" not in result.out
    after = results(folder)["figures"]
    changed = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert {before[name]["protocol"] for name in changed} <= {"swap", "reconstruction"}
    assert changed, "another seed draws other resamples"


def test_all_tables_are_kept_in_the_run_folder_even_where_one_is_asked_for(
    evaluated: Path, judge: Path, tmp_path: Path, stillmotion: Stillmotion
) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "again")
    (folder / "tables.md").unlink()
    assert stillmotion("evaluate", folder, "--judge", judge, "--only", "reconstruction", "--no-report").code == 0
    page = (folder / "tables.md").read_text(encoding="utf-8")
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")][:3] == [
        "Swaps", "Two factors, one kept and one drawn", "Leakage",
    ]  # fmt: skip
    for name, figure in results(folder)["figures"].items():
        [line] = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
        assert f"| {figure['clips']:,} |" in line


def test_the_same_seed_measures_the_same(evaluated: Path, judge: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "again")
    before = results(folder)["figures"]
    assert stillmotion("evaluate", folder, "--judge", judge, "--only", "swap", "--no-report").code == 0
    assert results(folder)["figures"] == before


def test_what_needs_no_judge_trains_none(tiny: Path, data_root: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("evaluate", tiny, "--only", "reconstruction", "--no-report")
    assert result.code == 0, result
    assert judges(data_root) == []
    assert results(tiny)["judge"] is None
    assert not (tiny / "report.html").exists()


def test_without_any_judge_the_rest_is_measured_and_what_is_left_out_is_told(
    tiny: Path, data_root: Path, stillmotion: Stillmotion
) -> None:
    result = stillmotion("evaluate", tiny, "--no-judge")
    assert result.code == 0, result
    [line] = [line for line in result.err.splitlines() if line.startswith("left out")]
    assert line.startswith("left out (it needs a judge): swaps; two factors; two factors, aggregate posterior; ")
    assert judges(data_root) == []
    assert {figure["protocol"] for figure in results(tiny)["figures"].values()} == {
        "leakage", "vdsm", "benchmark", "reconstruction", "imputation", "readers",
    }  # fmt: skip
    assert not any(line.startswith("judge ") for line in result.out.splitlines())
    assert (tiny / "report.html").is_file()


def test_the_factors_that_move_can_be_named(tiny: Path, judge: Path, stillmotion: Stillmotion) -> None:
    words = ("evaluate", tiny, "--judge", judge, "--only", "two_factor", "--no-report")
    assert stillmotion(*words, "--moving", "colour").code == 0
    found = results(tiny)
    assert found["evaluation"]["moving"] == ["colour"]
    result = stillmotion(*words, "--moving", " colour, speed ,")
    result.refused("factor that moves and one that stays")
    stillmotion(*words, "--moving", "walk").refused("'walk'", "The labels of this data: colour, speed")


def test_refusals_come_before_a_judge_is_trained(tiny: Path, data_root: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    before = results(tiny)
    (tmp_path / "other.pth").write_text("not a network")
    stillmotion("evaluate", tiny, "--kinetics", tmp_path / "other.pth").refused("other.pth")
    stillmotion("evaluate", tiny, "--kinetics", tmp_path / "gone.pth").refused("gone.pth")
    stillmotion("evaluate", tiny, "--kinetics-sha256", "abc").refused("--kinetics-sha256 beside --kinetics")
    stillmotion("evaluate", tiny, "--only", "swaps").refused("protocols among", "'swaps'")
    stillmotion("evaluate", tiny, "--only", "swap", "--only", "swp").refused("protocols among", "'swp'")
    stillmotion("evaluate", tiny, "--only", "swap", "--only", "frechet_kinetics").refused("--kinetics FILE beside the protocol")
    stillmotion("evaluate", tiny, "--moving", "walk").refused("'walk'")
    (tiny / "model" / "model.safetensors").unlink()
    stillmotion("evaluate", tiny).refused("damaged or missing")
    assert judges(data_root) == []
    assert results(tiny) == before


def test_what_is_no_run_and_what_is_no_judge_is_refused(finished: Path, judge: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    stillmotion("evaluate", tmp_path / "gone").refused("a run folder", "gone")
    stillmotion("evaluate", judge, "--no-judge").refused("expected a model", "which holds a judge")
    stillmotion("evaluate", finished, "--judge", finished).refused("expected a judge", "which holds a model")
    stillmotion("evaluate", finished, "--judge", tmp_path / "gone").refused("the folder of a judge", "stillmotion judge train")
    stillmotion("evaluate", finished, "--judge", judge, "--no-judge").refused("--judge or --no-judge, got both")


def test_judges_of_other_classes_and_frames_are_refused(finished: Path, judge: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    config = load_judge(judge).judge.config
    other = {"classes": {"speed": ("slow", "quick")}, "size": 16, "channels": (2, 2, 3, 4)}
    files.save(files.build("judge", other, 0, {"judge": "stillmotion.metrics.judge:Judge"}), tmp_path / "classes")
    stillmotion("evaluate", finished, "--judge", tmp_path / "classes").refused("slow, fast of speed", "slow, quick", "judge train")
    files.save(Judge(config.model_copy(update={"size": 32})), tmp_path / "frames")
    stillmotion("evaluate", finished, "--judge", tmp_path / "frames").refused("frames of shape (3, 16, 16)", "(3, 32, 32)", "judge train")


# Videos of one's own


def test_videos_with_labels_get_a_judge_of_their_own(trained: Path, tmp_path: Path, data_root: Path, stillmotion: Stillmotion) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    result = stillmotion("evaluate", folder, "--moving", "action", "--no-report")
    assert result.code == 0, result
    assert "training a judge of" in result.err
    found = results(folder)
    assert found["evaluation"]["moving"] == ["action"]
    assert "two_factor" in {figure["protocol"] for figure in found["figures"].values()}
    assert "of two files" in found["evaluation"]["skipped"]["swaps"], "one file is held out"
    [kept] = judges(data_root)
    assert kept.name.startswith("videos-")


def test_videos_without_labels_are_measured_without_a_judge(
    clips: Path, tmp_path: Path, data_root: Path, stillmotion: Stillmotion
) -> None:
    config = write_yaml(tmp_path / "tiny.yaml", TINY)
    options = ("--frame-size", 16, "--frames", 6, "--config", config, "--no-report", "--data-root", tmp_path / "cache")
    assert stillmotion("train", clips, "-o", tmp_path / "run", *options).code == 0
    result = stillmotion("evaluate", tmp_path / "run", "--no-report")
    assert result.code == 0, result
    assert result.err.startswith("no judge: expected clips with labels that a judge can learn, got labels: none. Name factors with")
    assert "left out (the clips have no labels): " in result.err
    assert {figure["protocol"] for figure in results(tmp_path / "run")["figures"].values()} >= {"reconstruction"}
    assert judges(data_root) == []
    refused = stillmotion("evaluate", tmp_path / "run", "--only", "leakage", "--no-judge")
    refused.refused("none under leakage", "the clips have no labels", "What remains: reconstruction")


# compare


@pytest.fixture(scope="module")
def second(evaluated: Path, judge: Path, place: Path) -> Path:
    """The same run with the swaps drawn from another seed."""
    folder = Path(shutil.copytree(evaluated, place / "second"))
    assert run("evaluate", folder, "--judge", judge, "--only", "swap", "--seed", 5, "--no-report").code == 0
    return folder


def test_two_evaluated_runs_stand_side_by_side(
    evaluated: Path, second: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    result = stillmotion("compare", evaluated, second)
    assert (result.code, result.err) == (0, "")
    ours, theirs = (results(folder)["figures"]["swap_both_accuracy"] for folder in (evaluated, second))
    [line] = [line for line in result.out.splitlines() if line.startswith("swap_both_accuracy")]
    cells = [f"{100 * one['value']:.1f} ({100 * one['low']:.1f}–{100 * one['high']:.1f})" for one in (ours, theirs)]
    assert [word in line for word in cells] == [True, True]
    assert any(line.split()[:2] == ["evaluated", "second"] for line in result.out.splitlines())


def test_comparisons_are_written_for_people_and_programs(evaluated: Path, second: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    for ending in ("md", "csv", "json"):
        result = stillmotion("compare", evaluated, second, "-o", tmp_path / f"tables.{ending}")
        assert result.code == 0
        assert result.out.endswith(f"\n{tmp_path / f'tables.{ending}'}\n")
    value = results(second)["figures"]["swap_both_accuracy"]["value"]
    rows = list(csv.DictReader((tmp_path / "tables.csv").read_text(encoding="utf-8").splitlines()))
    [row] = [row for row in rows if (row["figure"], row["column"]) == ("swap_both_accuracy", "second")]
    assert float(row["value"]) == value
    tables = json.loads((tmp_path / "tables.json").read_text(encoding="utf-8"))
    [swaps] = [table for table in tables if table["protocol"] == "swap"]
    assert swaps["rows"]["swap_both_accuracy"][1]["value"] == value
    page = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert page.startswith("## Swaps\n")
    assert f"{100 * value:.1f} (" in page


def test_what_cannot_be_compared_is_refused(evaluated: Path, judge: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    stillmotion("compare", tmp_path / "gone").refused("results.json", "gone")
    stillmotion("compare", evaluated, "-o", tmp_path / "tables.txt").refused(".md, .csv, .json, .html", "tables.txt")
    stillmotion("compare", judge).refused("results.json", str(judge))


# Help


def commands() -> Iterator[tuple[str, Any]]:
    known: Any = typer.main.get_command(app)
    for name in ("evaluate", "compare", "judge"):
        for inner, command in getattr(known.commands[name], "commands", {"": known.commands[name]}).items():
            yield f"{name} {inner}".strip(), command


def test_every_option_of_the_new_commands_is_explained() -> None:
    found = dict(commands())
    assert list(found) == ["evaluate", "compare", "judge train", "judge show"]
    for name, command in found.items():
        assert len(command.get_short_help_str(200)) > 20
        assert all(len(getattr(option, "help", "") or "") > 5 for option in command.params), name


def test_help_names_every_protocol_that_can_be_asked_for(stillmotion: Stillmotion) -> None:
    from stillmotion.recipes.measures import MEASURES

    words = re.sub(r"[│\s]+", " ", stillmotion("evaluate", "--help").out)
    assert all(re.search(rf"\b{measure.protocol}\b", words) for measure in MEASURES.values())


def test_help_of_the_new_commands_loads_nothing_heavy() -> None:
    code = """
import sys
from stillmotion.cli.main import main
for words in (["evaluate"], ["compare"], ["judge", "train"], ["judge", "show"]):
    sys.argv = ["stillmotion", *words, "--help"]
    try:
        main()
    except SystemExit as done:
        assert not done.code
print("heavy", [name for name in ("torch", "numpy", "scipy", "sklearn", "yaml", "PIL") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "heavy []"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_tells_what_is_being_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with _telling() as say:
        for name in ("swaps", "leaks", "distances"):
            say(name)
            torch.zeros(1)
    assert "measuring" in shown.getvalue()
    assert shown.getvalue().count("\n") < 3
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with _telling() as say:
        say("swaps")
    assert sys.stderr.getvalue() == "measuring: swaps\n"
