"""`judge train` and `judge show` as a user types them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from oracles.commands import CLIPS, TINY_JUDGE, Stillmotion
from stillmotion.metrics.judge import Judge
from stillmotion.metrics.judge_files import load_judge
from stillmotion.models import files
from stillmotion.recipes import judge as recipe


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, and own judges that are made in no time."""
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(recipe, "NARROW", recipe.Lessons((2, 2, 3, 4), 2))
    return tmp_path / "data"


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def judges(data_root: Path) -> list[Path]:
    return sorted((data_root / "judges").glob("*")) if data_root.exists() else []


def test_a_judge_is_trained_and_told_how_good_it_is(judge: Path, stillmotion: Stillmotion) -> None:
    shown = stillmotion("judge", "show", judge)
    lines = shown.out.splitlines()
    assert lines[0].split() == ["factor", "right", "95", "%", "interval", "calibration", "error", "nats"]
    facts = load_judge(judge).facts
    for line, factor in zip(lines[1:3], ("colour", "speed"), strict=True):
        told, sure = facts["accuracy"][factor], facts["calibration"][factor]
        right, low, high, off = (f"{100 * value:.2f}" for value in (told["value"], told["low"], told["high"], sure["ece"]))
        assert line.split() == [factor, right, "%", low, "to", high, off, "%", f"{sure['nll']:.4f}"]
    assert lines[3] == f"{judge}  (14 test clips that it never saw, trained in {facts['minutes']:.1f} minutes)"
    assert facts["command"].startswith("stillmotion judge train pendula -o ")


def test_training_ends_with_what_show_says(tmp_path: Path, stillmotion: Stillmotion) -> None:
    trained = stillmotion("judge", "train", "pendula", "-o", tmp_path / "j", *TINY_JUDGE, *CLIPS, "--seed", 3)
    assert trained.code == 0, trained
    assert trained.out == stillmotion("judge", "show", tmp_path / "j").out
    assert trained.err.startswith("step 2/2  stage judge  colour ")
    assert load_judge(tmp_path / "j").facts["seed"] == 3


def test_a_judge_of_a_runs_data_is_the_one_that_evaluate_finds(tiny: Path, data_root: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("judge", "train", tiny)
    assert result.code == 0, result
    [folder] = judges(data_root)
    assert load_judge(folder).judge.config.channels == (2, 2, 3, 4)
    after = stillmotion("evaluate", tiny, "--only", "swap", "--no-report")
    assert after.code == 0
    assert "training a judge" not in after.err
    assert results(tiny)["judge"]["folder"] == str(folder)


@pytest.mark.parametrize(("options", "named"), [
    (["--steps", 2], "--steps"), (["--channels", "2,2,3,4"], "--channels"), (["--seed", 3], "--seed"),
    (["--steps", 2, "--seed", 3], "--steps and --seed"),
])  # fmt: skip
def test_a_judge_of_its_own_kind_does_not_become_the_one_that_evaluate_finds(
    options: list[object], named: str, data_root: Path, stillmotion: Stillmotion
) -> None:
    stillmotion("judge", "train", "pendula", *options, *CLIPS).refused(f"-o FOLDER beside {named}", "evaluate --judge")
    assert judges(data_root) == []


def test_options_of_data_sets_have_no_effect_on_the_data_of_a_run(tiny: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("judge", "train", tiny, "-o", tmp_path / "j", *TINY_JUDGE, "--data", "clips=99", "--data-root", tmp_path)
    assert result.code == 0
    assert "--data is for built-in sets and has no effect on the data of a run." in result.err
    assert "--data-root is for built-in sets and has no effect on the data of a run." in result.err


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone presses Ctrl-C in the second training step, once."""
    real, calls = Judge.loss, iter(range(10**6))

    def loss(judge: Judge, *arguments: Any) -> Any:
        if judge.training and next(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return real(judge, *arguments)

    monkeypatch.setattr(Judge, "loss", loss)


@pytest.mark.usefixtures("stops")
def test_a_judge_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path, stillmotion: Stillmotion) -> None:
    words = ("judge", "train", "pendula", "-o", tmp_path / "j", "--steps", 4, "--channels", "2,2,3,4", *CLIPS)
    stopped = stillmotion(*words)
    assert stopped.code == 130
    assert stopped.err.endswith("stopped; the same command goes on\n")
    stillmotion("judge", "show", tmp_path / "j").refused("which has no judge yet", "Go on with `stillmotion judge train`")
    assert stillmotion(*words).code == 0
    words = (*words[:4], tmp_path / "whole", *words[5:])
    assert stillmotion(*words).code == 0
    assert load_judge(tmp_path / "j").sha256 == load_judge(tmp_path / "whole").sha256


@pytest.mark.usefixtures("stops")
def test_an_evaluation_stopped_while_its_judge_learns_goes_on(tiny: Path, data_root: Path, stillmotion: Stillmotion) -> None:
    before = results(tiny)
    stopped = stillmotion("evaluate", tiny, "--only", "swap", "--no-report")
    assert (stopped.code, stopped.out) == (130, "")
    assert results(tiny) == before
    again = stillmotion("evaluate", tiny, "--only", "swap", "--no-report")
    assert again.code == 0, again
    assert results(tiny)["judge"]["folder"] == str(judges(data_root)[0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], ["a run folder, or one of pendula", "'nowhere'", "train a model first"]),
        (["videos"], ["'videos'", "train a model first"]),
        (["pendula", "--channels", "2,x"], ["whole numbers from 1 up", "channels", "'x'"]),
        (["pendula", "--channels", "2,3", *CLIPS], ["options of judge", "channels"]),
        (["pendula", "--data", "clips"], ["name=value", "'clips'"]),
        (["pendula", "--data", "clippers=3"], ["options of the data set pendula", "clippers"]),
        (["pendula", *CLIPS, "--changes", "gait"], ["factors that a judge can learn: colour, speed", "'gait'"]),
        (["pendula", *CLIPS, "--data", "size=20"], ["a power of two from 8 up, got 20"]),
    ],
)
def test_what_makes_no_judge_is_refused(words: list[object], told: list[str], tmp_path: Path, stillmotion: Stillmotion) -> None:
    stillmotion("judge", "train", *words, "-o", tmp_path / "j").refused(*told)
    assert not (tmp_path / "j").exists()


def test_a_judge_of_its_own_kind_has_a_folder_of_its_own(data_root: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    words = ("judge", "train", "pendula", "--changes", "speed", "--centred", *TINY_JUDGE, *CLIPS)
    assert stillmotion(*words, "-o", tmp_path / "j").code == 0
    config = load_judge(tmp_path / "j").judge.config
    assert (config.changes, config.centred) == (("speed",), True)
    stillmotion("judge", "train", "pendula", "--centred", *CLIPS).refused("-o FOLDER beside --centred", "none")
    stillmotion("judge", "train", "pendula", "--changes", "speed", *CLIPS).refused("-o FOLDER beside --changes", "none")


def test_no_steps_are_not_taken_for_the_usual_ones(tmp_path: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("judge", "train", "pendula", "-o", tmp_path / "j", "--steps", 0)
    assert result.code == 2
    assert "--steps" in result.err


def test_a_folder_of_another_judge_is_left_alone(judge: Path, stillmotion: Stillmotion) -> None:
    before = load_judge(judge).sha256
    stillmotion("judge", "train", "pendula", "-o", judge, *TINY_JUDGE, *CLIPS, "--seed", 8).refused("which holds another run")
    assert load_judge(judge).sha256 == before


def test_what_is_no_measured_judge_cannot_be_shown(finished: Path, judge: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    stillmotion("judge", "show", finished).refused("expected a judge", f"{finished}", "which holds a model")
    stillmotion("judge", "show", tmp_path / "none").refused("the folder of a judge", "Train one with `stillmotion judge train`")
    files.save(load_judge(judge).judge, tmp_path / "bare")
    stillmotion("judge", "show", tmp_path / "bare").refused("a judge that was measured", "accuracy, calibration, clips, minutes, split")
