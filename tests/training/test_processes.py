"""Training in processes that are killed, and in several at once."""

from __future__ import annotations

import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from oracles import tiny_runs
from oracles.tiny_runs import (
    OFTEN,
    announce,
    disturb,
    free_port,
    kept,
    kept_step,
    process,
    rows,
    same,
    three_stage_run,
    tiny_clips,
    tiny_run,
    train_alone,
)
from stillmotion.core.terms import Terms
from stillmotion.training import loop
from stillmotion.training.loop import Interrupted
from stillmotion.training.settings import Run

PATIENCE = 60.0
"""Seconds after which a process counts as hung."""


def finish(*processes: BaseProcess) -> list[int | None]:
    """Exit codes; a process that hangs is killed, and its code tells so."""
    for one in processes:
        one.join(PATIENCE)
        if one.is_alive():
            one.kill()
            one.join()
    return [one.exitcode for one in processes]


# kills


def kill_once(folder: Path, run: Run, moment: float) -> int:
    """Trains in another process and kills it `moment` seconds after its first step; the step it had kept."""
    (folder / "started").unlink(missing_ok=True)
    child = process(train_alone, folder, run)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "started").exists() and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(moment)
    child.kill()
    child.join()
    return kept_step(folder)


def test_a_run_killed_at_ten_random_moments_ends_to_the_last_bit_like_one_that_was_not(tmp_path: Path) -> None:
    run = tiny_run(steps=100, checkpoint_seconds=OFTEN, validate_every=20)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    reference = process(train_alone, whole, run.model_copy(update={"checkpoint_seconds": 1e6}))
    moments = random.Random(0)
    reached = [kill_once(killed, run, moments.uniform(0, 0.3)) for _ in range(10)]
    assert reached == sorted(reached)
    assert len({step for step in reached if step < 200}) > 3  # kills that hit the run at different places
    assert finish(reference, process(train_alone, killed, run)) == [0, 0]
    assert same(kept(killed), kept(whole))
    assert rows(killed) == rows(whole)


# data parallel


def join_in(folder: Path, run: Run, rank: int, port: int, event: str) -> None:
    """One of two processes of a run. event: what happens to the second of them in its third step."""
    announce(rank, 2, port)
    loop.VALIDATION_CLIPS = 8
    one = tiny_runs.trainer(folder, run, validation=tiny_clips(4, seed=1))
    happenings: dict[str, Any] = {"nan": _nan, "signal": _signal}
    if rank == 1 and event:
        disturb(one.model, 3, happenings[event])
    try:
        one.fit()
    except Interrupted:
        raise SystemExit(17) from None


def _nan(module: nn.Module, terms: Terms) -> Terms:
    return Terms({name: value * torch.nan for name, value in terms.values.items()}, terms.weights)


def _signal(module: nn.Module, terms: Terms) -> None:
    signal.raise_signal(signal.SIGTERM)


def together(folders: tuple[Path, Path], run: Run, event: str = "") -> list[int | None]:
    port = free_port()
    return finish(*(process(join_in, folder, run, rank, port, event) for rank, folder in enumerate(folders)))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with the batch of two."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "VALIDATION_CLIPS", 8)
        tiny_runs.trainer(folder, tiny_run(batch=4), validation=tiny_clips(4, seed=1)).fit()
    return folder


def assert_alike(folder: Path, alone: Path) -> None:
    mine, expected = kept(folder), kept(alone)
    assert mine.keys() == expected.keys()
    assert all(torch.allclose(mine[name], expected[name], atol=1e-5, rtol=1e-4) for name in mine if name.startswith("model/"))
    for row, other in zip(rows(folder), rows(alone), strict=True):
        assert row.pop("terms") == pytest.approx(other.pop("terms"), rel=1e-4)
        assert row == other


def test_two_processes_train_like_one_with_twice_the_batch(tmp_path: Path, alone: Path) -> None:
    assert together((tmp_path / "first", tmp_path / "second"), tiny_run(batch=2)) == [0, 0]
    assert_alike(tmp_path / "first", alone)
    assert not (tmp_path / "second").exists()


def test_two_processes_train_the_stages_of_a_recipe(tmp_path: Path) -> None:
    assert together((tmp_path, tmp_path / "second"), three_stage_run()) == [0, 0]
    assert kept_step(tmp_path) == 9


def test_a_signal_to_one_process_stops_both_at_one_step_and_both_go_on(tmp_path: Path, alone: Path) -> None:
    run = tiny_run(batch=2)
    assert together((tmp_path, tmp_path), run, "signal") == [17, 17]
    assert kept_step(tmp_path) == 3
    assert together((tmp_path, tmp_path), run) == [0, 0]
    assert_alike(tmp_path, alone)


def test_a_nan_in_one_process_sends_both_back(tmp_path: Path) -> None:
    assert together((tmp_path, tmp_path), tiny_run(batch=2, on_nan="lower-lr", checkpoint_seconds=OFTEN), "nan") == [0, 0]
    told = [row for row in rows(tmp_path) if row["split"] == "train"]
    assert [row["step"] for row in told] == list(range(1, 9))
    assert [row["lr"] for row in told[:4]] == pytest.approx([3e-3, 3e-3, 1.5e-3, 1.5e-3])
