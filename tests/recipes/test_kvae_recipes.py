from __future__ import annotations

from pathlib import Path

import pytest

from stillmotion.core.errors import UserError
from stillmotion.models.files import build, load
from stillmotion.recipes.execute import start
from stillmotion.recipes.kvae import WORLDS, world
from stillmotion.recipes.override import override
from stillmotion.training.runs import load_data


@pytest.mark.parametrize("size", ["quick", "laptop", "paper"])
@pytest.mark.parametrize("name", WORLDS)
def test_every_run_can_be_built(name: str, size: str) -> None:
    run = world(name, size)
    model = build("kvae", run.model.options, 0)
    for stage in run.stages:
        assert set(stage.trains) <= set(model.parameter_groups())
        assert set(stage.schedules) <= set(model.schedules)
        assert stage.objective in model.objectives()
    whole = [stage for stage in run.stages if stage.objective == "loss"]
    assert whole[-1].trains == tuple(model.parameter_groups())


def test_the_published_run_has_80_epochs_of_5000_clips_and_a_rate_of_0_007_that_falls_by_0_85_every_20() -> None:
    run = world("box", "paper")
    assert [stage.steps for stage in run.stages] == [2 * 156, 78 * 156]
    assert run.data.options == {}
    assert run.model.options == {"width": 16}
    last = run.stages[-1]
    assert last.decay is not None
    assert last.decay(1.0) == pytest.approx(0.85**3.9)
    assert last.learning_rate == 0.007


@pytest.mark.parametrize("name", ["box", "torque"])
def test_a_tiny_run_goes_through_to_its_model_and_figures(tmp_path: Path, name: str) -> None:
    run = world(name, "quick")
    stages = {stage.name: {"steps": 1} for stage in run.stages}
    changes = {"data": {"clips": 32, "validation": 8, "test": 8}, "model": {"width": 4}, "stages": stages}
    folder = start(override(run, changes), tmp_path / "run", command="test", show=False)
    assert (folder / "model" / "model.safetensors").is_file()
    assert (folder / "results.json").is_file()
    frames = load(folder).facts["frames"]
    assert (frames["size"], frames["grey"]) == ({"box": 32, "torque": 16}[name], True), "clips from files are read as the model takes them"
    assert load_data(run).train.frame_shape == build("kvae", run.model.options, 0).frame_shape


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="one of box, gravity"):
        world("moon")
    with pytest.raises(UserError, match="a size of quick"):
        world("box", "huge")
