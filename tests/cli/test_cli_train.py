from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from oracles.commands import BROKEN, TINY, TINY_PENDULA, Stillmotion, write_yaml
from stillmotion.cli import train
from stillmotion.core.errors import NotFinite
from stillmotion.models.files import load
from stillmotion.recipes import execute, sources
from stillmotion.recipes.override import override
from stillmotion.training.loop import Interrupted


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_yaml(tmp_path / "tiny.yaml", TINY_PENDULA)


def test_a_folder_of_mixed_formats_trains_and_names_the_broken_files(trained: Path, clips: Path) -> None:
    notes = (trained.parent / "notes.txt").read_text()
    assert "3 of the files refused" in notes
    assert all(name in notes for name in BROKEN)
    model, facts = load(trained)
    assert model.frame_shape == (3, 16, 16)
    assert facts["steps"] == 6
    results = json.loads((trained / "results.json").read_text())
    assert results["recipe"] == "vdsm/videos"
    assert results["command"].startswith(f"stillmotion train {clips} -o ")
    assert results["figures"]["psnr_poses_test"]["clips"] > 0
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"poses", "paths", "sequence"} <= {row.get("stage") for row in rows}
    assert not (trained / "report.html").exists()


def test_a_finished_run_resumed_keeps_its_model_and_gets_its_report(trained: Path, stillmotion: Stillmotion) -> None:
    before = load(trained).model.state_dict()
    result = stillmotion("resume", trained)
    assert result.code == 0, result
    assert result.out == f"done: {trained / 'report.html'}\n"
    assert all(torch.equal(value, before[name]) for name, value in load(trained).model.state_dict().items())
    assert "<html" in (trained / "report.html").read_text(encoding="utf-8")[:300]


def test_a_built_in_set_trains(config: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("train", "pendula", "-o", tmp_path / "run", "--config", config, "--no-report", "--seed", 5)
    assert (result.code, result.out) == (0, f"done: {tmp_path / 'run'}\n"), result
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert written["run"]["seed"] == 5
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]
    assert figures["swap_static_accuracy"]["clips"] == 500


def test_demo_prints_its_figures_and_where_things_are(tmp_path: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sources.run_for
    monkeypatch.setattr(sources, "run_for", lambda *names, **options: override(real(*names, **options), TINY_PENDULA))
    out = tmp_path / "out"
    result = stillmotion("demo", "-o", out, "--size", "quick")
    assert result.code == 0, result
    named = [line.split()[-1] for line in result.out.splitlines() if line.startswith(("animation", "report"))]
    assert len(named) == 4
    assert all(Path(path).stat().st_size > 100 for path in named)
    assert stillmotion("demo", "-o", out).code == 0  # goes on with what is there


# what would be done


@pytest.mark.parametrize(
    "options", [[], ["--as-released"], ["--size", "paper", "--seed", "3"], ["--likelihood", "gaussian", "--posterior", "iaf"]]
)
def test_what_print_shows_can_be_given_back(options: list[str], tmp_path: Path, stillmotion: Stillmotion) -> None:
    shown = stillmotion("train", "pendula", "--print", *options)
    assert shown.code == 0
    assert next(iter(yaml.safe_load(shown.out)["stages"])) == "poses"
    (tmp_path / "all.yaml").write_text(shown.out)
    again = stillmotion("train", "pendula", "--print", "--config", tmp_path / "all.yaml", *options)
    assert again.out == shown.out
    assert not (tmp_path / "runs").exists()


def test_options_reach_the_run(clips: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    reading = ("--grey", "--fit", "letterbox", "--stride", 2, "--fps", 5, "--data-root", tmp_path)
    holding = ("--hold-out-tail", 0.2, "--hold-out", "person=ann", "--group-by", "person")
    options = (*reading, *holding, "--prior-scale", "deviation", "--decoder-input", "static", "--on-nan", "lower-lr", "--device", "cpu")
    shown = yaml.safe_load(stillmotion("train", clips, "--print", "--frame-size", 32, "--frames", 8, *options).out)
    assert shown["data"] == {
        "folder": str(clips), "size": 32, "steps": 8, "fit": "letterbox", "stride": 2, "fps": 5.0, "grey": True, "hold_out_tail": 0.2,
        "hold_out": [{"person": "ann"}], "seed": 0, "cache": str(tmp_path / "videos"),
    }  # fmt: skip
    assert (shown["model"]["channels"], shown["model"]["size"]) == (1, 32)
    assert (shown["model"]["prior_scale"], shown["model"]["decoder_input"]) == ("deviation", "static")
    assert (shown["on_nan"], shown["device"]) == ("lower-lr", "cpu")
    assert shown["stages"]["poses"]["feed"]["group_by"] == "person"


def test_options_without_effect_on_a_built_in_set_are_named(stillmotion: Stillmotion) -> None:
    result = stillmotion("train", "pendula", "--print", "--fps", 5, "--group-by", "colour", "--seed", 1)
    assert result.code == 0
    assert result.err.splitlines() == [
        "--fps is for folders of videos and has no effect on pendula.", "--group-by is for folders of videos and has no effect on pendula.",
    ]  # fmt: skip
    assert stillmotion("train", "pendula", "--print").err == ""
    assert set(train.FOR_FOLDERS) <= set(signature(train.train).parameters)


def test_bouncing_balls_train_a_kalman_vae(tmp_path: Path, stillmotion: Stillmotion) -> None:
    result = stillmotion("train", "box", "--print", "--likelihood", "gaussian", "--prior-scale", "variance", "--as-released")
    assert result.code == 0
    shown = yaml.safe_load(result.out)
    wanted = ("kvae/box", {"width": 16, "likelihood": "gaussian"}, ["systems", "all", "gaps", "sequence"])
    assert (shown["recipe"], shown["model"], list(shown["stages"])) == wanted
    assert result.err.splitlines() == [
        "--as-released is for VDSM and has no effect on kvae.", "--prior-scale is for other models and has no effect on kvae.",
    ]  # fmt: skip
    few = {"systems": {"steps": 1}, "all": {"steps": 1}, "gaps": {"steps": 1}, "sequence": {"steps": 1}}
    config = write_yaml(tmp_path / "tiny.yaml", {"data": {"clips": 32, "validation": 4, "test": 4}, "model": {"width": 4}, "stages": few})
    made = stillmotion("train", "box", "--size", "quick", "--config", config, "-o", tmp_path / "run")
    assert made.code == 0, made
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "KVAE" in page
    assert "lacks the ability Swaps" in page


# refusals


def test_unknown_names_and_values_are_refused(clips: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    print_ = ("--print",)
    stillmotion("train", "pendulum", *print_).refused("a folder of videos, or one of pendula", "'pendulum'", "Check the path")
    stillmotion("train", "pendula", "--size", "huge", *print_).refused("quick, laptop, paper", "'huge'")
    stillmotion("train", "pendula", "--precision", "half", *print_).refused("precision = 'half'")
    stillmotion("train", clips, "--frame-size", 48, *print_).refused("power of two", "48")
    stillmotion("train", clips, "--hold-out", "person", *print_).refused("person")
    stillmotion("train", "pendula", "--config", tmp_path / "none.yaml", *print_).refused("none.yaml")
    stillmotion("train", "pendula", "--config", write_yaml(tmp_path / "bad.yaml", {"stages": {"third": {}}}), *print_).refused("'third'")
    out = ("-o", tmp_path / "run", "--no-report")
    stillmotion("train", "pendula", "--posterior", "flow", *out).refused("posterior = 'flow'")
    stillmotion("train", "pendula", "--device", "abacus", *out).refused("'abacus'")
    assert not (tmp_path / "run").exists()


def test_unknown_options_and_commands_are_refused(stillmotion: Stillmotion) -> None:
    for words in (("train", "pendula", "--colour"), ("fly",), ("train",)):
        result = stillmotion(*words)
        assert result.code == 2
        assert "Error" in result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize(("options", "words"), [
    (("--frames", 1), ("windows of 2 frames or more", "got 1")),
    (("--frames", 0), ("windows of 2 frames or more", "got 0")),
    (("--stride", 0), ("a stride of 1 or more",)),
    (("--fps", 0), ("frames per second above 0",)),
    (("--fit", "squeeze"), ("crop or letterbox", "'squeeze'")),
    (("--group-by", "mood"), ("mood",)),
    (("--hold-out-clip-per", "mood"), ("'mood'",)),
    (("--pattern", "("), ("(",)),
    (("--labels-from", "names"), ("names",)),
])  # fmt: skip
def test_what_a_folder_cannot_give_is_refused(
    options: tuple[object, ...], words: tuple[str, ...], trained: Path, clips: Path, tmp_path: Path, stillmotion: Stillmotion
) -> None:
    root, config = trained.parent / "data", write_yaml(tmp_path / "tiny.yaml", TINY)
    out = ("-o", tmp_path / "run", "--data-root", root, "--config", config, "--no-report", "--frame-size", 16)
    stillmotion("train", clips, *out, *options).refused(*words)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_videos_is_refused(tmp_path: Path, stillmotion: Stillmotion) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.txt").write_text("nothing to see")
    stillmotion("train", tmp_path / "docs", "-o", tmp_path / "run", "--data-root", tmp_path / "data").refused("docs")
    assert not (tmp_path / "run").exists()


def test_frames_of_another_size_than_the_model_are_refused(tmp_path: Path, stillmotion: Stillmotion) -> None:
    config = write_yaml(tmp_path / "odd.yaml", {**TINY_PENDULA, "data": {"clips": 14, "validation": 14, "test": 14, "size": 32}})
    stillmotion("train", "pendula", "-o", tmp_path / "run", "--config", config).refused(
        "(3, 16, 16)", "(3, 32, 32)", "Set the size of both"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_left_alone(trained: Path, stillmotion: Stillmotion) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    stillmotion("train", "pendula", "-o", trained).refused("a new run folder", f"Go on with `stillmotion resume {trained}`")
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == before


def test_a_place_that_cannot_be_written_is_refused(config: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    (tmp_path / "file").write_text("mine")
    stillmotion("train", "pendula", "-o", tmp_path / "file" / "run", "--config", config).refused(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_told_in_one_line(config: Path, tmp_path: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/there/x")

    monkeypatch.setattr(execute, "write_text", full)
    stillmotion("train", "pendula", "-o", tmp_path / "run", "--config", config).refused("No space left on device: /there/x")


def test_resume_needs_a_run(tmp_path: Path, stillmotion: Stillmotion) -> None:
    stillmotion("resume", tmp_path / "gone").refused("run.json", "gone", "stillmotion train")
    (tmp_path / "run.json").write_text("{]")
    stillmotion("resume", tmp_path).refused("run.json, which cannot be read")
    stillmotion("report", tmp_path / "gone").refused("gone")


# ends before the end


def raising(error: BaseException, folder: Path | None = None) -> object:
    def start(*_: object, **__: object) -> None:
        if folder:
            folder.mkdir()
            (folder / "run.json").write_text("{}")
        raise error

    return start


@pytest.mark.parametrize(("error", "how"), [(Interrupted(), "stopped and saved"), (KeyboardInterrupt(), "stopped")])
def test_an_interrupted_run_says_how_to_go_on(
    error: BaseException, how: str, tmp_path: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my run"
    monkeypatch.setattr(execute, "start", raising(error, folder))
    result = stillmotion("train", "pendula", "-o", folder)
    assert (result.code, result.err) == (130, f"{how}; go on with  stillmotion resume '{folder}'\n")
    monkeypatch.setattr(execute, "start", raising(error))
    result = stillmotion("train", "pendula", "-o", tmp_path / "other")
    assert (result.code, result.err) == (130, "stopped before the training began\n")


def test_a_loss_that_is_not_finite_ends_with_3(tmp_path: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "start", raising(NotFinite(7, ["path_kl"])))
    result = stillmotion("train", "pendula", "-o", tmp_path / "run")
    assert result.code == 3
    assert result.err.startswith("stillmotion: not a finite number at step 7: path_kl.")


def test_other_errors_are_not_hidden(tmp_path: Path, stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "start", raising(ValueError("a fault of ours")))
    with pytest.raises(ValueError, match="a fault of ours"):
        stillmotion("train", "pendula", "-o", tmp_path / "run")


def test_ctrl_c_in_a_real_process_then_resume(clips: Path, tmp_path: Path, stillmotion: Stillmotion) -> None:
    """The whole way: a process is interrupted in the middle of its training, says how to go on, and goes on to the end."""
    stages = {**TINY["stages"], "poses": {"steps": 500, "feed": {"batch": 2}}}  # type: ignore[dict-item]
    long = {**TINY, "stages": stages, "log_every": 1}
    folder, config = tmp_path / "run", write_yaml(tmp_path / "long.yaml", long)
    (tmp_path / "good").mkdir()
    np.save(tmp_path / "good" / "a.npy", np.zeros((9, 16, 16), np.uint8))
    (tmp_path / "good" / "junk.mp4").write_text("no video " * 9)
    command = [sys.executable, "-m", "stillmotion.cli.main", "train", tmp_path / "good", "-o", folder, "--config", config, "--no-report",
               "--frame-size", "16", "--frames", "4", "--data-root", tmp_path / "data"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    while not (folder / "metrics.jsonl").exists() and process.poll() is None:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"stopped and saved; go on with  stillmotion resume {folder}" in err
    assert "stillmotion: note: 1 of the files refused: junk.mp4" in err
    assert "Traceback" not in err
    stillmotion("swap", clips, clips, "-r", folder).refused("a finished run", f"stillmotion resume {folder}")
    assert stillmotion("resume", folder).code == 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["stage"] == "poses" and row["split"] == "train"]
    assert len(set(steps)) == len(steps) == 500
    assert load(folder).facts["steps"] == 4
