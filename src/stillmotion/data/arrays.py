"""Clips in npy and npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillmotion.data.fitting import FrameSpec, Moment, Pixels, check_pixels, fit_image, refuse

LAYOUTS = "Save frames as (F, H, W), (F, H, W, C) or (F, C, H, W), uint8 or float in [0, 1]."


def array_moments(path: Path, kind: str, spec: FrameSpec) -> Iterator[Moment]:
    """The frames of an array file, without a clock. Raises FileRefused for anything that is not an array of frames."""
    frames = _channels_last(path, _open(path, kind, spec))
    check_pixels(path, frames.shape[2], frames.shape[1], spec)
    for index in range(len(frames)):
        yield None, partial(_frame, path, frames, index, spec)


def _open(path: Path, kind: str, spec: FrameSpec) -> NDArray[Any]:
    try:
        if kind == "npy":
            # Memory-mapped, so that an array larger than memory is read frame by frame.
            return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
        return _from_archive(path, spec)
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        if "bject" in str(error):
            raise refuse(path, "holds pickled Python objects, which could run code", LAYOUTS) from error
        raise refuse(path, f"damaged or truncated array file ({error})", LAYOUTS) from error


def _from_archive(path: Path, spec: FrameSpec) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist() if info.filename.endswith(".npy")}
    if len(sizes) != 1 and "frames" not in sizes:
        raise refuse(path, f"holds {len(sizes)} arrays and none is called frames", "Keep one array, or name the right one frames.")
    name = "frames" if "frames" in sizes else next(iter(sizes))
    limit = min(spec.max_bytes, 4 * 2**30)
    if sizes[name] > limit:
        raise refuse(path, f"unpacks to {sizes[name]:,} bytes, over the limit of {limit:,}", "Save it as npy, which is read in pieces.")
    with np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays[name])


def _channels_last(path: Path, frames: NDArray[Any]) -> NDArray[Any]:
    """A view (F, H, W) or (F, H, W, C) of the frames."""
    if frames.dtype != np.uint8 and frames.dtype.kind != "f":
        raise refuse(path, f"an array of {frames.dtype}", LAYOUTS)
    if frames.size and frames.ndim == 3:
        return frames
    if frames.size and frames.ndim == 4 and frames.shape[3] in (1, 3, 4):
        return frames[..., :3]
    if frames.size and frames.ndim == 4 and frames.shape[1] in (1, 3, 4):
        return np.moveaxis(frames, 1, 3)[..., :3]
    raise refuse(path, f"an array of shape {frames.shape}", LAYOUTS)


def _frame(path: Path, frames: NDArray[Any], index: int, spec: FrameSpec) -> Pixels:
    frame = np.asarray(frames[index])
    if frame.dtype != np.uint8:
        if not (np.isfinite(frame).all() and frame.min() >= 0 and frame.max() <= 1):
            raise refuse(path, f"pixels outside [0, 1] in frame {index} ({frame.min():g} to {frame.max():g})", LAYOUTS)
        frame = np.rint(frame * 255).astype(np.uint8)
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[..., 0]
    return fit_image(Image.fromarray(np.ascontiguousarray(frame)), spec)
