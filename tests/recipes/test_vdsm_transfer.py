"""The reproduction on real video, on small made ones and with models that were not trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from oracles import two_factor_videos as tiny
from oracles.finished_runs import quickly
from oracles.untrained import PLAN, small_recipe, untrained
from stillmotion.core.registry import resolve
from stillmotion.metrics.exhibits import Pictures, Table, read_page, write_page
from stillmotion.recipes import lab as labs
from stillmotion.recipes import vdsm_transfer
from stillmotion.recipes.cells import told
from stillmotion.recipes.reproduce import REPRODUCTIONS, Plan, Reproduced
from stillmotion.recipes.vdsm_pairs import HELD_OUT, Reel, Transfer
from stillmotion.recipes.vdsm_transfer import Case, Group, _by_pair, pairs_of_runs, reproduce
from stillmotion.recipes.vdsm_witness import KINDS, Record
from stillmotion.training.runs import read_run


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, quickly():
        patch.setenv("STILLMOTION_DATA", str(tiny.write(tmp_path_factory.mktemp("root"))))
        patch.setattr(labs, "train_once", untrained)
        patch.setattr(vdsm_transfer, "videos", small_recipe("videos", steps=6, progress=False))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture(scope="module")
def found(small: None, folder: Path) -> Reproduced:
    return reproduce(folder, PLAN)


def held_out(folder: Path) -> list[dict[str, str]]:
    pairs: list[dict[str, str]] = read_run(folder).data.options["hold_out"]
    return pairs


def test_all_pairs_are_made_by_one_run_that_saw_none_of_them(found: Reproduced, folder: Path) -> None:
    assert [path.name for path in (folder / "runs").iterdir()] == ["all_0"]
    pairs = [{"person": person, "action": action} for person, action in HELD_OUT.items()]
    assert held_out(folder / "runs" / "all_0") == held_out(folder / "judge") == pairs
    assert read_run(folder / "runs" / "all_0").recipe == "videos by look"
    # a motion for each identity: three clips of a person, two of those who change clothes
    assert found.figures["transfer_action_accuracy"].clips == 5 * 3 + 4 * 2
    assert found.figures["rebuilt_action_accuracy"].clips == found.figures["real_person_accuracy"].clips == 9
    assert found.figures["transfer_window_person_accuracy"].clips > 23


def test_what_was_found_stands_in_tables(found: Reproduced) -> None:
    tables = {exhibit.name: exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Table)}
    assert list(tables) == ["transfers", "pairs", "runs"]
    rows = dict(zip((str(row[0]) for row in tables["transfers"].rows), tables["transfers"].rows, strict=True))
    assert list(rows) == list(KINDS.values())
    assert rows["transferred"][1] == told(found.figures, "transfer_action_accuracy")
    assert rows["held-out clip itself"][-2:] == (None, None)
    assert [row[0] for row in tables["pairs"].rows][:2] == ["person 0, bend", "person 1, wave one hand"]
    assert [row[1] for row in tables["pairs"].rows] == [2, 2, 3, 2, 3, 3, 2, 3, 3]


def test_each_pair_and_the_failures_are_shown_with_the_real_clip(found: Reproduced) -> None:
    shown = {exhibit.name: exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Pictures)}
    assert shown["typical"].frames.shape == (4, 9, 6, 3, 16, 16)
    assert shown["worst"].frames.shape == (4, vdsm_transfer.WORST, 6, 3, 16, 16)
    assert shown["typical"].row_labels == ("person of", "action of", "transferred", "real, held out")
    # red tells the person and green the action of each made clip
    for column, (person, action) in enumerate(HELD_OUT.items()):
        red, green = (shown["typical"].frames[:, column, 0, k, 0, 0] for k in (0, 1))
        assert red[0] == red[3] == 20 + 25 * int(person) != red[1]
        assert green[1] == green[3] == 30 + 60 * tiny.ACTIONS.index(action) != green[0]


def test_the_page_says_what_the_judge_saw_and_how_good_it_is(found: Reproduced, tmp_path: Path) -> None:
    assert found.judge is not None
    assert found.judge["accuracy"].keys() == {"person", "action"}
    assert found.judge["split"] == "test"
    assert found.judge["other_split"] is False
    assert "which clips show the same person in the same clothes" in found.page.summary
    value = 100 * found.judge["accuracy"]["action"]["value"]
    assert f"knows the action in {value:.2f} %" in found.page.summary
    assert "without any clip of the nine pairs" in found.page.summary
    assert "that is not more than 99.5 %" in found.page.summary  # a judge of two steps
    assert found.judge["data"]["options"]["folder"] == "weizmann"  # and not where that lies on this machine
    write_page(found.page, tmp_path)
    assert read_page(tmp_path).summary == found.page.summary


def test_what_was_measured_is_not_measured_again(found: Reproduced, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labs, "train_once", lambda run, place, plan: place)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(vdsm_transfer, "evidence", fail)
    monkeypatch.setattr("stillmotion.recipes.own_judge.train_judge", fail)
    assert reproduce(folder, PLAN).figures == found.figures


def test_size_paper_trains_a_run_for_each_pair(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name: dict(pairs) for name, pairs in pairs_of_runs("laptop").items()} == {"all": HELD_OUT}
    runs = pairs_of_runs("paper")
    assert list(runs.values()) == [{person: action} for person, action in HELD_OUT.items()]
    two = {name: runs[name] for name in ("person_2", "person_8")}
    monkeypatch.setattr(vdsm_transfer, "pairs_of_runs", lambda size: two)
    found = reproduce(tmp_path, PLAN)
    assert held_out(tmp_path / "runs" / "person_8_0") == [{"person": "8", "action": "bend"}]
    assert len(held_out(tmp_path / "judge")) == 9
    assert found.figures["transfer_person_accuracy"].clips == 6
    tables = {exhibit.name: exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Table)}
    assert [row[0] for row in tables["pairs"].rows] == ["person 2, jumping jack", "person 8, bend"]


def test_pairs_are_told_with_what_the_judge_makes_of_the_real_clip() -> None:
    held, source = Reel("4", "bend", 0, 9), Reel("4", "wave-one-hand", 9, 9)

    def record(**known: Any) -> Record:
        return {"held": ["4", "bend"], "action": True, "person": False, "psnr": 20.0, "distance": 0.5, **known}

    group = Group(Path(), (), [])  # type: ignore[arg-type]
    cases = [Case(Transfer(held, source, source), record(action=hit, psnr=psnr), group) for hit, psnr in ((True, 21.0), (False, 22.0))]
    assert _by_pair(cases, [record()]).rows == (("person 4, bend", 2, 50.0, 0.0, 21.5, 0.5, "action"),)
    assert _by_pair(cases, [record(action=False)]).rows[0][-1] == "neither"


def test_the_middle_of_a_clip_is_shown() -> None:
    assert vdsm_transfer._middle(torch.arange(9), 3).tolist() == [3, 4, 5]
    assert vdsm_transfer._middle(torch.arange(3), 3).tolist() == [0, 1, 2]


def test_it_is_registered() -> None:
    assert resolve(REPRODUCTIONS, "vdsm/weizmann") is reproduce


@pytest.mark.slow
@pytest.mark.data
def test_a_quick_reproduction_goes_through(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "weizmann").symlink_to(real_data / "weizmann")
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path / "root"))
    found = reproduce(tmp_path / "out", Plan(quick=True, show=False, command="test"))
    assert found.figures["transfer_person_accuracy"].clips == 23
    assert all(abs(figure.value) < 1e6 for figure in found.figures.values())
