"""Which frames of a clip are kept, and how a picture of any size becomes one of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillmotion.core.errors import FileRefused, UserError

Fit = Literal["crop", "letterbox"]
Pixels = NDArray[np.uint8]
Moment = tuple[float | None, Callable[[], Pixels]]


@dataclass(frozen=True)
class FrameSpec:
    """How frames are read: size and colour, which ones, and what is too much.

    size: side of the square frames in pixels. fit: cut off what sticks out of the central square ("crop"), or keep the whole
    picture between black bars ("letterbox"). grey: one channel instead of three.
    fps: frames per second to keep, nearest in time (None: all); then every `stride`-th is taken.
    max_pixels: of one source frame. max_frames: kept of one clip. max_seconds, max_bytes: of one source file.
    Raises UserError for a value out of range.
    """

    size: int = 64
    fit: Fit = "crop"
    grey: bool = False
    stride: int = 1
    fps: float | None = None
    max_pixels: int = 50_000_000
    max_frames: int = 1_000_000
    max_seconds: float = 6 * 3600
    max_bytes: int = 64 * 2**30

    def __post_init__(self) -> None:
        if not 2 <= self.size <= 4096:
            raise UserError("a frame size from 2 to 4096 pixels", f"{self.size}")
        if self.fit not in get_args(Fit):
            raise UserError("a fit of crop or letterbox", repr(self.fit))
        if self.stride < 1:
            raise UserError("a stride of 1 or more", f"{self.stride}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UserError("frames per second above 0 and at most 1000", f"{self.fps}")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, size, size) of a frame as it is kept."""
        return (1 if self.grey else 3, self.size, self.size)


def refuse(path: Path, why: str, remedy: str) -> FileRefused:
    """The error for a file that cannot be a clip."""
    return FileRefused("a readable clip", f"{path}: {why}", remedy)


def check_pixels(path: Path, width: int, height: int, spec: FrameSpec) -> None:
    """Raises FileRefused for a picture that is too large to decode safely."""
    if width * height > spec.max_pixels:
        raise refuse(path, f"frames of {width} x {height} pixels, over the limit of {spec.max_pixels:,}", "Scale the video down first.")


def fit_image(image: Image.Image, spec: FrameSpec, aspect: float = 1.0) -> Pixels:
    """The picture as uint8 (C, size, size), antialiased; `aspect` is the width of one source pixel over its height."""
    image = image.convert("L" if spec.grey else "RGB")
    fitted = _crop(image, spec.size, aspect) if spec.fit == "crop" else _letterbox(image, spec.size, aspect)
    pixels = np.asarray(fitted, dtype=np.uint8)
    return pixels[None] if spec.grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _crop(image: Image.Image, size: int, aspect: float) -> Image.Image:
    side = min(image.width * aspect, image.height)
    left, top = (image.width - side / aspect) / 2, (image.height - side) / 2
    box = (left, top, image.width - left, image.height - top)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _letterbox(image: Image.Image, size: int, aspect: float) -> Image.Image:
    scale = size / max(image.width * aspect, image.height)
    inner = (max(1, round(image.width * aspect * scale)), max(1, round(image.height * scale)))
    canvas = Image.new(image.mode, (size, size))
    canvas.paste(image.resize(inner, Image.Resampling.BICUBIC), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas


def select(moments: Iterable[Moment], spec: FrameSpec, notes: list[str]) -> Iterator[Callable[[], Pixels]]:
    """The moments that are kept, as functions that decode them: nearest to the target rate, then every `stride`-th."""
    kept = (frame for _, frame in moments) if spec.fps is None else _nearest(moments, spec.fps, notes)
    return islice(kept, 0, None, spec.stride)


def _nearest(moments: Iterable[Moment], fps: float, notes: list[str]) -> Iterator[Callable[[], Pixels]]:
    """For each of the times 0, 1/fps, 2/fps, ... the frame nearest to it; a picture may be passed over or repeated."""
    before: tuple[float, Callable[[], Pixels]] | None = None
    wanted = 0
    for time, frame in moments:
        if time is None:
            if not wanted:
                notes.append("has no clock: the target rate has no effect, all frames are kept")
            wanted += 1
            yield frame
            continue
        while before and wanted / fps < (before[0] + time) / 2:
            yield before[1]
            wanted += 1
        before = (time, frame)
    while before and wanted / fps <= before[0] + 1e-6:
        yield before[1]
        wanted += 1
