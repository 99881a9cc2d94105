"""The reproduction of the VDSM paper's Sprites, with models and a judge of a few steps, on a few characters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from oracles import few_sprites
from oracles.finished_runs import quickly
from oracles.small_vdsm import TINY
from stillmotion.core.registry import DATA
from stillmotion.metrics.exhibits import Curves, Pictures, Table, read_page, write_page
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.metrics.judge import Verdicts
from stillmotion.metrics.published import data_of
from stillmotion.recipes import judged_lab, measures, vdsm, vdsm_lab, vdsm_study
from stillmotion.recipes import lab as labs
from stillmotion.recipes.override import override
from stillmotion.recipes.reproduce import REPRODUCTIONS, Plan, Reproduced, about
from stillmotion.recipes.vdsm_lab import FIVE, POOLED, Lab, mean_of_five
from stillmotion.training.runs import read_run
from stillmotion.training.settings import Run

PLAN = Plan(quick=True, seeds=1, show=False, command="test")


RECIPE = Lab.run


def tiny(lab: Lab, seed: int) -> Run:
    """The recipe with networks of next to nothing, two steps of each stage."""
    run = vdsm.sprites(lab.size, data=dict(lab.source.options), seed=seed)
    stages = {stage.name: {"steps": 2, "feed": {"batch": 2}} for stage in run.stages}
    return override(run, {"model": TINY, "stages": stages})


@pytest.fixture(scope="module")
def few(real_data: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, quickly():
        patch.setenv("STILLMOTION_DATA", str(real_data))
        patch.setitem(DATA, "sprites", few_sprites.PLACE)
        patch.setattr(judged_lab, "QUICK_CHARACTERS", (6, 2, 2))
        patch.setattr(measures, "MOST_PAIRS", 50)
        patch.setattr(Lab, "run", tiny)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture(scope="module")
def found(few: None, folder: Path) -> Reproduced:
    return vdsm_study.sprites(folder, PLAN)


def table(found: Reproduced, name: str) -> Table:
    exhibit = next(exhibit for exhibit in found.page.exhibits if exhibit.name == name)
    assert isinstance(exhibit, Table)
    return exhibit


@pytest.mark.data
def test_every_table_and_figure_of_the_paper_is_there(found: Reproduced, folder: Path) -> None:
    names = [exhibit.name for exhibit in found.page.exhibits]
    assert names[:7] == ["table_1", "leaks", "table_2", "two_factors", "swaps", "table_3", "quality"]
    drawn = {exhibit.name: exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Pictures)}
    assert list(drawn) == ["reconstructions", "figure_1", *[f"figure_{number}" for number in (5, 6, 7, 8)]]
    assert drawn["figure_6"].row_labels == ("prior",) * 2 + ("aggregate posterior",) * 2
    curves = [exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Curves)]
    assert [curve.y_label for curve in curves] == ["temperature", "lambda_s", "lambda_d", "lambda_z"]
    write_page(found.page, folder)
    assert [exhibit.name for exhibit in read_page(folder).exhibits] == names


@pytest.mark.data
def test_all_that_the_tables_ask_for_is_measured_but_what_needs_more_clips(found: Reproduced) -> None:
    gaps = {
        (name, str(row[0]), head)
        for name in ("table_1", "leaks", "table_2", "two_factors", "swaps", "table_3", "quality")
        for row in table(found, name).rows
        for head, cell in zip(table(found, name).head, row, strict=True)
        if cell is None and "published" not in head and head != "of infinitely many clips"
    }
    assert not gaps


@pytest.mark.data
def test_runs_are_of_the_papers_characters_and_measured_on_test_clips(found: Reproduced, folder: Path) -> None:
    assert read_run(folder / "runs" / "main_0").data.options == {"version": "vdsm"}
    assert [row[0] for row in table(found, "runs").rows] == ["main_0"]
    assert found.figures["consistency_body"].clips == found.figures["embedding_static_body"].clips == 2 * 9
    assert found.judge is not None
    assert found.judge["data"] == {"name": "sprites", "options": {"version": "vdsm"}}
    assert "9 characters to train on, 2 characters set aside for validation, and 5 characters that" in found.page.summary


@pytest.mark.data
def test_every_seed_is_trained_and_their_figures_are_averaged(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(lab: Lab, name: str, run: Run) -> Path:
        assert name == f"main_{run.seed}"
        return lab.folder / name

    def measured(lab: Lab, run: Path, names: tuple[str, ...]) -> Figures:
        value = {"main_0": 0.8, "main_1": 0.9, "main_2": 1.0}[run.name]
        return {"consistency_body": Figure(value, value, value, 9)}

    monkeypatch.setattr(Lab, "train", trained)
    monkeypatch.setattr(Lab, "measure", measured)
    monkeypatch.setattr(Lab, "told_of_judge", {})
    monkeypatch.setattr(vdsm_study, "_tables", lambda lab, figures: [])
    monkeypatch.setattr(vdsm_study, "_figures", lambda lab, model: [])
    monkeypatch.setattr(vdsm_study, "load", lambda run: run)
    found = vdsm_study.sprites(tmp_path, Plan(quick=True, seeds=3, show=False))
    assert found.figures["consistency_body"].value == pytest.approx(0.9)
    assert found.figures["consistency_body"].low < 0.7  # Student's t of two degrees of freedom is 4.3
    assert "Tables are of 3 seeds" in found.page.summary


@pytest.mark.data
def test_published_values_that_stand_beside_ours_are_of_this_table_and_of_no_protocol_that_we_do_not_share(found: Reproduced) -> None:
    head, rows = table(found, "table_1").head, {row[0]: row for row in table(found, "table_1").rows}
    assert dict(zip(head, rows["hair"], strict=True))["published: consistency, %"] == "100.00"
    assert found.paper == {}  # the pooled judge is not asked at this size, and what was published has no other protocol of ours


@pytest.mark.data
def test_the_mean_of_the_five_is_theirs(found: Reproduced) -> None:
    five = [found.figures[f"consistency_{factor}"].value for factor in FIVE]
    assert found.figures["consistency_five_mean"].value == pytest.approx(sum(five) / 5, abs=1e-6)
    assert found.figures["consistency_five_mean"].clips == 18


@pytest.mark.data
def test_the_entropy_has_the_ceiling_of_the_judges_factors(found: Reproduced) -> None:
    # two variants of each of four parts, nine classes, three actions, three directions
    ceiling = (4 * math.log(2) + math.log(9) + 2 * math.log(3)) / 7
    assert f"at most {ceiling:.3f}" in table(found, "table_2").note
    assert found.figures["generation_entropy"].high <= ceiling + 1e-6


@pytest.mark.data
def test_nothing_is_trained_or_measured_twice(found: Reproduced, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labs, "train_once", lambda run, place, plan: place)

    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(vdsm_lab, "mean_of_five", fail)
    assert vdsm_study.sprites(folder, PLAN).figures == found.figures


def test_each_reproduction_has_its_version_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Lab] = []
    monkeypatch.setattr(vdsm_study, "_study", lambda lab, title: asked.append(lab))
    vdsm_study.sprites(tmp_path, PLAN)
    vdsm_study.standard(tmp_path, PLAN)
    assert [data_of(lab.source.name, lab.source.options).version for lab in asked] == ["vdsm", "standard"]


def test_the_runs_are_those_of_the_recipe(tmp_path: Path) -> None:
    quick, paper = Lab(tmp_path, PLAN, source=vdsm_study.PAPERS_OWN), Lab(tmp_path, Plan(size="paper"))
    assert RECIPE(quick, 3) == vdsm.sprites("quick", data={"version": "vdsm"}, seed=3)
    assert RECIPE(paper, 0) == vdsm.sprites("paper")
    assert [stage.steps for stage in RECIPE(paper, 0).stages] == [15_000, 5000, 10_000]


def test_a_pooled_judge_is_asked_at_the_size_of_the_paper_alone(tmp_path: Path) -> None:
    asked = {plan.size: Lab(tmp_path, plan).asked for plan in (Plan(), Plan(size="paper"))}
    assert POOLED not in asked["laptop"]
    assert set(asked["paper"]) - set(asked["laptop"]) == {POOLED}
    lab = Lab(tmp_path, Plan(size="paper"))
    assert set(lab.asked) <= lab.measures.keys()
    assert lab.measures[POOLED].protocol == "vdsm_released"


def test_what_is_reproduced_is_registered() -> None:
    assert REPRODUCTIONS["vdsm"] == REPRODUCTIONS["vdsm/sprites"] == "stillmotion.recipes.vdsm_study:sprites"
    assert REPRODUCTIONS["vdsm/standard"] == "stillmotion.recipes.vdsm_study:standard"
    assert about()["vdsm/sprites"].startswith("VDSM on the Sprites of its paper: tables 1, 2 and 3")


def test_other_factors_do_not_count_among_the_five() -> None:
    right, wrong = torch.eye(2)[[0, 0]], torch.eye(2)[[1, 1]]
    real = Verdicts(dict.fromkeys((*FIVE, "direction"), right), torch.zeros(2, 1))
    made = Verdicts({**real.logits, "direction": wrong, "hair": torch.eye(2)[[0, 1]]}, torch.zeros(2, 1))

    bench: Any = SimpleNamespace(real=real, rebuilt=SimpleNamespace(verdicts=made), clusters=None, generator=lambda name: torch.Generator())
    assert mean_of_five(bench)["consistency_five_mean"].value == pytest.approx(0.9)


@pytest.mark.slow
@pytest.mark.data
def test_a_quick_reproduction_of_vdsm_goes_through(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(real_data))
    found = vdsm_study.sprites(tmp_path, Plan(quick=True, show=False))
    assert len(found.page.exhibits) == 18
    assert all(abs(figure.value) < 1e6 for figure in found.figures.values())
