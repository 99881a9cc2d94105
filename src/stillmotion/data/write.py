"""Clips written as files: gif, mp4, webm, a film strip, or a folder of pictures."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data.fitting import Pixels

PALETTE_PIXELS = 500_000
Codec = tuple[str, dict[str, str]]
KNOWN = ".gif, .mp4, .webm, .png (a film strip), or a folder name that ends with / (one png per frame)"


def write_video(frames: Tensor, path: str | Path, fps: float = 12, scale: int = 1) -> Path:
    """Writes frames (T, C, H, W), float in [0, 1] or uint8, in the format that the ending of `path` names; returns the path.

    fps: frames per second. scale: each pixel becomes a square of `scale` x `scale` pixels.
    The file appears complete or not at all. Raises UserError for an unknown ending, wrong shapes, and a place that cannot be written.
    """
    if not 0 < fps <= 1000:
        raise UserError("frames per second above 0 and at most 1000", f"{fps}")
    pixels = _pixels(frames, scale)
    target = Path(path)
    if str(path).endswith(("/", os.sep)) or target.is_dir():
        return _write_folder(pixels, target)
    writers: dict[str, Callable[[Pixels, Path, float], None]] = {".gif": _gif, ".mp4": _mp4, ".webm": _webm, ".png": _strip}
    if target.suffix.lower() not in writers:
        raise UserError("a known ending", f"{target.name!r}", f"Known are {KNOWN}.")
    with draft(target) as temporary:
        writers[target.suffix.lower()](pixels, temporary, fps)
    return target


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """A temporary file beside `target`, with its ending, that takes its name when all went well and is gone when not.

    Raises UserError where the place cannot be written or the disk is full.
    """
    temporary = _draft_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _draft_name(target: Path) -> Path:
    return target.with_name(f".draft-{secrets.token_hex(6)}{target.suffix}")


def _cannot_write(target: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return UserError("a place to write to", f"{target} ({error.strerror})", "Free some space." if full else "Choose another place.")


def _pixels(frames: Tensor, scale: int) -> Pixels:
    """The frames as uint8 (T, H, W, 3)."""
    if frames.ndim != 4 or frames.shape[1] not in (1, 3) or not len(frames):
        raise UserError("frames of shape (T, C, H, W) with 1 or 3 channels", f"shape {tuple(frames.shape)}")
    if scale < 1:
        raise UserError("a scale of 1 or more", f"{scale}")
    frames = frames.detach().cpu()
    if frames.dtype != torch.uint8:
        if not frames.isfinite().all():
            raise UserError("finite pixels", "NaN or infinite ones", "The model has diverged; load an earlier checkpoint.")
        frames = frames.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    frames = frames.expand(-1, 3, -1, -1).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy())


def _gif(pixels: Pixels, path: Path, fps: float) -> None:
    """A looped gif. All frames share one palette and none is dithered: otherwise still surfaces would flicker."""
    palette = _palette(pixels)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in pixels]
    # The format counts in hundredths of a second, and viewers slow down anything faster than two of them.
    duration = max(20, round(100 / fps) * 10)
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0, optimize=False)


def _palette(pixels: Pixels) -> Image.Image:
    """256 colours for the whole clip, from at most half a million of its pixels."""
    colours = pixels.reshape(1, -1, 3)
    some = colours[:, :: max(1, colours.shape[1] // PALETTE_PIXELS)]
    return Image.fromarray(np.ascontiguousarray(some)).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _mp4(pixels: Pixels, path: Path, fps: float) -> None:
    # 4:2:0 is the one layout that every player shows; at this quality nothing else is lost.
    x264 = ("libx264", {"crf": "12", "preset": "medium"})
    _encode(pixels, path, fps, "mp4", [x264, ("mpeg4", {"qscale": "2"})], {"movflags": "+faststart"})


def _webm(pixels: Pixels, path: Path, fps: float) -> None:
    vp9 = ("libvpx-vp9", {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "4"})
    _encode(pixels, path, fps, "webm", [vp9, ("libvpx", {"crf": "6", "b": "4M"})], {})


def _encode(pixels: Pixels, path: Path, fps: float, container: str, codecs: list[Codec], options: dict[str, str]) -> None:
    av = _import_av(path)
    usable = [(name, settings) for name, settings in codecs if name in av.codecs_available]
    if not usable:
        raise UserError(f"an encoder for {container}", "a PyAV without one", "Write a .gif, or run: pip install --force-reinstall av")
    name, settings = usable[0]
    pixels = _even(pixels)
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(name, rate=Fraction(fps).limit_denominator(30000), options=settings)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], "yuv420p"
        for frame in pixels:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def _import_av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        remedy = "pip install 'stillmotion[video]', or write a .gif."
        raise UserError(f"PyAV, to write {path.suffix} files", "a Python without it", remedy) from error
    return av


def _even(pixels: Pixels) -> Pixels:
    """The frames with even height and width, which encoders ask for; the last row or column is repeated."""
    return np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)), mode="edge")


def _strip(pixels: Pixels, path: Path, fps: float) -> None:
    Image.fromarray(np.concatenate(list(pixels), axis=1)).save(path)


def _write_folder(pixels: Pixels, folder: Path) -> Path:
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError("a new or empty folder", f"{folder}, which holds files", "Choose another name, or empty it first.")
    temporary = _draft_name(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        for index, frame in enumerate(pixels):
            Image.fromarray(frame).save(temporary / f"frame_{index:04d}.png")
        temporary.replace(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def tile(clips: Tensor | Sequence[Sequence[Tensor]], gap: int = 2, header: Tensor | None = None, side: Tensor | None = None) -> Tensor:
    """Clips (R, N, T, C, H, W) laid out as R rows of N on white: frames (T, C, H', W') of the dtype of the clips.

    header (N, T, C, H, W), side (R, T, C, H, W): clips above the columns and left of the rows, set apart by a wider gap.
    gap: pixels between clips. Raises UserError for shapes that do not fit together.
    """
    body = clips if isinstance(clips, Tensor) else torch.stack([torch.stack(list(row)) for row in clips])
    if body.ndim != 6:
        raise UserError("clips of shape (rows, columns, T, C, H, W)", f"shape {tuple(body.shape)}")
    rows, columns, steps, channels, height, width = body.shape
    for name, edge, count in (("header", header, columns), ("side", side, rows)):
        if edge is not None and tuple(edge.shape) != (count, *body.shape[2:]):
            raise UserError(f"a {name} of shape {(count, *body.shape[2:])}", f"shape {tuple(edge.shape)}")
    top = 0 if header is None else height + 4 * gap
    left = 0 if side is None else width + 4 * gap
    size = (steps, channels, top + rows * (height + gap) - gap, left + columns * (width + gap) - gap)
    canvas = torch.full(size, 255 if body.dtype == torch.uint8 else 1.0, dtype=body.dtype, device=body.device)

    def put(clip: Tensor, y: int, x: int) -> None:
        canvas[:, :, y : y + height, x : x + width] = clip

    for row in range(rows):
        for column in range(columns):
            put(body[row, column], top + row * (height + gap), left + column * (width + gap))
    for column, clip in enumerate(header if header is not None else ()):
        put(clip, 0, left + column * (width + gap))
    for row, clip in enumerate(side if side is not None else ()):
        put(clip, top + row * (height + gap), 0)
    return canvas
