from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from data.video_files import write_av, write_gif, write_pictures, write_sound
from oracles.commands import CLIPS, TINY, TINY_JUDGE, TINY_PENDULA, Stillmotion, run, write_yaml


@pytest.fixture(scope="session")
def stillmotion() -> Stillmotion:
    return run


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven good clips of five formats, of 12 to 18 frames, and three broken files."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    (folder / "broken").mkdir()
    frames = [rng.integers(0, 256, (length, 24, 20, 3), dtype=np.uint8) for length in (12, 13, 14, 15, 16, 17, 18)]
    write_av(folder / "ann_walk.mp4", frames[0])
    write_gif(folder / "ann_run.gif", frames[1])
    np.save(folder / "bob_walk.npy", frames[2])
    write_pictures(folder / "bob_run", frames[3])
    write_av(folder / "cid_walk.webm", frames[4])
    np.savez_compressed(folder / "cid_run.npz", frames=frames[5])
    write_av(folder / "dan_walk.mp4", frames[6])
    whole = (folder / "ann_walk.mp4").read_bytes()
    (folder / "broken" / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "broken" / "empty.gif").touch()
    write_sound(folder / "broken" / "sound.mp4")
    return folder


@pytest.fixture(scope="session")
def trained(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a few steps on the clips."""
    place = tmp_path_factory.mktemp("trained")
    config = write_yaml(place / "tiny.yaml", TINY)
    options = ("--frame-size", 16, "--frames", 6, "--config", config, "--no-report", "--data-root", place / "data")
    result = run("train", clips, "-o", place / "run", "--pattern", r"(?P<person>[a-z]+)_(?P<action>[a-z]+)", *options)
    assert result.code == 0, result
    (place / "notes.txt").write_text(result.notes)
    return place / "run"


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of the tiny pendula."""
    folder = tmp_path_factory.mktemp("judged") / "judge"
    result = run("judge", "train", "pendula", "-o", folder, *TINY_JUDGE, *CLIPS)
    assert result.code == 0, result
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on pendula, measured after training alone."""
    place = tmp_path_factory.mktemp("finished")
    config = write_yaml(place / "tiny.yaml", TINY_PENDULA)
    assert run("train", "pendula", "-o", place / "finished", "--config", config, "--no-report").code == 0
    return place / "finished"


@pytest.fixture
def tiny(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may write into."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
