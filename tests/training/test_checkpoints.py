"""Checkpoints: whatever happens while one is written, there is one to go on from."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.training import checkpoints
from stillmotion.training.checkpoints import MANIFEST, Checkpoint, load, save, write_text


def checkpoint(step: int) -> Checkpoint:
    g = torch.Generator().manual_seed(step)
    tensors = {"model/a": torch.randn(3, 4, generator=g).T, "adam/a/step": torch.tensor(float(step)), "model/n": torch.tensor([step])}
    return Checkpoint(tensors, {"step": step, "stage": "poses", "seconds": 0.1 + step})


def assert_holds(folder: Path, step: int) -> None:
    found, expected = load(folder), checkpoint(step)
    assert found is not None
    assert found.facts == expected.facts
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(value, expected.tensors[name]) for name, value in found.tensors.items())


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder that has seen the steps 5, 10 and 15."""
    for step in (5, 10, 15):
        save(tmp_path, checkpoint(step), step)
    return tmp_path


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "folder", checkpoint(3), 3)
    assert path.name == "step-00000003.safetensors"
    assert_holds(tmp_path / "new" / "folder", 3)


def test_a_new_folder_has_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    assert load(tmp_path / "missing") is None


def test_the_last_two_are_kept(two: Path) -> None:
    assert sorted(path.name for path in two.iterdir()) == [MANIFEST, "step-00000010.safetensors", "step-00000015.safetensors"]
    assert_holds(two, 15)


def test_the_same_step_may_be_saved_again(two: Path) -> None:
    save(two, checkpoint(15), 15)
    assert_holds(two, 15)
    damage(two / "step-00000015.safetensors")
    assert_holds(two, 10)


@pytest.mark.parametrize("how", [damage, Path.unlink, lambda path: os.truncate(path, 20)])
def test_a_damaged_one_falls_back_to_the_one_before(two: Path, how: Any) -> None:
    how(two / "step-00000015.safetensors")
    assert_holds(two, 10)


def test_after_falling_back_the_good_one_is_kept_and_not_the_damaged(two: Path) -> None:
    damage(two / "step-00000015.safetensors")
    save(two, checkpoint(12), 12)
    damage(two / "step-00000012.safetensors")
    assert_holds(two, 10)
    assert not (two / "step-00000015.safetensors").exists()


def test_where_both_are_damaged_both_are_named(two: Path) -> None:
    damage(two / "step-00000010.safetensors")
    (two / "step-00000015.safetensors").unlink()
    with pytest.raises(FileRefused, match=r"missing or damaged.*step-00000010.*step-00000015") as caught:
        load(two)
    assert str(two) in str(caught.value)


def test_partial_files_are_passed_over_and_cleared_away(two: Path) -> None:
    for name in ("step-00000020.partial", f"{MANIFEST}.partial", "step-00000099.safetensors"):
        (two / name).write_bytes(b"half of it")
    assert_holds(two, 15)
    save(two, checkpoint(20), 20)
    assert_holds(two, 20)
    assert {path.name for path in two.glob("step*")} == {"step-00000015.safetensors", "step-00000020.safetensors"}


@pytest.mark.parametrize("moment", ["save_file", "_sync", "_hash", "os.replace", "write_text"])
def test_a_crash_at_any_moment_leaves_one_to_go_on_from(two: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def power_cut(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt  # which nobody tidies up after

    with monkeypatch.context() as patched:
        patched.setattr(f"stillmotion.training.checkpoints.{moment}", power_cut)
        with pytest.raises(KeyboardInterrupt):
            save(two, checkpoint(20), 20)
    assert_holds(two, 15)
    save(two, checkpoint(20), 20)
    assert_holds(two, 20)


def test_a_file_that_the_list_does_not_name_does_not_count(two: Path) -> None:
    before = (two / MANIFEST).read_text()
    save(two, checkpoint(20), 20)
    (two / MANIFEST).write_text(before)  # as if the power had failed between the file and the list
    assert_holds(two, 15)


@pytest.mark.parametrize("text", ["no json", "5", "{}x", '{"a": 1}', "[1]", '[{"file": "x"}]', "[null]"])
def test_a_foreign_list_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(FileRefused, match=MANIFEST):
        load(tmp_path)


FULL = [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_told_and_the_last_checkpoint_stays(two: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"the beginning")
        raise error

    monkeypatch.setattr(checkpoints, "save_file", refuse)
    with pytest.raises(UserError, match=r"full disk.*Free some space, then resume"):
        save(two, checkpoint(20), 20)
    assert_holds(two, 15)
    assert not list(two.glob("*.partial"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_that_is_really_full_is_told_as_such(two: Path) -> None:
    (two / f"{MANIFEST}.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match="full disk"):
        save(two, checkpoint(20), 20)
    assert_holds(two, 15)


def test_other_faults_of_the_disk_are_passed_on(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoints, "save_file", refuse)
    with pytest.raises(PermissionError):
        save(two, checkpoint(20), 20)
    assert_holds(two, 15)


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_text(path, json.dumps({"a": 1}))

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="broken"):
        write_text(path, "half")
    assert json.loads(path.read_text()) == {"a": 1}
