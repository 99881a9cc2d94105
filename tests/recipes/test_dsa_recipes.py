from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from oracles.finished_runs import quickly
from stillmotion.core.errors import UserError
from stillmotion.core.registry import DATA, resolve
from stillmotion.models.dsa import DSA, DSAConfig
from stillmotion.recipes.dsa import LESSONS, REPORT, Size, of, sprites
from stillmotion.recipes.execute import start
from stillmotion.recipes.override import override
from stillmotion.recipes.sources import run_for
from stillmotion.training.runs import load_data
from stillmotion.training.settings import Part, Run

TINY: dict[str, Any] = {"width": 0.05, "rnn": 4, "static": 3, "path": 2}


def on_meta(run: Run) -> DSA:
    """The model of a run, built without its numbers."""
    with torch.device("meta"):
        return DSA(DSAConfig.model_validate(run.model.options))


@pytest.mark.parametrize("size", get_args(Size))
@pytest.mark.parametrize("name", LESSONS)
def test_every_recipe_in_every_size_is_a_run_whose_model_can_be_built(name: str, size: Size) -> None:
    run = of(Part(name=name), size, seed=4)
    model = on_meta(run)
    assert (run.recipe, run.seed, model.frame_shape) == (f"dsa/{name}", 4, (3, 64, 64))
    assert callable(resolve(DATA, run.data.name))
    for stage in run.stages:
        assert set(stage.trains) <= model.parameter_groups().keys()
        assert stage.objective in model.objectives()
        assert (stage.feed.group_by, stage.feed.frames) == (None, None)  # dynamics need whole clips, in order
    assert (run.stages[-1].name == "dynamics") == (model.config.starts > 1)
    last = {name: weight(1.0) for stage in run.stages if stage.name == "all" for name, weight in stage.schedules.items()}
    blind = {"scrambled": 1.0, "cycle": 1.0} if model.config.recolour else {}
    assert last == {"static_kl": 1.0, "path_kl": 1.0, **blind}  # it ends with the bound itself
    written = run.model_dump(mode="json")
    assert Run.model_validate(written).model_dump(mode="json") == written


def test_the_paper_size_is_the_published_one() -> None:
    run = sprites("paper")
    (stage,) = run.stages
    config = on_meta(run).config
    assert (config.backbone, config.width, config.static, config.path, config.rnn, config.prior_cells) == ("paper", 1.0, 256, 32, 512, 1)
    assert (config.likelihood, config.pixel_scale, config.learned_scale) == ("gaussian", 1.0, False)
    assert (stage.steps * 25 / 9000, stage.feed.batch, stage.learning_rate) == (200, 25, 2e-4)
    assert (stage.decay, stage.clip_norm) == (None, None)
    assert [weight(0.0) for weight in stage.schedules.values()] == [1.0, 1.0]


def test_the_networks_of_the_report_can_be_asked_for() -> None:
    config = on_meta(sprites("laptop", **{**REPORT, "static": 32, "width": 1.0})).config
    assert (config.backbone, config.rnn, config.prior_cells, config.static) == ("report", 512, 1, 32)


def test_beta_multiplies_both_divergences_and_a_share_shortens_the_run() -> None:
    (*plain, alone), (*weighted, other_alone) = sprites("laptop").stages, sprites("laptop", beta=6, share=0.2).stages
    assert [stage.name for stage in plain] == ["path", "all"]
    assert alone == other_alone
    assert (plain[0].steps, plain[1].steps) == (weighted[0].steps, 5 * weighted[1].steps)
    for one, other in zip(plain, weighted, strict=True):
        assert one.schedules.keys() == other.schedules.keys()
        for name in one.schedules:
            for at in (0.0, 0.3, 1.0):
                factor = 6 if name in ("static_kl", "path_kl") else 1
                assert other.schedules[name](at) == pytest.approx(factor * one.schedules[name](at))
    assert plain[1].schedules["static_kl"](0.0) > 1 > plain[1].schedules["path_kl"](0.0) == plain[0].schedules["path_kl"](0.5)
    assert [stage.steps for stage in sprites("quick", share=1e-9).stages] == [4, 1, 60]


def test_states_that_are_read_at_every_step_are_read_in_small_batches() -> None:
    """With the full posterior; else the stage would take as long as all others."""
    batches = {posterior: sprites("laptop", posterior=posterior).stages[-1].feed.batch for posterior in ("factorised", "full")}
    assert batches == {"factorised": 128, "full": 16}


def test_frames_of_the_data_are_those_of_the_model(tmp_path: Path) -> None:
    run = run_for(str(tmp_path), "quick", model="dsa", reading={"size": 32, "grey": True}, group_by="person")
    assert on_meta(run).frame_shape == (1, 32, 32)
    assert run.data.options["grey"] is True
    assert run_for("pendula", model="dsa").recipe == "dsa/pendula"


def test_what_there_are_no_settings_for_is_refused() -> None:
    with pytest.raises(UserError, match="videos, or one of sprites, pendula, digits, mug for a DSA, got 'box'"):
        of(Part(name="box"), "quick")


def test_a_tiny_run_goes_through_to_its_model_and_figures(tmp_path: Path) -> None:
    run = of(Part(name="pendula", options={"clips": 28, "validation": 14, "test": 14, "steps": 4, "size": 16}), "quick")
    with quickly():
        folder = start(override(run, {"model": TINY, "stages": {"all": {"steps": 2}}}), tmp_path / "run", command="test", show=False)
    assert (folder / "model" / "model.safetensors").is_file()
    assert (folder / "results.json").is_file()
    assert load_data(run, show=False).train.frame_shape == (3, 16, 16)
