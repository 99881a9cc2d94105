from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from oracles.commands import Stillmotion
from stillmotion.cli import doctor as module
from stillmotion.cli.common import warn_without_effect
from stillmotion.cli.main import app, main

COMMANDS = ("demo", "train", "resume", "reconstruct", "swap", "generate", "embed", "report", "doctor", "data")


def test_help_names_every_command(stillmotion: Stillmotion) -> None:
    result = stillmotion("--help")
    assert result.code == 0
    assert all(f" {name} " in result.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_explained(name: str) -> None:
    command: Any = typer.main.get_command(app)
    chosen = command.commands[name]
    assert len(chosen.get_short_help_str(200)) > 20
    for one in getattr(chosen, "commands", {"": chosen}).values():
        texts = [getattr(parameter, "help", None) for parameter in one.params]
        assert all(text and len(text) >= 5 for text in texts), (one.name, texts)


def test_help_of_train_is_in_groups(stillmotion: Stillmotion) -> None:
    text = stillmotion("train", "--help").out
    places = [
        text.index(title) for title in (" Options ", " How a folder of videos is read ", " Labels of a folder", " Model ", " Machine ")
    ]
    assert places == sorted(places)


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    code = """
import sys, time
start = time.perf_counter()
sys.argv = ["stillmotion", "train", "--help"]
from stillmotion.cli.main import main
try:
    main()
except SystemExit:
    pass
heavy = [name for name in ("torch", "numpy", "av", "PIL", "matplotlib", "sklearn", "yaml") if name in sys.modules]
print("heavy", heavy)
"""
    start = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "heavy []" in out
    assert time.perf_counter() - start < 5  # half a second where nothing else runs


def test_warnings_are_notes_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "argv", ["stillmotion", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert warnings.formatwarning(UserWarning("x is odd"), UserWarning, "file.py", 3) == "stillmotion: note: x is odd\n"


def test_options_without_effect_are_named_where_they_were_given() -> None:
    small = typer.Typer()

    @small.command()
    def go(context: typer.Context, frame_size: int = 64, fps: int = 5, seed: int = 0) -> None:
        warn_without_effect(context, ("frame_size", "fps"), "digits")

    result = CliRunner().invoke(small, ["--frame-size", "64", "--seed", "1"])
    assert result.stderr == "--frame-size is for folders of videos and has no effect on digits.\n"


# doctor


def lines(stillmotion: Stillmotion) -> dict[str, str]:
    result = stillmotion("doctor")
    assert result.code == 0
    return {line[:18].strip(): line[18:].strip() for line in result.out.splitlines()}


def remedy(line: str) -> str:
    return line.split("->", 1)[1].strip() if "->" in line else ""


def test_doctor_tells_what_is_there(stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path / "not" / "yet"))
    found = lines(stillmotion)
    assert found["torch"] == torch.__version__
    assert found["threads"].split()[0] == str(torch.get_num_threads())
    assert found["data folder"].startswith(f"{tmp_path / 'not' / 'yet'} (")
    assert found["reads h264"] == "yes (mp4, mkv)"
    assert found["writes"].startswith("gif, png, ")
    assert not (tmp_path / "not").exists()


def test_doctor_has_a_remedy_for_all_that_is_missing(stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr("stillmotion.training.machine.has_bfloat16", lambda device: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**30))
    found = lines(stillmotion)
    assert found["bfloat16"].startswith("not native")
    assert remedy(found["video files"]) == "pip install 'stillmotion[video]'"
    assert remedy(found["pyarrow"]) == "if needed: pip install 'stillmotion[parquet]'"
    missing = [name for name in found if name not in ("stillmotion", "python", "torch")]
    assert {"threads", "gpu", "bfloat16", "data folder", "video files", *module.EXTRAS} == set(missing)
    assert all(remedy(found[name]) for name in missing)


def test_doctor_says_nothing_of_what_is_well(stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr("stillmotion.training.machine.has_bfloat16", lambda device: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a good one")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**40))
    found = lines(stillmotion)
    assert found["gpu"] == "a good one"
    assert found["bfloat16"] == "native"
    assert not any(remedy(line) for name, line in found.items() if not name.startswith("reads"))


def test_doctor_tells_which_codecs_are_missing(stillmotion: Stillmotion, monkeypatch: pytest.MonkeyPatch) -> None:
    av: Any = pytest.importorskip("av")

    def none(name: str, mode: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(av.codec, "Codec", none)
    monkeypatch.setattr(av, "codecs_available", set())
    found = lines(stillmotion)
    for name in ("reads h264", "reads vp9", "reads mpeg4", "reads av1", "writes"):
        assert remedy(found[name])
