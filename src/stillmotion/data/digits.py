"""Moving digits: one digit per clip on a straight path that bounces off the borders.

What stays is the digit's image, what moves is its place. The images are MNIST where the data root has it, else the 1,797 small
digits that come with scikit-learn; no image is in two splits.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.roots import data_root, find

DIRECTIONS = ("left and up", "right and up", "left and down", "right and down")
CLASSES = {"digit": tuple("0123456789"), "direction": DIRECTIONS}

# Fractions of the frame side (28 and 2 to 5 pixels of 64); a digit's own side is that of MNIST.
SIDE = 28 / 64
VELOCITIES = (2 / 64, 5 / 64)
CHUNK = 256  # clips drawn at once: some tens of MB of indices

Source = Literal["auto", "mnist", "sklearn"]


def load(
    *, root: Path | None = None, clips: int = 8000, validation: int = 400, test: int = 800, steps: int = 16, size: int = 64,
    seed: int = 0, grey: bool = False, source: Source = "auto",
) -> Splits:
    """Clips of `steps` frames, `size` x `size`, in three colour channels that are equal, or in one where `grey`.

    root: data root, see `data_root`. source: "auto" takes MNIST where the root has it (the training images; the test images
    where those are missing), else scikit-learn's digits. Labels: digit, direction (the quadrant it sets out to), and image.
    The images are shared out to the splits in proportion to their clips. Raises FileRefused for MNIST files that are asked for
    and missing, or damaged; UserError for numbers too small.
    """
    counts = (clips, validation, test)
    if min(*counts, steps) < 1 or size < 16:
        raise UserError("at least 1 clip of 1 frame in each split, of 16 pixels", f"{counts} clips of {steps} frames of {size} pixels")
    images, digits = _images(data_root(root), source)
    images = _resize(images, round(SIDE * size))
    generator = torch.Generator().manual_seed(seed)
    pools = _share_out(len(images), counts, generator)
    parts = (_make(images, digits, pool, count, steps, size, generator) for pool, count in zip(pools, counts, strict=True))
    return Splits(*(part if grey else _in_colour(part) for part in parts))


# Paths


def fold(position: Tensor, width: float) -> Tensor:
    """Where a point that flies straight to `position` is if it bounces elastically off 0 and `width`."""
    phase = position.remainder(2 * width)
    return torch.minimum(phase, 2 * width - phase)


def paths(start: Tensor, velocity: Tensor, width: float, steps: int) -> Tensor:
    """Places (N, steps, 2) in [0, width], from starts and velocities (N, 2), at frames 0 to steps - 1."""
    time = torch.arange(steps, dtype=start.dtype)
    return fold(start[:, None] + velocity[:, None] * time[None, :, None], width)


# Clips


def _share_out(images: int, counts: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Disjoint sets of images, in proportion to the clips to be made of them, none empty."""
    shares = [max(1, images * count // sum(counts)) for count in counts[1:]]
    order = torch.randperm(images, generator=generator)
    return torch.split(order, [images - sum(shares), *shares])


def _make(images: Tensor, digits: Tensor, pool: Tensor, count: int, steps: int, size: int, generator: torch.Generator) -> ClipSet:
    """A set of grey clips; each image of the pool is used about equally often."""
    image = pool[torch.randperm(count, generator=generator) % len(pool)]
    width = size - images.shape[-1]
    chance = torch.rand(4, count, generator=generator, dtype=torch.float64)
    speed = size * (VELOCITIES[0] + (VELOCITIES[1] - VELOCITIES[0]) * chance[2])
    heading = 2 * math.pi * chance[3]
    velocity = torch.stack([speed * heading.cos(), speed * heading.sin()], 1)
    places = paths(width * chance[:2].T, velocity, width, steps).round().long()
    labels = {"digit": digits[image], "direction": (velocity > 0).long() @ torch.tensor([1, 2]), "image": image}
    return ClipSet.whole(draw(images[image], places, size)[:, :, None], labels, CLASSES, moving=("direction",))


def draw(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Frames (N, T, size, size) uint8, black but for image n (N, side, side), whose left upper corner is at places[n, t] = (x, y)."""
    count, steps = places.shape[:2]
    frames = torch.zeros(count, steps, size, size, dtype=torch.uint8)
    reach = torch.arange(images.shape[-1])
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        column, row = (places[part, :, axis, None] + reach for axis in (0, 1))
        clip, step = torch.arange(part.start, part.stop)[:, None, None, None], torch.arange(steps)[:, None, None]
        frames[clip, step, row[..., :, None], column[..., None, :]] = images[part, None]
    return frames


def _in_colour(clips: ClipSet) -> ClipSet:
    """The same clips with three equal channels, which share their memory."""
    return replace(clips, frames=clips.frames.expand(-1, 3, -1, -1))


# Images


def _images(root: Path, source: Source) -> tuple[Tensor, Tensor]:
    """Images (N, S, S) uint8 and their digits (N,) int64."""
    for part in ("train", "t10k"):
        files = [_idx(root, f"{part}-images-idx3-ubyte"), _idx(root, f"{part}-labels-idx1-ubyte")]
        if source != "sklearn" and files[0] and files[1]:
            return _read_mnist(files[0], files[1])
    if source == "mnist":
        remedy = "Run `stillmotion data prepare mnist`, or name the folder that has them with --data-root."
        got = "neither these nor the t10k files there"
        raise FileRefused(f"train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz in {root} or {root / 'mnist'}", got, remedy)
    return _sklearn()


def _idx(root: Path, name: str) -> Path | None:
    return find(root, f"{name}.gz", name, f"mnist/{name}.gz", f"mnist/{name}")


def _read_mnist(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    pixels, digits = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2]:
        raise FileRefused(f"square images (N, S, S) in {images}", f"shape {pixels.shape}", "Is it another idx file?")
    if digits.shape != pixels.shape[:1] or digits.max(initial=0) > 9:
        got = f"shape {digits.shape} with labels up to {digits.max(initial=0)}"
        raise FileRefused(f"{len(pixels)} labels from 0 to 9 in {labels}", got, f"It does not belong to {images}.")
    return torch.from_numpy(pixels), torch.from_numpy(digits.astype(np.int64))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes, plain or gzipped. Raises FileRefused if it is not one, or is cut short."""
    remedy = "Delete it and run `stillmotion data prepare mnist`."
    data = _plain(path, remedy)
    if len(data) < 4 or data[:3] != b"\0\0\x08" or data[3] == 0:
        raise FileRefused(f"{path} to begin with the magic number of an idx file of bytes", f"{data[:4].hex() or 'nothing'}", remedy)
    head = 4 + 4 * data[3]
    shape = tuple(int(side) for side in np.frombuffer(data[4:head], ">u4", count=(min(len(data), head) - 4) // 4))
    if len(shape) < data[3] or len(data) != head + math.prod(shape):
        got = f"{len(data)} bytes" + ("" if len(shape) < data[3] else f" where its header says {head + math.prod(shape)}")
        raise FileRefused(f"{path} to be as long as its header says", got, remedy)
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape).copy()


def _plain(path: Path, remedy: str) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise FileRefused(f"{path} to be a readable idx file", f"{type(error).__name__}: {error}", remedy) from error


def _sklearn() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.images) * (255 / 16)
    return pixels.round().byte(), torch.from_numpy(digits.target).long()


def _resize(images: Tensor, side: int) -> Tensor:
    """Images (N, side, side) uint8."""
    if images.shape[-1] == side:
        return images
    larger = interpolate(images[:, None].float(), size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return larger[:, 0].round_().clamp_(0, 255).byte()
