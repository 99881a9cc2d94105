"""Nine persons at four actions, small: every frame is one colour, red for who it is and green for what is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.metrics.judge import Verdicts

PERSONS = tuple(map(str, range(9)))
ACTIONS = ("bend", "jumping-jack", "wave-one-hand", "wave-two-hands")
SIDE, LENGTH = 16, 20


def write(root: Path) -> Path:
    """The folder `weizmann` below a root, clip by clip; blue tells the frame."""
    folder = root / "weizmann"
    folder.mkdir(parents=True)
    for person in range(9):
        for action, name in enumerate(ACTIONS):
            frames = np.zeros((LENGTH + person % 3, SIDE, SIDE, 3), dtype=np.uint8)
            frames[..., 0], frames[..., 1] = 20 + 25 * person, 30 + 60 * action
            frames[..., 2] = 5 * np.arange(len(frames))[:, None, None]
            np.save(folder / f"person-{person}_{name}.npy", frames)
    return root


class Eye:
    """A judge that reads both off the colour of the middle frame."""

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        return {"person": PERSONS, "action": ACTIONS}

    def read(self, clips: Clips) -> Verdicts:
        red, green = (255 * clips.frames[:, clips.frames.shape[1] // 2, k].mean((-2, -1)) for k in (0, 1))
        person, action = ((red - 20) / 25).round().long().clamp(0, 8), ((green - 30) / 60).round().long().clamp(0, 3)
        logits = {"person": 5 * _one_hot(person, 9), "action": 5 * _one_hot(action, 4)}
        return Verdicts(logits, torch.stack([person, action], 1).float())


def _one_hot(index: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(index, classes).float()
