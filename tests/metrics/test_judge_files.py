"""A judge on disk: back to the last bit, with how good it is beside it, and never mistaken for a model."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from metrics.test_judge import CLASSES, small_judge, some_clips
from oracles.small_vdsm import small_vdsm
from stillmotion.core.errors import FileRefused
from stillmotion.metrics.judge import Judge
from stillmotion.metrics.judge_files import load_judge
from stillmotion.models.files import CONFIG, WEIGHTS, load, save

FACTS = {"accuracy": {"hair": {"value": 0.99, "low": 0.98, "high": 1.0, "clips": 50}}, "split": "test", "minutes": 0.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(small_judge(seed=4), tmp_path / "judge", **FACTS)


def test_a_saved_judge_comes_back_to_the_last_bit(folder: Path) -> None:
    judge, (again, facts, digest) = small_judge(seed=4), load_judge(folder)
    assert type(again) is Judge
    assert not again.training
    assert again.config == judge.config
    assert dict(again.classes) == CLASSES
    ours, theirs = judge.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    clips = some_clips(3, 1)
    assert torch.equal(judge.read(clips).features, again.read(clips).features)
    assert facts == FACTS
    assert digest == sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def test_what_it_learned_of_its_frames_travels_too(folder: Path) -> None:
    names = load_judge(folder).judge.state_dict()
    assert {name for name in names if name.startswith("frames.0.1")} == {
        f"frames.0.1.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert bool(names["frames.0.1.running_mean"].any())


def test_it_may_lie_in_the_folder_of_its_run(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder.rename(run / "model")
    assert load_judge(str(run)).facts == FACTS


def test_a_model_is_no_judge_and_a_judge_no_model(folder: Path, tmp_path: Path) -> None:
    model = save(small_vdsm(), tmp_path / "run" / "model")
    with pytest.raises(FileRefused, match=r"a judge, got .*run/model, which holds a model\. .*`stillmotion judge train` makes one"):
        load_judge(model)
    with pytest.raises(FileRefused, match="expected a judge, got .*run/model, which holds a model"):
        load_judge(tmp_path / "run")
    with pytest.raises(FileRefused, match=r"expected a model, got .*judge, which holds a judge\. .*`stillmotion train` makes one"):
        load(folder)


def test_places_without_a_judge_are_refused_with_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"the folder of a judge .*gone\. Train one with `stillmotion judge train`"):
        load_judge(tmp_path / "gone")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileRefused, match=r"a finished run, got .*which has no judge yet\. Go on with `stillmotion judge train`"):
        load_judge(tmp_path)
    with pytest.raises(FileRefused, match=r"a judge folder, got .*best\.pt, a pickle"):
        load_judge(tmp_path / "best.pt")


def test_damaged_judges_are_refused_by_name(folder: Path) -> None:
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(FileRefused, match=r"model\.safetensors, which is damaged"):
        load_judge(folder)


def test_a_judge_of_other_settings_is_refused_with_the_setting(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["options"]["channels"] = [4, 4]
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(FileRefused, match=r"options of judge, got channels.* in .*config\.json") as refused:
        load_judge(folder)
    assert "docs/models/judge.md" not in str(refused.value)
