"""What a source, a model and a size mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillmotion.core.errors import UserError
from stillmotion.recipes.sources import MADE, RECIPES, run_for


@pytest.mark.parametrize(
    ("source", "model"), [("pendula", "vdsm"), ("sprites", "vdsm"), ("mug", "vdsm"), ("box", "kvae"), ("torque", "kvae")]
)
def test_every_set_has_its_usual_model(source: str, model: str) -> None:
    assert run_for(source).model.name == model
    assert run_for(source, model=model) == run_for(source)


def test_a_folder_is_a_folder_of_videos_for_every_model(tmp_path: Path) -> None:
    for model in RECIPES:
        run = run_for(str(tmp_path), "quick", model=model, reading={"size": 32, "steps": 8}, seed=3)
        assert (run.data.name, run.model.name, run.seed) == ("videos", model, 3)
        assert run.data.options == {"folder": str(tmp_path), "size": 32, "steps": 8, "seed": 3}


@pytest.mark.parametrize("model", RECIPES)
def test_mug_trains_every_model_with_the_settings_of_videos(model: str, tmp_path: Path) -> None:
    faces, videos = (run_for(source, "quick", model=model, root=tmp_path) for source in ("mug", str(tmp_path)))
    assert (faces.recipe, faces.data.name, faces.data.options) == (f"{model}/mug", "mug", {"root": str(tmp_path)})
    assert (faces.model, faces.stages) == (videos.model, videos.stages)


def test_sets_that_are_computed_need_no_folder(tmp_path: Path) -> None:
    assert all(run_for(name, root=tmp_path).data.options.get("root") is None for name in MADE)
    assert run_for("sprites", root=tmp_path).data.options == {"root": str(tmp_path)}


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="a folder of videos, or one of pendula, digits, sprites, box, .*, got 'no/such'. Check the path"):
        run_for("no/such")
    with pytest.raises(UserError, match="a size of quick, laptop, paper, got 'huge'"):
        run_for("pendula", "huge")
    with pytest.raises(UserError, match="a model of vdsm, .*kvae.*, got 'vdms'"):
        run_for("pendula", model="vdms")
