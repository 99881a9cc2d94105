"""The reproduction of the report on DSA, with models that were not trained, on a few characters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oracles import few_sprites
from oracles.finished_runs import quickly
from stillmotion.core.abilities import Remembers, require
from stillmotion.core.registry import DATA
from stillmotion.metrics.exhibits import Curves, Pictures, Table, read_page, write_page
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.protocols import protocol_of
from stillmotion.metrics.results import RESULTS
from stillmotion.models import files
from stillmotion.models.dsa import DSA, DSAConfig
from stillmotion.recipes import dsa, dsa_lab, dsa_pictures, dsa_study, judged_lab, measures
from stillmotion.recipes import lab as labs
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.dsa_lab import Lab, as_static, divergences
from stillmotion.recipes.dsa_pictures import derailed, mixing
from stillmotion.recipes.dsa_study import of_variant, order
from stillmotion.recipes.gallery import showcase
from stillmotion.recipes.reproduce import REPRODUCTIONS, Plan, Reproduced
from stillmotion.tasks.codes import encode
from stillmotion.training.runs import RUN_FILE
from stillmotion.training.settings import Run

PLAN = Plan(quick=True, seeds=1, show=False, command="test")
TINY = {"backbone": "light", "width": 0.05, "rnn": 4, "prior_cells": 1, "static": 32, "path": 4, "pixel_scale": 0.5}
SHAPES = ("factorised", "full", "static256")


def untrained(run: Run, folder: Path, plan: Plan) -> Path:
    """The folder of a run that was not trained at all, but remembers clips."""
    model = files.build(run.model.name, run.model.options, run.seed).eval()
    require(model, Remembers).remember(encode(model, few_sprites.load().train.spread(6)))
    files.save(model, folder / files.INNER)
    (folder / RUN_FILE).write_text(json.dumps({"command": "test", "run": run.model_dump(mode="json")}), encoding="utf-8")
    (folder / RESULTS).write_text(json.dumps({"figures": {}, "minutes": 0.5}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def few(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Few characters, small networks, no training but that of a judge for two steps."""
    with pytest.MonkeyPatch.context() as patch, quickly():
        patch.setenv("STILLMOTION_DATA", str(real_data))
        patch.setitem(DATA, "sprites", few_sprites.PLACE)
        patch.setitem(dsa.SPRITES, "quick", replace(dsa.SPRITES["quick"], model=TINY, steps=10))
        patch.setattr(judged_lab, "QUICK_CHARACTERS", (6, 2, 2))
        patch.setattr(measures, "MOST_PAIRS", 50)
        patch.setattr(dsa_pictures, "ROLLED", 4)
        patch.setattr(labs, "train_once", untrained)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture(scope="module")
def found(few: None, folder: Path) -> Reproduced:
    return dsa_study.reproduce(folder, PLAN)


def small(**changes: object) -> DSA:
    torch.manual_seed(0)
    return DSA(DSAConfig.model_validate({**TINY, **changes})).eval()


def table(found: Reproduced, name: str) -> Table:
    exhibit = next(exhibit for exhibit in found.page.exhibits if exhibit.name == name)
    assert isinstance(exhibit, Table)
    return exhibit


@pytest.mark.data
def test_every_table_and_figure_of_the_report_is_there(found: Reproduced, folder: Path) -> None:
    names = [exhibit.name for exhibit in found.page.exhibits]
    assert names[:6] == ["table_1", "swaps", "two_factors", "leaks", "table_2", "models"]
    drawn = {exhibit.name: exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Pictures)}
    assert list(drawn) == [f"figure_{number}" for number in range(6, 15)]
    assert drawn["figure_6"].frames.shape == (6, 6, 8, 3, 64, 64)
    assert drawn["figure_12"].row_labels == ("test clip", "beta 1", "beta 6", "beta 150")
    assert drawn["figure_9"].row_labels == ("prior",) * 2 + ("aggregate posterior",) * 2
    assert len(drawn["figure_11"].row_labels) == 5
    assert isinstance(found.page.exhibits[names.index("derailed")], Curves)
    write_page(found.page, folder)
    assert [exhibit.name for exhibit in read_page(folder).exhibits] == names


@pytest.mark.data
def test_published_numbers_stand_beside_ours_where_they_are_of_the_same_protocol(found: Reproduced) -> None:
    assert found.paper["disagreement_body"] == 0.248
    assert found.paper["disagreement_beta6_action_direction"] == 0.736
    assert found.paper["two_factor_accuracy_action_direction"] == 0.9073
    assert not any("kl" in name for name in found.paper)
    first = table(found, "table_1")
    skin = dict(zip(first.head, first.rows[0], strict=True))
    assert (skin[""], skin["published, report: disagreement, %"], skin["published, report: KL-random"]) == ("skin", "24.80", "25.148")
    assert (skin["published, original paper: disagreement, %"], skin["published, original paper: KL"]) == ("3.98", "0.785")
    assert [row[0] for row in first.rows[4:7]] == ["action", "direction", "action and direction"]
    second = table(found, "table_2")
    hair = dict(zip(second.head, second.rows[3], strict=True))
    assert (hair["published, report, beta 6: disagreement, %"], hair["published, report, beta 6: KL"]) == ("2.20", "0.325")
    assert all(hair[f"{label}: disagreement, %"] for label in ("beta 1", "beta 6", "beta 150"))


@pytest.mark.data
def test_the_direction_is_counted_both_ways(found: Reproduced) -> None:
    for name in ("disagreement_direction", "swap_direction_accuracy", "two_factor_accuracy_direction"):
        assert {name, as_static(name)} <= found.figures.keys()
        assert protocol_of(name) == protocol_of(as_static(name))
    # f of one clip and path of another: what is right one way is right the other way for pairs in one direction alone
    assert found.figures["swap_direction_accuracy"].clips == found.figures["swap_direction_as_static_accuracy"].clips
    assert "leak_static_to_action_sample_mlp" in found.figures
    assert "leak_dynamic_to_body_mean" in found.figures
    assert all(cell is not None for row in table(found, "leaks").rows for cell in row)


@pytest.mark.data
def test_every_run_is_told_of_and_measured_on_test_clips(found: Reproduced, folder: Path) -> None:
    assert [row[0] for row in table(found, "runs").rows] == ["main_0", *dsa_study.BETAS, "full", "static256"]  # factorised is beta 1
    assert found.figures["disagreement_body"].clips == found.figures["kl_static"].clips == 2 * 9
    assert found.judge is not None
    assert Path(found.judge["folder"]) == folder / "judge"
    assert set(found.judge["accuracy"]) == {"body", "bottomwear", "topwear", "hair", "action_direction", "action", "direction"}
    for name in ("kl_full_static", "kl_beta150_path", "swap_static256_both_accuracy"):
        assert name in found.figures, name


@pytest.mark.data
def test_what_was_measured_is_not_measured_again(found: Reproduced, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labs, "train_once", lambda run, place, plan: place)

    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(dsa_lab, "divergences", fail)
    assert dsa_study.reproduce(folder, PLAN).figures == found.figures


@pytest.mark.data
def test_a_run_of_the_same_settings_is_not_trained_twice(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dsa_study.SHARE, "quick", 1.0)
    lab = Lab(tmp_path, PLAN)
    main = lab.train("main_0", dsa.sprites("quick"))
    assert dsa_study._train(lab, "factorised", dsa_study.SHAPES["factorised"]) == main
    assert dsa_study._train(lab, "full", dsa_study.SHAPES["full"]) == tmp_path / "runs" / "full"


@pytest.mark.parametrize(("quick", "whole", "part"), [(False, "8,000", "1,475"), (True, "60", "15")])
def test_steps_that_are_told_are_of_all_stages_that_see_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool, whole: str, part: str
) -> None:
    asked = replace(dsa.SPRITES["quick"], model=dsa.SPRITES["laptop"].model, steps=60)  # whatever `few` made of it
    monkeypatch.setitem(dsa.SPRITES, "quick", asked)
    told = dsa_study._length(Lab(tmp_path, Plan(quick=quick)))
    assert f"{part} steps each (the main model: {whole}), Gaussian pixels of deviation 0.5 (the main model: 0.2)" in told


def test_what_is_reproduced_is_registered() -> None:
    assert REPRODUCTIONS["dsa"] == "stillmotion.recipes.dsa_study:reproduce"
    assert (dsa_study.reproduce.__doc__ or "").startswith("The report on DSA: tables 1 and 2")


def test_names_of_variants_keep_their_protocol() -> None:
    names = {
        "disagreement_body": "disagreement_beta6_body", "disagreement_kl_hair": "disagreement_kl_beta6_hair",
        "swap_both_accuracy": "swap_beta6_both_accuracy", "two_factor_accuracy_action": "two_factor_accuracy_beta6_action",
    }  # fmt: skip
    for name, named in names.items():
        assert of_variant("beta6", name) == named
        assert protocol_of(named) == protocol_of(name)
    assert of_variant("beta6", "disagreement_kl_random_body") is None
    assert of_variant("beta6", "two_factor_entropy") is None


def test_the_order_of_beta_is_counted_factor_by_factor() -> None:
    def told(values: list[float]) -> dict[str, Figure]:
        return {f"disagreement_{factor}": Figure(v, v, v, 9) for factor, v in zip(dsa_study.ROWS.values(), values, strict=True)}

    compared = {"beta1": told([0.1] * 7), "beta6": told([0.2] * 5 + [0.1, 0.05]), "beta150": told([0.9] * 7)}
    found = order(compared)
    assert found["order_beta1_below_beta6"].value == pytest.approx(5 / 7)
    assert found["order_beta6_below_beta150"].value == 1
    found = order({"beta1": told([0.1] * 4 + [0.0] * 3), "beta6": told([0.2] * 3 + [0.0] * 4), "beta150": told([0.2] * 3 + [0.0] * 4)})
    assert found["order_beta1_below_beta6"].value == 3 / 4, "rows in which both are always right are no part of the order"
    assert found["order_beta6_below_beta150"].value == 0
    perfect = {key: told([0.0] * 7) for key in compared}
    assert order(perfect) == {}


@pytest.mark.data
def test_divergences_are_those_of_the_loss(few: None) -> None:
    clips, model = few_sprites.load().test, small()
    with torch.no_grad():
        model.static_head.weight.zero_()
        model.static_head.bias.zero_()
        model.static_head.bias[:32] = 0.5  # of the mean; half its square is what each of 32 numbers costs beyond the scale
        scale = model._static(torch.zeros(1, 8, model.encoder.features), torch.ones(1, 8, dtype=torch.bool)).scale[0, 0].double()
    each = 0.5 * (scale**2 + 0.25 - 1) - scale.log()
    found = divergences(model, clips)
    assert found["kl_static"].value == pytest.approx(32 * float(each), rel=1e-4)
    assert found["kl_static"].low == pytest.approx(found["kl_static"].high, rel=1e-4)
    assert found["kl_path"].value > 0
    assert found["kl_path"].clips == len(clips)


@pytest.mark.data
def test_divergences_are_of_validation_clips_where_no_test_clip_is_measured(few: None, tmp_path: Path) -> None:
    splits, model = judged_lab.few(few_sprites.load(), (None, None, 0)), small()
    assert len(splits.test) == 0
    found = Lab(tmp_path, PLAN).taken(Bench(model, splits, None, splits.train.moving), ())
    assert found == divergences(model, splits.validation)


@pytest.mark.data
def test_mixed_clips_stand_where_their_codes_come_from(few: None) -> None:
    clips, model = few_sprites.load().test, small()
    shown = showcase(clips, 2).clips().frames
    frames = mixing("figure_6", "Mixed", model, clips, 2).frames
    assert np.abs(frames[0, 1:].astype(int) - (255 * shown).round().numpy()).max() <= 1
    assert np.array_equal(frames[0, 1:], frames[1:, 0])
    assert not frames[0, 0].any()
    with torch.no_grad():
        model.decoder.net[0].weight[:, TINY["path"] :] = 0  # the decoder no longer reads f: all rows show the same
    deaf = mixing("figure_6", "Mixed", model, clips, 2).frames
    assert np.array_equal(deaf[1, 1:], deaf[2, 1:])
    assert not np.array_equal(frames[1, 1:], frames[2, 1:])


@pytest.mark.data
def test_a_path_derails_from_the_bad_draw_on(few: None) -> None:
    pictures, curve = derailed(small(), few_sprites.load().test)
    plain, twice, four = pictures.frames[1:].astype(int)
    assert pictures.strip
    assert np.array_equal(plain[:, :3], four[:, :3])
    assert np.abs(four - plain)[:, 3].sum() > np.abs(twice - plain)[:, 3].sum() > 0
    for line in curve.lines:
        assert line.y[:3] == (0.0, 0.0, 0.0)
        assert line.y[3] > 0
    assert curve.marks[0].x == 4.0


@pytest.mark.slow
@pytest.mark.data
def test_a_quick_reproduction_goes_through(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(real_data))
    found = dsa_study.reproduce(tmp_path, PLAN)
    assert len(found.page.exhibits) == 17
    assert all(abs(figure.value) < 1e6 for figure in found.figures.values())
