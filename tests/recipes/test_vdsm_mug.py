"""The reproduction of the VDSM paper's faces, on drawn crops in the layout of MUG, with models and a judge of a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oracles.drawn_faces import write_faces
from oracles.finished_runs import quickly
from oracles.small_vdsm import TINY
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Pictures, Table
from stillmotion.recipes import judged_lab, measures, vdsm, vdsm_study
from stillmotion.recipes.gallery import names_of, showcase
from stillmotion.recipes.judged_lab import JudgedLab, few, identity_of
from stillmotion.recipes.override import override
from stillmotion.recipes.reproduce import REPRODUCTIONS, Plan, Reproduced, about
from stillmotion.recipes.vdsm_lab import FIVE_MEAN, Lab
from stillmotion.training.runs import load_part, read_run
from stillmotion.training.settings import Part, Run

PLAN = Plan(quick=True, seeds=1, show=False, command="test")


def tiny(lab: Lab, seed: int) -> Run:
    """The recipe with networks of next to nothing, two steps of each stage."""
    run = vdsm.of(lab.source, lab.size, seed=seed)
    return override(run, {"model": TINY, "stages": {stage.name: {"steps": 2, "feed": {"batch": 2}} for stage in run.stages}})


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four people, six expressions, two takes of 24 frames each, where data are looked for."""
    root = write_faces(tmp_path_factory.mktemp("faces"), takes=2, side=(24, 24))
    with pytest.MonkeyPatch.context() as patch, quickly():
        patch.setenv("STILLMOTION_DATA", str(root))
        patch.setattr(judged_lab, "QUICK_CHARACTERS", (3, 2, 4))
        patch.setattr(measures, "MOST_PAIRS", 20)
        patch.setattr(Lab, "run", tiny)
        yield root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture(scope="module")
def found(faces: Path, folder: Path) -> Reproduced:
    return vdsm_study.mug(folder, PLAN)


def test_every_table_and_figure_of_the_paper_is_there_and_of_faces(found: Reproduced, folder: Path) -> None:
    tables = {exhibit.name: exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Table)}
    assert list(tables)[:7] == ["table_1", "leaks", "table_2", "two_factors", "swaps", "table_3", "quality"]
    assert [row[0] for row in tables["table_1"].rows] == ["identity", "expression"]
    assert tables["table_1"].rows[1][tables["table_1"].head.index("published: accuracy from d, %")] == "83.33"
    gaps = {
        (name, str(row[0]), head)
        for name in list(tables)[:7]
        for row in tables[name].rows
        for head, cell in zip(tables[name].head, row, strict=True)
        if cell is None and "published" not in head and head != "of infinitely many clips"
    }
    assert not gaps
    drawn = [exhibit.name for exhibit in found.page.exhibits if isinstance(exhibit, Pictures)]
    assert drawn == ["reconstructions", "figure_1", *[f"figure_{number}" for number in (5, 6, 7, 8)]]
    assert read_run(folder / "runs" / "main_0").data.name == "mug"
    assert FIVE_MEAN not in found.figures


def test_the_page_says_who_is_seen_and_that_the_judge_is_unsure(found: Reproduced) -> None:
    assert "clips of 4 people to train on" in found.page.summary
    assert "identity and action that is not more than 99.5 %" in found.page.summary
    assert found.judge is not None
    assert set(found.judge["accuracy"]) == {"identity", "action"}


def test_a_judge_of_faces_may_err_where_one_of_sprites_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    monkeypatch.setattr(judged_lab, "check_sure", lambda *_: refused.append("sure"))
    monkeypatch.setattr(judged_lab, "check_apart", lambda *_: None)
    monkeypatch.setattr(judged_lab, "load_judge", lambda folder: type("Loaded", (), {"facts": {}})())
    monkeypatch.setattr(JudgedLab, "_told", lambda self, loaded: {})
    monkeypatch.setattr(JudgedLab, "judge_folder", tmp_path)
    for strict in (False, True):
        assert JudgedLab(tmp_path, Plan(), source=Part(name="mug"), strict=strict).judge.facts == {}
    assert refused == ["sure"]


def test_few_people_are_chosen_by_their_identity(faces: Path) -> None:
    splits = load_part(Part(name="mug"), show=False)
    assert identity_of(splits.train) == "identity"
    assert len(few(splits, (2, None, None)).train.labels["identity"].unique()) == 2  # type: ignore[no-untyped-call]


def test_who_is_not_seen_at_an_action_is_shown_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    who, what = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 2, 0, 1, 2])
    clips = ClipSet.whole(
        torch.zeros(5, 2, 3, 8, 8, dtype=torch.uint8), {"identity": who, "action": what},
        {"identity": ("a", "b", "c"), "action": ("anger", "fear", "joy")},
    )  # fmt: skip
    shown = showcase(clips, 3)  # wanted are 0, then 4 % 3 = 1, then 8 % 3 = 2
    assert shown.labels["identity"].tolist() == [0, 1, 2]
    assert names_of(shown) == ("anger", "fear", "joy")
    lacking = showcase(clips.subset(torch.tensor([1, 2, 3, 4])), 3)
    assert names_of(lacking) == ("joy", "fear", "joy")


def test_it_is_registered() -> None:
    assert REPRODUCTIONS["vdsm/mug"] == "stillmotion.recipes.vdsm_study:mug"
    assert about()["vdsm/mug"].startswith("VDSM on the faces of its paper")
