"""A run from its start to its figures, and what keeps it from starting."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from oracles.tiny_runs import announce, free_port, kept, kept_step, process, rows, same, tiny_run
from stillmotion.core.clips import Clips
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.models import files
from stillmotion.models.vdsm import VDSM
from stillmotion.recipes import execute
from stillmotion.training import journal, loop, machine
from stillmotion.training.loop import Interrupted
from stillmotion.training.runs import read_run
from stillmotion.training.settings import Part, Run

DATA = {"clips": 28, "validation": 14, "test": 14, "size": 16, "steps": 4}
MODEL = {**tiny_run().model.options, "size": 16, "encoder_channels": (4, 4, 6), "decoder_channels": (5, 4)}


def pendula(**changes: Any) -> Run:
    """A run of 2 + 2 steps on 16 x 16 pendula."""
    plain = tiny_run(steps=2).model_dump(mode="json")
    for stage in plain["stages"]:
        stage["feed"] = {"batch": 4}
    parts = {"data": Part(name="pendula", options=DATA), "model": Part(name="vdsm", options=MODEL)}
    return Run.model_validate(plain | parts | changes)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal, "_board", lambda folder: None)
    monkeypatch.setattr(loop, "VALIDATION_CLIPS", 4)
    monkeypatch.setattr(execute, "keep_freed_memory", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "done"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(journal, "_board", lambda folder: None)
        patched.setattr(loop, "VALIDATION_CLIPS", 4)
        patched.setattr(execute, "keep_freed_memory", lambda: None)
        torch.set_num_threads(1)
        assert execute.start(pendula(), folder, command="stillmotion train pendula", show=False) == folder
    return folder


# a whole run


def test_the_run_is_written_down_as_it_was_carried_out(done: Path) -> None:
    assert read_run(done).model_dump(mode="json") == pendula().model_dump(mode="json")
    assert json.loads((done / "run.json").read_text())["command"] == "stillmotion train pendula"
    assert [(row["step"], row["stage"], row["split"]) for row in rows(done)] == [
        (1, "poses", "train"), (2, "poses", "train"), (2, "poses", "validation"), (3, "sequence", "train"), (3, "sequence", "validation"),
        (4, "sequence", "train"), (4, "sequence", "validation"),
    ]


def test_the_model_in_the_folder_is_the_one_that_was_trained(done: Path) -> None:
    model, facts = files.load(done)
    assert isinstance(model, VDSM)
    final = {name.removeprefix("model/"): value for name, value in kept(done).items() if name.startswith("model/")}
    memory = {"identities", "movements", "horizon"}
    trained = {name: value for name, value in model.state_dict().items() if name not in memory}
    assert same(trained, {name: value for name, value in final.items() if name not in memory})
    assert all(model.state_dict()[name].any() for name in memory), "training clips are remembered after the last step"
    assert (facts["steps"], facts["recipe"], facts["frames"]["size"]) == (4, "tiny", 16)
    assert not {name for name in facts["frames"] if name.startswith("max_")}
    codes = model.encode(Clips.of(torch.rand(2, 4, 3, 16, 16)))
    assert codes.static is not None
    assert codes.static.shape == (2, 4)


def test_results_have_the_shared_format(done: Path) -> None:
    results = json.loads((done / "results.json").read_text())
    about = {"recipe", "command", "commit", "minutes", "machine", "seeds", "clips_sha256"}
    assert results.keys() == about | {"judge", "evaluation", "figures"}
    assert (results["recipe"], results["seeds"], results["judge"], results["evaluation"]) == ("tiny", [0], None, None)
    assert results["commit"] is None or re.fullmatch(r"[0-9a-f]{40}", results["commit"])
    assert results["machine"]["cores"] >= 1
    assert {"torch", "python", "stillmotion"} <= results["machine"]["versions"].keys()
    figures = results["figures"]
    expected = {"psnr_sequence_test", "psnr_poses_validation", "swap_static_accuracy", "swap_action_accuracy", "chance_colour"}
    assert expected <= figures.keys()
    for name, figure in figures.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert figure.keys() == {"value", "low", "high", "clips", "paper", "protocol"}
        assert all(math.isfinite(figure[key]) for key in ("value", "low", "high"))
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["clips"] > 0


def test_resuming_a_finished_run_changes_no_weight_and_no_row(done: Path) -> None:
    before = {name: (done / name).read_bytes() for name in ("metrics.jsonl", "run.json", "model/model.safetensors")}
    figures = json.loads((done / "results.json").read_text())["figures"]
    execute.resume(done, show=False)
    assert {name: (done / name).read_bytes() for name in before} == before
    assert json.loads((done / "results.json").read_text())["figures"] == figures


def test_a_folder_that_holds_a_run_is_not_started_in_again(done: Path) -> None:
    before = (done / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"which holds a run.*stillmotion resume"):
        execute.start(pendula(seed=1), done, command="x", show=False)
    assert (done / "run.json").read_bytes() == before


def interrupt_at(patched: pytest.MonkeyPatch, step: int) -> None:
    """Every trainer behaves as if it had been asked to stop in that step."""
    real = loop.Trainer._report

    def report(self: loop.Trainer, *arguments: Any) -> None:
        real(self, *arguments)
        self._stop = self.step == step

    patched.setattr(loop.Trainer, "_report", report)


def test_an_interrupted_run_is_resumed_to_the_same_model(tmp_path: Path, done: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        interrupt_at(patched, 3)
        with pytest.raises(Interrupted):
            execute.start(pendula(), tmp_path, command="x", show=False)
    with pytest.raises(FileRefused, match=r"has no model yet.*resume"):
        files.load(tmp_path)
    execute.resume(tmp_path, show=False)
    assert same(kept(tmp_path), kept(done))
    assert rows(tmp_path) == rows(done)
    figures = [json.loads((folder / "results.json").read_text())["figures"] for folder in (tmp_path, done)]
    assert figures[0] == figures[1]


def test_the_precision_found_at_the_start_is_kept_when_resumed_elsewhere(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        interrupt_at(patched, 1)
        patched.setattr(machine, "has_bfloat16", lambda device: True)
        with pytest.raises(Interrupted):
            execute.start(pendula(precision="auto"), tmp_path, command="x", show=False)
    assert read_run(tmp_path).precision == "bfloat16"
    opened = set()
    with pytest.MonkeyPatch.context() as patched:
        real = VDSM.forward

        def forward(self: VDSM, *arguments: Any, **options: Any) -> Any:
            opened.add(torch.is_autocast_enabled("cpu"))
            return real(self, *arguments, **options)

        patched.setattr(machine, "has_bfloat16", lambda device: False)
        patched.setattr(VDSM, "forward", forward)
        execute.resume(tmp_path, show=False)
    assert opened == {True}
    assert kept_step(tmp_path) == 4


# what does not start


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data": Part(name="pendula", options={**DATA, "clip": 3})}, "options of the data set pendula.*clip"),
        ({"data": Part(name="pendula", options={**DATA, "clips": 0})}, "at least 1 clip"),
        ({"data": Part(name="penduli")}, "one of .*pendula"), ({"device": "banana"}, "banana"),
        ({"model": Part(name="vdsn")}, "one of .*vdsm"),
        ({"model": Part(name="vdsm", options={**MODEL, "poses": 3})}, "options of vdsm.*poses"),
        ({"data": Part(name="pendula", options={**DATA, "size": 32})}, r"\(3, 16, 16\).*\(3, 32, 32\)"),
    ],
)
def test_a_bad_setting_leaves_no_folder_behind(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        execute.start(pendula(**change), tmp_path / "run", command="x", show=False)
    assert not (tmp_path / "run").exists()


def test_what_to_do_about_a_nan_can_be_said_when_resuming(done: Path) -> None:
    with pytest.raises(UserError, match="on_nan = 'pray'"):
        execute.resume(done, show=False, on_nan="pray")
    execute.resume(done, show=False, on_nan="lower-lr")
    assert read_run(done).on_nan == "stop"


def test_a_judge_is_not_resumed_as_a_model(tmp_path: Path, done: Path) -> None:
    described = json.loads((done / "run.json").read_text())
    described["run"]["model"]["name"] = "judge"
    (tmp_path / "run.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="that of a judge.*judge train"):
        execute.resume(tmp_path, show=False)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"a run folder with run\.json.*stillmotion train"):
        execute.resume(tmp_path)


# several processes


def start_as(folder: Path, rank: int, port: int) -> None:
    announce(rank, 2, port)
    journal._board = lambda folder: None
    loop.VALIDATION_CLIPS = 4
    time.sleep(rank)  # the second process comes when the first could already have written the run down
    execute.start(pendula(), folder, command="x", show=False)


def test_two_processes_start_one_run(tmp_path: Path) -> None:
    port = free_port()
    pair = [process(start_as, tmp_path / "run", rank, port) for rank in range(2)]
    for one in pair:
        one.join(60)
    assert [one.exitcode for one in pair] == [0, 0]
    assert kept_step(tmp_path / "run") == 4
    assert (tmp_path / "run" / "results.json").is_file()
    assert [row["clips"] for row in rows(tmp_path / "run") if row["split"] == "train"] == [8] * 4
