from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from stillmotion.cli.data import app
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet, Splits

PATTERN = r"p(?P<person>\d+)_(?P<action>.+)"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips of 12 frames, an empty file and a text under the name of a video."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("p1_bend", "p1_jump", "p2_bend", "p2_jump"):
        np.save(folder / f"{name}.npy", np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8))
    (folder / "empty.mp4").touch()
    (folder / "text.avi").write_text("not a video " * 10)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def message(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, UserError)
    return str(result.exception)


def test_help_names_the_four_commands_and_loads_nothing_heavy() -> None:
    text = run("--help").output
    assert all(name in text for name in ("list", "prepare", "check", "show"))
    code = "import sys, stillmotion.cli.data; print([name for name in ('torch', 'numpy', 'av', 'PIL') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_list_tells_where_each_set_is_looked_for(tmp_path: Path) -> None:
    text = run("list", "--data-root", tmp_path).output
    sets = ("pendula", "digits", "sprites", "box", "gravity", "polygon", "pong", "torque", "mug", "videos")
    assert all(f"\n{name} " in f"\n{text}" for name in sets)
    assert "gravity   A ball that bounces in a square box under gravity" in text, "three worlds of one module, each in its own words"
    assert "torque    A pendulum under random torque" in text
    assert f"not there: looked in {tmp_path}. Get it with: stillmotion data prepare sprites" in text
    (tmp_path / "sprites" / "body").mkdir(parents=True)
    (tmp_path / "sprites" / "body" / "0.png").touch()
    assert f"there, in {tmp_path}" in run("list", "--data-root", tmp_path).output.split("sprites", 1)[1]


def test_check_tells_everything_and_writes_nothing(clips: Path, tmp_path: Path) -> None:
    rules = ("--pattern", PATTERN, "--hold-out-tail", 0.25, "--hold-out", "person=2,action=jump")
    result = run("check", clips, "--size", 16, "--steps", 4, *rules)
    assert result.exit_code == 0, result.exception
    assert "read     p1_bend.npy  12 frames" in result.output
    assert "refused  empty.mp4  the file is empty. Copy or export it again." in result.output
    assert "refused  text.avi  its content is no video" in result.output
    assert "4 clips read, 48 frames; 2 refused." in result.output
    assert "label person: 2 classes (1, 2)" in result.output
    assert "train: 18 windows of 4 frames from 3 clips\n" in result.output
    assert "validation: 3 windows of 4 frames from 3 clips, 3 of them shorter and padded" in result.output
    assert "test: 5 windows of 4 frames from 1 clips\ntest clips: p2_jump.npy" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_check_fails_only_where_nothing_is_readable(clips: Path) -> None:
    for path in clips.glob("*.npy"):
        path.unlink()
    assert "none of 2 files can be read" in message(run("check", clips))


def test_check_says_what_does_not_fit_and_what_is_too_little(clips: Path) -> None:
    for name in ("p1_jump", "p2_bend", "p2_jump"):
        (clips / f"{name}.npy").unlink()
    np.save(clips / "other.npy", np.zeros((5, 8, 8)))
    text = run("check", clips, "--pattern", PATTERN).output
    assert "1 clips do not fit the pattern, first other.npy" in text
    assert "note: too few clips (2)" in text


def test_prepare_decodes_once(clips: Path, tmp_path: Path) -> None:
    first = run("prepare", clips, "--size", 16, "--cache", tmp_path / "cache")
    assert "6 files decoded this time" in first.output
    assert "4 clips read, 48 frames; 2 refused." in first.output
    second = run("prepare", clips, "--size", 16, "--cache", tmp_path / "cache")
    assert "0 files decoded this time" in second.output
    assert "verified in full (SHA-256)" in second.output


def test_prepare_long_lists_are_cut(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(45):
        np.save(tmp_path / "clips" / f"{number}.npy", np.zeros((2, 4, 4), np.uint8))
    text = run("prepare", tmp_path / "clips", "--size", 4, "--cache", tmp_path / "cache").output
    assert text.count("2 frames\n") == 40
    assert "read     and 5 more" in text


def test_prepare_of_sets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[object] = []

    def fetch(root: object, progress: object) -> Path:
        asked.append(root)
        return tmp_path / "sprites"

    monkeypatch.setattr("stillmotion.data.download.prepare_sprites", fetch)
    assert f"sprites is in {tmp_path / 'sprites'}." in run("prepare", "sprites", "--data-root", tmp_path).output
    assert asked == [tmp_path]
    assert "pendula is computed and needs no data." in run("prepare", "pendula").output
    known = "pendula, digits, sprites, box, gravity, polygon, pong, torque, mug"
    assert f"'clps', which is neither. Data sets are {known}; or check the path." in message(run("prepare", "clps"))
    assert "Give the folder itself" in message(run("prepare", "videos"))


def test_a_folder_with_the_name_of_a_set_wins(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips.rename(tmp_path / "sprites")
    assert "4 clips read" in run("prepare", "sprites", "--size", 16, "--cache", tmp_path / "cache").output


def test_show_writes_a_sheet(clips: Path, tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    result = run("show", clips, "-o", target, "--size", 16, "--steps", 4, "--rows", 2, "--cache", tmp_path / "cache", "--split", "test")
    assert result.exit_code == 0, result.exception
    assert str(target) in result.output
    assert Image.open(target).size[1] > 2 * 72


def test_show_of_a_set_warns_of_what_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ClipSet.whole(torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8), {}, {})
    monkeypatch.setattr("stillmotion.data.pendula.load", lambda: Splits(tiny, tiny, tiny))
    result = run("show", "pendula", "-o", "sheet.png", "--fps", 3)
    assert result.exit_code == 0, result.exception
    assert "--fps is for folders of videos and has no effect on pendula." in result.stderr
    assert (tmp_path / "sheet.png").exists()


def test_show_of_nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "a split called train, validation or test" in message(run("show", "pendula", "--split", "tests"))
    assert "'pendulums', which is neither" in message(run("show", "pendulums"))
    assert "Give the folder itself" in message(run("show", "videos"))


@pytest.mark.data
def test_check_on_real_video(real_data: Path) -> None:
    pattern = r"person-(?P<person>\d+)_(?P<action>.+)"
    text = run("check", real_data / "weizmann", "--pattern", pattern, "--hold-out-tail", 0.2, "--hold-out-clip-per", "person").output
    assert "36 clips read, 2,645 frames; 0 refused." in text
    assert "train: 1,215 windows of 16 frames from 27 clips" in text
    assert "from 9 clips" in text
