from __future__ import annotations

import json

import pytest
import torch
from benchmarks.profile import GROUPS

from benchmarks import vdsm_recipe
from stillmotion.recipes.override import override
from stillmotion.recipes.vdsm import sprites
from stillmotion.training.settings import Run


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The recipe with small networks and few clips, in processes whose memory is left alone."""
    monkeypatch.setattr(vdsm_recipe, "keep_freed_memory", lambda: None)
    model = {
        "size": 16, "static": 3, "pose": 4, "dynamic": 3, "encoder_channels": (4, 4, 4), "decoder_channels": (4, 4), "rnn_size": 8,
    }  # fmt: skip
    run = sprites("laptop", data={"version": "vdsm"})
    return override(run, {"model": model, "stages": {stage.name: {"feed": {"batch": 2}} for stage in run.stages}})


def test_every_stage_is_timed_and_its_time_is_shared_out(small: Run, capsys: pytest.CaptureFixture[str]) -> None:
    vdsm_recipe.main(["--repeats", "1"], small)
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])["stages"]
    assert list(found) == ["poses", "paths", "sequence"]
    for stage in small.stages:
        figures = found[stage.name]
        assert figures["minutes"] == pytest.approx(stage.steps * figures["seconds"] / 60, abs=0.1)
        assert sum(figures[name] for name in GROUPS) == pytest.approx(100, abs=0.5)
    assert found["paths"]["decoder"] == found["paths"]["encoder"] == found["poses"]["recurrent"] == 0
    assert min(found["poses"]["decoder"], found["poses"]["optimiser"], found["paths"]["recurrent"]) > 0


def test_a_step_is_that_of_the_recipe(small: Run) -> None:
    poses, paths, sequence = small.stages
    model, step = vdsm_recipe.stepper(small, poses)
    assert vdsm_recipe.batch_of(poses, model).frames.shape == (2, 2 * 4, 3, 16, 16)
    assert vdsm_recipe.batch_of(paths, model).frames.shape == (2, 8, 2 * 4)
    assert vdsm_recipe.batch_of(sequence, model).frames.shape == (2, 2 * 8, 3, 16, 16)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    groups = model.parameter_groups()
    chosen = {id(value) for name in poses.trains for value in groups[name]}
    assert moved
    assert moved <= {name for name, value in model.named_parameters() if id(value) in chosen}
