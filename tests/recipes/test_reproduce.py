from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oracles import tiny_reproduction as tiny
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.core.registry import resolve
from stillmotion.metrics.exhibits import Page, read_page
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.results import by_protocol, read_results
from stillmotion.recipes import reproduce as module
from stillmotion.recipes.reproduce import REPRODUCTIONS, Plan, Reproduced, about, measured_once, reproduce, train_once
from stillmotion.training.loop import Interrupted
from stillmotion.training.machine import peak_memory
from stillmotion.training.runs import read_run
from stillmotion.training.settings import Part, Run

PLAN = Plan(show=False, command="stillmotion reproduce tiny")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPRODUCTIONS, "tiny", tiny.PLACE)
    tiny.calls.clear()
    tiny.stops.clear()


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "reproduction.json").read_text(encoding="utf-8"))
    return found


def times(folder: Path) -> dict[str, int]:
    """When the files of its runs were last written."""
    return {str(path): path.stat().st_mtime_ns for path in (folder / "runs").rglob("*") if path.is_file() and path.name != "measured.json"}


# the whole


def test_every_reproduction_leads_to_a_function_that_says_what_it_is_of() -> None:
    for name, words in about().items():
        assert callable(resolve(REPRODUCTIONS, name))
        assert 10 < len(words) < 120
    assert about()["tiny"] == "Tiny pendula: sizes of networks."


def test_a_page_and_figures_with_their_circumstances_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert reproduce("tiny", folder, PLAN) == folder
    assert [exhibit.name for exhibit in read_page(folder).exhibits] == ["sizes", "curve", "noise"]
    results = read_results(folder)
    told = {key: results[key] for key in ("recipe", "command", "seeds", "judge", "size", "quick")}
    assert told == {"recipe": "tiny", "command": PLAN.command, "seeds": [0], "judge": None, "size": "laptop", "quick": False}
    assert results["machine"]["versions"]["torch"]
    assert results["figures"]["imputation_smooth_p50"] == {
        "value": 0.01235, "low": 0.01, "high": 0.02, "clips": 9, "paper": 0.0075, "protocol": "imputation",
    }  # fmt: skip
    assert results["figures"]["size_of_networks"]["protocol"] == "reproduction"
    assert results["figures"]["size_of_networks"]["paper"] is None
    assert set(by_protocol(results)) == {"imputation", "reproduction"}


def test_a_stopped_one_goes_on_without_doing_anything_twice(tmp_path: Path) -> None:
    tiny.stops.append(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        reproduce("tiny", tmp_path, PLAN)
    assert not (tmp_path / "page.json").exists()
    trained = times(tmp_path)
    reproduce("tiny", tmp_path, PLAN)
    assert times(tmp_path) == trained
    reproduce("tiny", tmp_path, PLAN)
    assert tiny.calls == ["tiny_0"]


def test_seeds_can_be_added(tmp_path: Path) -> None:
    reproduce("tiny", tmp_path, PLAN)
    first = times(tmp_path)
    reproduce("tiny", tmp_path, Plan(show=False, seeds=2))
    assert times(tmp_path).items() > first.items()
    assert tiny.calls == ["tiny_0", "tiny_1"]
    assert read_results(tmp_path)["seeds"] == [0, 1]


# how long it took


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each session takes the minutes that are next in the list."""
    minutes: list[float] = []
    running: list[bool] = []

    def read() -> float:
        running.append(not (running and running[-1]))
        return 100.0 if running[-1] else 100.0 + 60 * minutes.pop(0)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=read))
    return minutes


def stub(monkeypatch: pytest.MonkeyPatch, *ends: BaseException | None) -> None:
    """The reproduction does nothing but end, each time in the next way."""
    left = list(ends)

    def work(folder: Path, plan: Plan) -> Reproduced:
        if (end := left.pop(0)) is not None:
            raise end
        return Reproduced(Page("", "", ()), {"mig": Figure(1, 1, 1, 1)})

    monkeypatch.setattr(module, "resolve", lambda registry, name: work)


def test_the_minutes_of_all_sessions_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    stub(monkeypatch, Interrupted(), ValueError("a fault"), None)
    clock[:] = [3.0, 4.5, 1.25]
    for error in (Interrupted, ValueError):
        with pytest.raises(error):
            reproduce("tiny", tmp_path, PLAN)
    reproduce("tiny", tmp_path, PLAN)
    results = read_results(tmp_path)
    assert results["minutes"] == 8.75
    assert [session["minutes"] for session in results["sessions"]] == [3.0, 4.5, 1.25]
    assert [session["peak_memory_gb"] for session in results["sessions"]] == [pytest.approx(peak_memory(), abs=0.5)] * 3


def test_a_killed_session_counts_until_the_last_file_that_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    stub(monkeypatch, None, None)
    clock[:] = [2.0, 1.0]
    reproduce("tiny", tmp_path, PLAN)
    before = record(tmp_path)
    began = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    killed = {**before["sessions"][0], "began": began.isoformat(), "minutes": None}
    (tmp_path / "reproduction.json").write_text(json.dumps({**before, "sessions": [*before["sessions"], killed]}))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "checkpoint").touch()
    for path in tmp_path.rglob("*"):
        os.utime(path, (began.timestamp() + 60, began.timestamp() + 60))
    os.utime(tmp_path / "runs" / "checkpoint", (began.timestamp() + 600, began.timestamp() + 600))
    reproduce("tiny", tmp_path, PLAN)
    assert [session["minutes"] for session in record(tmp_path)["sessions"]] == [2.0, 10.0, 1.0]
    assert read_results(tmp_path)["minutes"] == 13.0


# what is refused


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected one of .*tiny.*got 'tinny'"):
        reproduce("tinny", tmp_path, PLAN)


@pytest.mark.parametrize(
    ("settings", "words"), [({"size": "huge"}, "a size of laptop, paper, got 'huge'"), ({"seeds": 0}, "at least one seed")]
)
def test_a_plan_that_cannot_be_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Plan(**settings)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(UserError, match="which holds something else. Choose another folder"):
        reproduce("tiny", tmp_path, PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_of_another_plan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, None)
    reproduce("tiny", tmp_path, PLAN)
    with pytest.raises(UserError, match="in which size is 'laptop' there, and 'paper' here; quick is False there, and True here"):
        reproduce("tiny", tmp_path, Plan(size="paper", quick=True))
    with pytest.raises(UserError, match="recipe is 'tiny' there, and 'other' here"):
        reproduce("other", tmp_path, PLAN)


@pytest.mark.parametrize("text", ["{", '{"recipe": "tiny"}'])
def test_a_record_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reproduction.json").write_text(text)
    with pytest.raises(FileRefused, match=r"reproduction\.json"):
        reproduce("tiny", tmp_path, PLAN)


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="in one process, got one of 2. Start it without torchrun"):
        reproduce("tiny", tmp_path / "out", PLAN)
    assert not (tmp_path / "out").exists()


def test_a_published_value_of_nothing_measured_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="mig"):
        Reproduced(Page("", "", ()), {}, {"mig": 1.0})


# single runs


def test_a_run_that_is_not_finished_is_resumed_and_a_finished_one_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.train(tmp_path / "run", PLAN)
    assert json.loads((folder / "run.json").read_text())["command"] == PLAN.command
    resumed: list[Path] = []
    monkeypatch.setattr(module, "resume", lambda folder, show: resumed.append(folder) or folder)
    assert train_once(tiny.run(), folder, PLAN) == folder
    assert resumed == []
    (folder / "results.json").unlink()
    assert train_once(tiny.run(), folder, PLAN) == folder
    assert resumed == [folder]


def test_another_run_in_its_place_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = tiny.train(tmp_path / "run", PLAN)
    with pytest.raises(UserError, match=re.escape("seed is 0 there, and 3 here")):
        train_once(tiny.run(seed=3), folder, PLAN)
    with pytest.raises(UserError, match=re.escape("stages.0.steps is 1 there, and 2 here; stages.1.steps is 1 there, and 2 here")):
        train_once(tiny.run(steps=2), folder, PLAN)
    wider = tiny.run().model_copy(update={"model": tiny.run().model.model_copy(update={"options": {"size": 16}})})
    with pytest.raises(UserError, match=r"model\.options\.\w+ is .* there, and None here; .*; \.\.\.\. Choose another folder"):
        train_once(wider, folder, PLAN)


def test_data_that_was_moved_is_no_difference_and_is_found_in_its_new_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(folder: str, **options: Any) -> Run:
        return tiny.run().model_copy(update={"data": Part(name="videos", options={"folder": folder, "size": 16, **options})})

    folder = tiny.train(tmp_path / "run", PLAN)
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "run": run("/there/clips", cache="/old").model_dump(mode="json")}))
    resumed: list[Any] = []
    monkeypatch.setattr(module, "resume", lambda folder, show: resumed.append(read_run(folder).data.options) or folder)
    assert train_once(run("/here/clips"), folder, PLAN) == folder
    assert read_run(folder).data == run("/here/clips").data
    assert json.loads(path.read_text())["command"] == PLAN.command
    assert resumed == []
    (folder / "results.json").unlink()
    train_once(run("/again/clips"), folder, PLAN)
    assert resumed == [{"folder": "/again/clips", "size": 16}]  # which is read where it lies now
    for other, words in ((run("/again/others"), "options.folder is 'clips' there"), (run("/again/clips", size=8), "options.size is 16")):
        with pytest.raises(UserError, match=re.escape(words)):
            train_once(other, folder, PLAN)


def test_results_tell_of_a_judge_without_the_paths_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, page = tmp_path / "out", Page("A", "B", ())
    for place, told in ((folder / "judge", "judge"), (tmp_path / "root" / "sprites-0123", "sprites-0123")):
        judge = {"folder": str(place), "sha256": "x"}
        monkeypatch.setattr(tiny, "reproduce", lambda *_, judge=judge: Reproduced(page, {}, judge=judge))
        assert read_results(reproduce("tiny", folder, PLAN))["judge"] == {"folder": told, "sha256": "x"}
        assert str(tmp_path) not in (folder / "results.json").read_text()


def test_a_model_that_today_s_defaults_would_not_make_is_refused(tmp_path: Path) -> None:
    folder = tiny.train(tmp_path / "run", PLAN)
    path = folder / "model" / "config.json"
    told = json.loads(path.read_text())
    told["options"]["flow_hidden"] = 7
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match=re.escape("model.options.flow_hidden is 7 there, and 8 here. Choose another folder")):
        train_once(tiny.run(), folder, PLAN)


def test_a_model_that_is_older_than_an_option_is_the_one_of_its_default(tmp_path: Path) -> None:
    folder = tiny.train(tmp_path / "run", PLAN)
    path = folder / "model" / "config.json"
    told = json.loads(path.read_text())
    young = next(name for name in told["options"] if name not in tiny.run().model.options)
    del told["options"][young]
    path.write_text(json.dumps(told))
    assert train_once(tiny.run(), folder, PLAN) == folder
    told["options"]["nonsense"] = 3
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match=re.escape("model.options.nonsense is 3 there, and None here")):
        train_once(tiny.run(), folder, PLAN)


def test_the_precision_that_was_found_on_the_machine_is_no_difference(tmp_path: Path) -> None:
    folder = tiny.train(tmp_path / "run", PLAN)
    assert train_once(tiny.run().model_copy(update={"precision": "auto"}), folder, PLAN) == folder
    with pytest.raises(UserError, match="precision is 'float32' there, and 'bfloat16' here"):
        train_once(tiny.run().model_copy(update={"precision": "bfloat16"}), folder, PLAN)


# what is measured


def counted(found: Any) -> Any:
    calls: list[int] = []

    def work() -> Any:
        calls.append(1)
        return found

    return work, calls


def test_what_was_measured_is_kept_by_its_key(tmp_path: Path) -> None:
    work, calls = counted({"values": (1.5, None), 3: "x"})
    first = measured_once(tmp_path / "new", "a", work)
    assert first == measured_once(tmp_path / "new", "a", work) == {"values": [1.5, None], "3": "x"}
    assert len(calls) == 1
    measured_once(tmp_path / "new", "b", work)
    assert len(calls) == 2


def test_nothing_is_also_found_only_once(tmp_path: Path) -> None:
    work, calls = counted(None)
    assert measured_once(tmp_path, "a", work) is measured_once(tmp_path, "a", work) is None
    assert len(calls) == 1


def test_other_weights_are_measured_anew(tmp_path: Path) -> None:
    work, calls = counted(1)
    config = tmp_path / "model" / "config.json"
    config.parent.mkdir()
    for sha in ("aa", "aa", "bb"):
        config.write_text(json.dumps({"sha256": sha}))
        measured_once(tmp_path, "a", work)
    assert len(calls) == 2


def test_a_measurement_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        measured_once(tmp_path, "a", fail)
    assert not list(tmp_path.iterdir())
