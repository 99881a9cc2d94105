from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from oracles.small_vdsm import SMALL, small_vdsm, some_clips
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.core.registry import JUDGES
from stillmotion.models.files import CONFIG, WEIGHTS, build, load, save
from stillmotion.models.vdsm import VDSM


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(small_vdsm(), tmp_path / "saved", steps=5, frames={"size": 8})


def change(folder: Path, **values: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("options", [{}, {"posterior": "iaf", "single_decoder": True, "channels": 1, "likelihood": "gaussian"}])
def test_a_saved_model_comes_back_exactly(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small_vdsm(seed=3, **options)
    loaded = load(save(model, tmp_path / "a" / "b", steps=5, recipe="x", frames={"size": 8}))
    assert type(loaded.model) is VDSM
    assert not loaded.model.training
    assert loaded.model.config == model.config
    assert loaded.facts == {"steps": 5, "recipe": "x", "frames": {"size": 8}}
    ours, theirs = model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    clips = some_clips(4, channels=model.frame_shape[0])
    with torch.no_grad():
        assert torch.equal(model.decode(model.encode(clips)), loaded.model.decode(loaded.model.encode(clips)))


def test_options_that_are_younger_than_a_file_mean_what_was_done_then(tmp_path: Path) -> None:
    model = small_vdsm(mean_slope=0.01)
    save(model, tmp_path)
    told = json.loads((tmp_path / CONFIG).read_text())
    del told["options"]["mean_slope"]
    (tmp_path / CONFIG).write_text(json.dumps(told))
    assert load(tmp_path).model.config == model.config
    assert small_vdsm().config.mean_slope == 1


def test_a_model_folder_can_be_moved_and_lie_in_a_run_folder(folder: Path, tmp_path: Path) -> None:
    before = load(folder).model.state_dict()
    moved = folder.rename(tmp_path / "another name.v2")
    run = tmp_path / "run"
    run.mkdir()
    assert torch.equal(load(moved).model.state_dict()["start"], before["start"])
    moved.rename(run / "model")
    (run / "run.json").write_text("{}")
    assert torch.equal(load(str(run)).model.state_dict()["start"], before["start"])


def test_saving_again_replaces_and_leaves_nothing_behind(folder: Path) -> None:
    other = small_vdsm(seed=9)
    save(other, folder)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert torch.equal(load(folder).model.state_dict()["start"], other.start)
    assert load(folder).facts == {}


def test_a_save_that_fails_leaves_the_old_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(folder).model.state_dict()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save(small_vdsm(seed=9), folder)
    assert torch.equal(load(folder).model.state_dict()["start"], before["start"])


def test_build_draws_from_its_seed_and_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (build("vdsm", SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["pose_head.weight"], other["pose_head.weight"])


def test_loading_leaves_the_global_generator(folder: Path) -> None:
    state = torch.get_rng_state()
    load(folder)
    assert torch.equal(torch.get_rng_state(), state)


def test_loading_never_unpickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a pickle was opened")

    for target, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(target, name, never)
    assert load(folder).facts["steps"] == 5


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".PT"])
def test_pickles_are_refused_by_their_ending_and_told_why(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"weights{ending}"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(FileRefused, match=rf"weights\{ending}, a pickle. Loading a pickle can run any code"):
        load(path)


def test_a_pickle_in_place_of_the_weights_is_refused(folder: Path) -> None:
    torch.save({"a": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(FileRefused, match="damaged or missing"):
        load(folder)


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_damaged_weights_are_refused_by_name(folder: Path, damage: str) -> None:
    path = folder / WEIGHTS
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
        path.write_bytes(content)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    with pytest.raises(FileRefused, match=r"model\.safetensors, which is damaged or missing. Copy the folder again"):
        load(folder)


@pytest.mark.parametrize("kind", ["other names", "other shapes", "no tensors"])
def test_weights_of_another_model_are_refused(folder: Path, kind: str) -> None:
    from hashlib import sha256

    tensors = load_file(folder / WEIGHTS)
    if kind == "other names":
        save_file({f"x.{name}": value for name, value in tensors.items()}, folder / WEIGHTS)
    elif kind == "other shapes":
        save_file(small_vdsm(pose=4).state_dict(), folder / WEIGHTS)
    else:
        (folder / WEIGHTS).write_bytes(b"PK\x03\x04 nothing of ours")
    change(folder, sha256=sha256((folder / WEIGHTS).read_bytes()).hexdigest())
    with pytest.raises(FileRefused, match=r"weights of this model, got .*model\.safetensors, which holds others"):
        load(folder)


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", '"text"', "\udcff"])
def test_a_config_that_is_no_description_is_refused(folder: Path, text: str) -> None:
    (folder / CONFIG).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FileRefused, match=r"config\.json, which cannot be read"):
        load(folder)


def test_a_foreign_config_is_refused_with_what_it_lacks(folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps({"architectures": ["BertModel"], "model": "x"}))
    with pytest.raises(FileRefused, match=r"config\.json, which lacks facts, format, options, sha256\. Was it written by another program"):
        load(folder)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": 2}, r"config\.json of format 2\. .* newer version"),
        ({"model": "vsdm"}, r"one of ae_rnn, .*kvae, .*vdsm, got 'vsdm' in .*config\.json\. Check the spelling"),
        ({"model": ["vdsm"]}, r"config\.json with model = \['vdsm'\]"),
        ({"options": {"sizes": 8}}, r"options of vdsm, got sizes = 8 .* in .*config\.json\. See docs"),
        ({"options": None}, r"config\.json with options = None"),
        ({"facts": [1]}, r"config\.json with facts = \[1\]"),
    ],
)
def test_a_config_with_odd_values_is_refused(folder: Path, values: dict[str, Any], words: str) -> None:
    change(folder, **values)
    with pytest.raises(FileRefused, match=words):
        load(folder)


def test_unknown_models_and_options_are_named() -> None:
    with pytest.raises(UserError, match="one of ae_rnn, .*kvae, .*vdsm, got 'gan'. Check the spelling"):
        build("gan", {}, 0)
    with pytest.raises(UserError, match=r"options of vdsm, got colour = 3 .*See docs/models/vdsm\.md"):
        build("vdsm", {**SMALL, "colour": 3}, 0)
    with pytest.raises(UserError, match="options of vdsm, got static = 0"):
        build("vdsm", {**SMALL, "static": 0}, 0)


def test_places_without_a_model_are_refused_with_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="gone. Train one with `stillmotion train`"):
        load(tmp_path / "gone")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileRefused, match=r"a finished run, got .*which has no model yet. Go on with `stillmotion resume"):
        load(tmp_path)


# Judges lie in folders of the same form

JUDGE: dict[str, Any] = {"classes": {"kind": ["a", "b"]}, "size": 8, "channels": [1, 1, 1, 2], "code": 2, "rnn": 2, "hidden": 2}


def test_the_registry_says_what_can_be_built() -> None:
    judge = build("judge", JUDGE, 0, JUDGES)
    assert judge.name == "judge"
    with pytest.raises(UserError, match="one of ae_rnn, .*kvae, .*vdsm, got 'judge'"):
        build("judge", JUDGE, 0)
    with pytest.raises(UserError, match="one of judge, got 'vdsm'"):
        build("vdsm", SMALL, 0, JUDGES)
    assert build("mine", SMALL, 0, {"mine": "stillmotion.models.vdsm:VDSM"}).name == "vdsm"


def test_only_models_have_a_page_to_be_sent_to() -> None:
    with pytest.raises(UserError, match=r"options of judge, got rnn = 0 \(.*\)$"):
        build("judge", {**JUDGE, "rnn": 0}, 0, JUDGES)


def test_a_judge_is_loaded_where_one_is_asked_for_and_nowhere_else(tmp_path: Path, folder: Path) -> None:
    judge = build("judge", JUDGE, 3, JUDGES)
    place = save(judge, tmp_path / "judge", clips=5)
    loaded = load(place, JUDGES)
    assert loaded.facts == {"clips": 5}
    assert all(torch.equal(value, loaded.model.state_dict()[name]) for name, value in judge.state_dict().items())
    with pytest.raises(FileRefused, match=r"a model, got .*judge, which holds a judge\. .*; `stillmotion train` makes one"):
        load(place)
    with pytest.raises(FileRefused, match=r"a judge, got .*saved, which holds a model\. .*; `stillmotion judge train` makes one"):
        load(folder, JUDGES)


def test_what_neither_registry_knows_is_misspelt(folder: Path) -> None:
    change(folder, model="jugde")
    with pytest.raises(FileRefused, match="one of judge, got 'jugde' in"):
        load(folder, JUDGES)


def test_a_registry_of_ones_own_is_read_too(folder: Path) -> None:
    change(folder, model="mine")
    assert type(load(folder, {"mine": "stillmotion.models.vdsm:VDSM"}).model) is VDSM


def test_places_without_a_judge_are_refused_with_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"the folder of a judge .*gone\. Train one with `stillmotion judge train`"):
        load(tmp_path / "gone", JUDGES)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileRefused, match="which has no judge yet. Go on with `stillmotion judge train`"):
        load(tmp_path, JUDGES)
