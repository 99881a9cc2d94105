"""What a user changes in a recipe, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oracles.tiny_runs import tiny_run
from stillmotion.core.errors import UserError
from stillmotion.recipes import vdsm
from stillmotion.recipes.override import override, read_yaml
from stillmotion.training.settings import Run


def test_no_change_leaves_a_run_as_it_is() -> None:
    for run in (tiny_run(), vdsm.pendula("laptop"), vdsm.sprites("paper")):
        assert override(run, {}).model_dump(mode="json") == run.model_dump(mode="json")


def test_changes_reach_settings_options_and_stages_and_nothing_else() -> None:
    run = tiny_run()
    curve = {"kind": "half_cosine", "points": [[0, 2], [1, 1]]}
    new = override(run, {
        "seed": 5, "model": {"pose": 7}, "data": {"clips": 9},
        "stages": {"poses": {"steps": 99, "clip_norm": None, "feed": {"frames": 2}, "schedules": {"static_kl": curve}}},
    })
    before, after = run.model_dump(mode="json"), new.model_dump(mode="json")
    poses = before["stages"][0]
    poses.update(steps=99, clip_norm=None)
    poses["feed"]["frames"] = 2
    poses["schedules"]["static_kl"] = after["stages"][0]["schedules"]["static_kl"]
    expected = before | {"seed": 5, "model": {"name": "vdsm", "options": {**run.model.options, "pose": 7}}}
    expected["data"] = {"name": "none", "options": {"clips": 9}}
    assert after == Run.model_validate(expected).model_dump(mode="json")
    assert new.stages[0].schedules["static_kl"](0.5) == pytest.approx(1.5)
    assert new.stages[0].schedules["path_kl"] == run.stages[0].schedules["path_kl"]
    assert run.model_dump(mode="json") == tiny_run().model_dump(mode="json")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"colour": 1}, "colour = 1"), ({"stages": {"dance": {"steps": 1}}}, "a stage of this run: poses, sequence, got 'dance'"),
        ({"stages": {"poses": {"step": 1}}}, r"stages\.0\.step = 1"),
        ({"stages": {"sequence": {"steps": "many"}}}, r"stages\.1\.steps = 'many'"),
        ({"stages": {"poses": {"feed": {"size": 1}}}}, r"stages\.0\.feed\.size"), ({"stages": {"poses": 5}}, "a mapping for poses, got 5"),
        ({"stages": ["poses"]}, "a mapping for stages"), ({"stages": None}, "a mapping for stages"),
        ({"model": "vdsm"}, "a mapping for model"),
        ({"data": 3}, "a mapping for data"), ({"on_nan": "pray"}, "on_nan = 'pray'"), ({"seed": "x"}, "seed = 'x'"),
        ({"stages": {"poses": {"decay": {"points": []}}}}, r"stages\.0\.decay.*rising progress"), ({3: 4}, "3"),
    ],
)
def test_what_does_not_exist_is_refused_by_its_place(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        override(tiny_run(), changes)


def test_yaml_is_read_as_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "changes.yaml"
    path.write_text("model: {static: 24}\nstages:\n  poses: {steps: 8000, learning_rate: 1.0e-3}\nseed: 1\n")
    changes = read_yaml(path)
    assert changes == {"model": {"static": 24}, "stages": {"poses": {"steps": 8000, "learning_rate": 1e-3}}, "seed": 1}
    new = override(tiny_run(), changes)
    assert (new.model.options["static"], new.stages[0].steps, new.seed) == (24, 8000, 1)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert read_yaml(path) == {}


BAD = [b"a: [1, 2", b"- 1\n- 2\n", b"just words", b"\xff\xfe\x00bad", b"a: !!python/object/apply:os.getcwd []"]


@pytest.mark.parametrize("content", BAD)
def test_a_file_that_holds_no_settings_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        read_yaml(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(UserError, match=path.name):
            read_yaml(path)


def test_what_print_shows_can_be_given_back(tmp_path: Path) -> None:
    import yaml

    run = vdsm.pendula("quick")
    shown = run.model_dump(mode="json")
    changes = {"seed": 3, "stages": {stage["name"]: stage for stage in shown["stages"]}, "model": shown["model"]["options"]}
    path = tmp_path / "shown.yaml"
    path.write_text(yaml.safe_dump(changes))
    assert override(run, read_yaml(path)).model_dump(mode="json") == shown | {"seed": 3}
