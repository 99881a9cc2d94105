"""Crops in the layout of MUG: drawn, as the data set itself needs a licence. Frame k of person p is one grey, 8 p + k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stillmotion.data.mug import ALIGNED, EXPRESSIONS


def write_take(folder: Path, frames: int, grey: int = 0, side: tuple[int, int] = (112, 112), ending: str = "bmp") -> Path:
    """One take of pictures of `side` (width, height); frame k has the grey level `grey` + k."""
    folder.mkdir(parents=True)
    for number in range(frames):
        Image.new("RGB", side, (grey + number,) * 3).save(folder / f"frame_det_00_{number + 1:06d}.{ending}")
    return folder


def write_faces(root: Path, people: int = 4, takes: int = 1, frames: int = 24, side: tuple[int, int] = (112, 112)) -> Path:
    """Takes of every expression by every person; returns the folder of crops."""
    for person in range(people):
        for expression in EXPRESSIONS:
            for take in range(takes):
                write_take(root / f"{person + 1:03d}" / expression / f"take{take:03d}{ALIGNED}", frames, 8 * person, side)
    return root


def middle_of(frames: object) -> list[int]:
    """The grey levels of frames (T, 3, H, W) in [0, 1]."""
    return [round(255 * float(level)) for level in np.asarray(frames)[:, 0, 8, 8]]
