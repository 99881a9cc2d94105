"""Which frames of a clip are missing: said by number, drawn at random, or read from a file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillmotion.core.errors import FileRefused, UserError

PART = re.compile(r"(\d+)|(\d*)-(\d*)")
SHAPE = "A range is 7, 5-12 (both ends count), 30- (to the end) or -4 (from the start); join them with commas."


def missing_frames(text: str, steps: int) -> Tensor:
    """Ranges as "5-12,20,30-" to (steps,) bool, true where a frame is missing. Frames count from 0, both ends of a range belong to it.

    Raises UserError for what is no range, for one that runs backwards and for frames that the clip does not have.
    """
    missing = torch.zeros(steps, dtype=torch.bool)
    for part in text.replace(" ", "").split(","):
        first, last = _ends(part, steps)
        if first > last:
            raise UserError("a range whose first frame is not after its last", repr(part), SHAPE)
        if last >= steps:
            raise UserError(f"frames from 0 to {steps - 1}, which this clip has", repr(part), "Frames count from 0.")
        missing[first : last + 1] = True
    return missing


def _ends(part: str, steps: int) -> tuple[int, int]:
    match = PART.fullmatch(part)
    if match is None or part == "-":
        raise UserError("ranges of frames", repr(part), SHAPE)
    if match[1]:
        return int(match[1]), int(match[1])
    if match[2] and not match[3] and int(match[2]) >= steps:
        return int(match[2]), int(match[2])  # behind the end: refused as any other frame there
    return int(match[2] or 0), int(match[3] or steps - 1)


def random_frames(share: float, steps: int, seed: int) -> Tensor:
    """That share of `steps` frames, rounded to whole frames and drawn from `seed`, as (steps,) bool.

    Raises UserError for a share outside 0 to 1 and for one that takes no frame, or all of them.
    """
    if not 0 < share < 1:
        raise UserError("a share of frames between 0 and 1", f"{share:g}", "0.5 takes half of them.")
    count = round(share * steps)
    if not 0 < count < steps:
        raise UserError("a share that takes some frames and leaves some", f"{share:g} of {steps} frames, which is {count} of them")
    missing = torch.zeros(steps, dtype=torch.bool)
    missing[torch.randperm(steps, generator=torch.Generator().manual_seed(seed))[:count]] = True
    return missing


def masked_frames(path: Path, steps: int) -> Tensor:
    """What a mask file lacks, (steps,) bool: a .npy or .txt of one 1 (there) or 0 (missing) for each frame.

    In a .txt blanks, commas and line ends between the digits do not matter. Raises FileRefused for anything else.
    """
    flags = _flags(path)
    if len(flags) != steps:
        raise FileRefused(f"a mask of {steps} entries, one for each frame of the clip", f"{path}, which has {len(flags)}")
    return torch.tensor([flag == 0 for flag in flags])


def _flags(path: Path) -> list[float]:
    rule = "Write one 1 (the frame is there) or 0 (it is missing) for each frame, as .txt or .npy."
    try:
        if path.suffix == ".npy":
            flags = np.load(path, allow_pickle=False)
            values = [float(flag) for flag in flags] if flags.ndim == 1 else []
        else:
            values = [float(letter) for letter in re.sub(r"[\s,]", "", path.read_text(encoding="utf-8"))]
    except OSError as error:
        raise FileRefused("a mask file", f"{path}: {error.strerror or error}", rule) from error
    except ValueError as error:
        raise FileRefused("a mask of zeros and ones", f"{path}", rule) from error
    if not values or not set(values) <= {0.0, 1.0}:
        raise FileRefused("a mask of zeros and ones", f"{path}", rule)
    return values
