"""Finished runs of a few steps, and judges of their data, made in a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from oracles.tiny_runs import tiny_run
from stillmotion.metrics import embedding, probes
from stillmotion.recipes import evaluate, execute, judge, own_judge
from stillmotion.recipes.judge import judge_run, train_judge
from stillmotion.training import journal, loop
from stillmotion.training.runs import load_data, read_run
from stillmotion.training.settings import Part

CHANNELS = (4, 4, 6, 6)
PENDULA = {"clips": 56, "validation": 14, "test": 28, "size": 16, "steps": 5}


@contextmanager
def quickly() -> Iterator[None]:
    """One thread, no TensorBoard, networks that learn for a few steps, and judges of reproductions that do for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    short = dict.fromkeys(embedding.PUBLISHED, embedding.Schedule(3e-3, 2))
    with (
        patch.object(journal, "_board", lambda folder: None),
        patch.object(loop, "VALIDATION_CLIPS", 4),
        patch.object(probes, "ROUNDS", 2),
        patch.dict(embedding.PUBLISHED, short),
        patch.object(own_judge, "QUICK", {"channels": CHANNELS, "steps": 2}),
        patch.object(execute, "keep_freed_memory", lambda: None),
        patch.object(evaluate, "keep_freed_memory", lambda: None),
        patch.object(judge, "keep_freed_memory", lambda: None),
    ):
        yield
    torch.set_num_threads(before)


def model_options(size: int, **changes: Any) -> dict[str, Any]:
    channels = {8: ((4, 6), (5,)), 16: ((4, 4, 6), (5, 4))}[size]
    encoder, decoder = channels
    return {**tiny_run().model.options, "size": size, "encoder_channels": encoder, "decoder_channels": decoder, **changes}


def finish(folder: Path, data: Part, model: dict[str, Any], *, seed: int = 0) -> Path:
    """Carries out a run of 2 + 2 steps."""
    run = tiny_run(steps=2).model_dump(mode="json")
    for stage in run["stages"]:
        stage["feed"] = {"batch": 4}
    whole = tiny_run().model_validate(run | {"data": data, "model": Part(name="vdsm", options=model), "seed": seed})
    with quickly():
        return execute.start(whole, folder, command="stillmotion train", show=False)


def teach(run_folder: Path, folder: Path, *, seed: int = 0, steps: int = 2) -> Path:
    """A judge of the data of a run."""
    run = read_run(run_folder)
    splits = load_data(run, show=False)
    with quickly():
        lessons = judge_run(run.data, splits, channels=CHANNELS, steps=steps, seed=seed, device="cpu")
        return train_judge(lessons, splits, folder, command="stillmotion judge train", show=False)


def write_videos(place: Path, *, size: int = 16, lengths: tuple[int, ...] = (12,) * 6) -> Path:
    """Three people, each before a wall of another grey, in two actions; the inside is noise."""
    place.mkdir()
    rng = np.random.default_rng(0)
    names = [(person, action) for person in range(3) for action in ("bend", "jump")]
    for (person, action), length in zip(names, lengths, strict=True):
        frames = rng.integers(0, 256, (length, size, size, 3), dtype=np.uint8)
        for edge in (np.s_[:, :1], np.s_[:, -1:], np.s_[:, :, :1], np.s_[:, :, -1:]):
            frames[edge] = (40, 120, 220)[person]
        np.save(place / f"p{person}_{action}.npy", frames)
    return place


def videos(place: Path, cache: Path, **options: Any) -> Part:
    """The folder as the data of a run."""
    plain = {"pattern": r"p(?P<person>\d)_(?P<action>.+)", "size": 16, "steps": 6, "cache": str(cache), "progress": False}
    return Part(name="videos", options={"folder": str(place), **plain, **options})
