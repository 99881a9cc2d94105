"""One clip, whatever file it is in, as a stream of uint8 frames.

Frames are made small one by one as they are decoded, so a clip longer than memory is never held at its own size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from stillmotion.core.errors import FileRefused
from stillmotion.data.arrays import array_moments
from stillmotion.data.fitting import FrameSpec, Moment, Pixels, check_pixels, fit_image, refuse, select

CHUNK_BYTES = 8 * 2**20
BROKEN_PICTURE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
UNDERSTOOD = "mp4, mov, webm, mkv, avi, gif, npy, npz, and folders of numbered png, jpg or bmp pictures"
CONVERT = "Convert it, for example with: ffmpeg -i IN OUT.mp4"


def read_frames(path: Path, spec: FrameSpec, notes: list[str] | None = None, *, least: int = 2) -> Iterator[Pixels]:
    """Yields the kept frames in pieces (n, C, size, size) of a few megabytes each.

    path: a video, gif, npy or npz file, or a folder of pictures. notes: receives what is odd but no reason to refuse. least: frames
    there must be; with 1, a single picture will do.
    Raises FileRefused, with the file, the reason and the remedy, also after the first pieces where the reason shows late.
    """
    try:
        yield from _pieces(path, spec, [] if notes is None else notes, least)
    except FileRefused:
        raise
    # Decoders of files from anywhere fail in more ways than can be listed, and one bad file must never end a run.
    except Exception as error:
        raise refuse(path, f"cannot be decoded ({type(error).__name__}: {error})", "Copy or export it again.") from error


def _pieces(path: Path, spec: FrameSpec, notes: list[str], least: int) -> Iterator[Pixels]:
    count, piece = 0, []
    # At least two, so that a clip of one frame is refused before anything of it is handed out.
    room = max(2, CHUNK_BYTES // int(np.prod(spec.frame_shape)))
    for frame in select(_moments(path, spec, notes, least), spec, notes):
        count += 1
        if count > spec.max_frames:
            raise refuse(path, f"more than {spec.max_frames:,} frames", "Cut it, or keep fewer with a stride or a lower rate.")
        piece.append(frame())
        if len(piece) == room:
            yield np.stack(piece)
            piece = []
    if count < least:
        raise _too_short(path, count, spec, notes)
    if piece:
        yield np.stack(piece)


def _too_short(path: Path, count: int, spec: FrameSpec, notes: list[str]) -> Exception:
    if not count:
        return refuse(path, "; ".join(["no frame can be decoded", *notes]), "Copy or export it again.")
    thinned = " after thinning" if spec.stride > 1 or spec.fps else ""
    return refuse(path, f"only one frame{thinned}; a clip needs two or more", "Leave it out, or keep more frames.")


def kind_of(path: Path) -> str:
    """What a file is by its first bytes, whatever it is called: mov, matroska, avi, gif, npy, npz, picture, sound, or ""."""
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "mov"
    if head[:4] == b"RIFF":
        return {b"AVI ": "avi", b"WAVE": "sound"}.get(head[8:12], "")
    starts = {
        b"\x1aE\xdf\xa3": "matroska", b"GIF8": "gif", b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"\x89PNG": "picture",
        b"\xff\xd8\xff": "picture", b"BM": "picture", b"ID3": "sound", b"fLaC": "sound", b"\xff\xfb": "sound",
    }  # fmt: skip
    return next((kind for start, kind in starts.items() if head.startswith(start)), "")


def _moments(path: Path, spec: FrameSpec, notes: list[str], least: int) -> Iterator[Moment]:
    try:
        if path.is_dir():
            return _picture_moments(path, spec, notes)
        size, kind = path.stat().st_size, kind_of(path)
    except OSError as error:
        raise refuse(path, f"cannot be opened ({error.strerror})", "Check that it exists and that you may read it.") from error
    if not size:
        raise refuse(path, "the file is empty", "Copy or export it again.")
    if size > spec.max_bytes:
        raise refuse(path, f"{size:,} bytes, over the limit of {spec.max_bytes:,}", "Cut it into shorter files.")
    if kind in ("npy", "npz"):
        return array_moments(path, kind, spec)
    if kind == "gif":
        return _gif_moments(path, spec, notes)
    if kind in ("mov", "matroska", "avi"):
        return _video_moments(path, kind, spec, notes)
    if kind == "picture" and least < 2:
        return _still(path, spec, notes)
    if kind == "picture":
        raise refuse(path, "a single still picture", "Put the pictures of one clip, numbered, into a folder of their own.")
    if kind == "sound":
        raise refuse(path, "sound without pictures", "Leave it out.")
    raise refuse(path, "its content is no video that is understood here, whatever its name says", f"Understood are {UNDERSTOOD}. {CONVERT}")


def _video_moments(path: Path, kind: str, spec: FrameSpec, notes: list[str]) -> Iterator[Moment]:
    av = _import_av(path)
    # A plain file object and a fixed container format: ffmpeg can then follow no address and no playlist.
    with path.open("rb") as file:
        try:
            container = av.open(file, format=kind, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise refuse(path, f"damaged or truncated: {error.strerror}", "Copy or export it again.") from error
        with container:
            yield from _stream_moments(path, container, av.error.FFmpegError, spec, notes)


def _import_av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise refuse(path, "reading video files needs PyAV, which is not installed", "pip install 'stillmotion[video]'") from error
    return av


def _stream_moments(path: Path, container: Any, failure: type[Exception], spec: FrameSpec, notes: list[str]) -> Iterator[Moment]:
    if not container.streams.video:
        raise refuse(path, "no pictures in it, only sound or data", "Leave it out.")
    stream = container.streams.video[0]
    # Frame threading inside ffmpeg can deadlock beside torch's own threads.
    stream.thread_type = "SLICE"
    if stream.codec_context is None:
        raise refuse(path, "its pictures are coded in a way that is not understood here", CONVERT)
    check_pixels(path, stream.codec_context.width, stream.codec_context.height, spec)
    rate, aspect = float(stream.average_rate or 25), float(stream.sample_aspect_ratio or 1)
    count, first, time = 0, None, 0.0
    try:
        for frame in container.decode(stream):
            now = count / rate if frame.time is None else float(frame.time)
            first = now if first is None else first
            time = now - first
            _check_time(path, time, spec)
            check_pixels(path, frame.width, frame.height, spec)
            count += 1
            yield time, partial(_video_frame, frame, spec, aspect)
    except failure as error:
        notes.append(f"damaged after {count} frames: {getattr(error, 'strerror', error)}")
        return
    if _falls_short(container, stream, count, time, rate):
        notes.append(f"truncated after {count} frames")


def _check_time(path: Path, time: float, spec: FrameSpec) -> None:
    if time > spec.max_seconds:
        raise refuse(path, f"longer than {spec.max_seconds:g} seconds", "Cut it into shorter files.")


def _falls_short(container: Any, stream: Any, count: int, time: float, rate: float) -> bool:
    """Whether the header promised clearly more than was there; a few frames may be lost to editing marks."""
    if stream.frames:
        return bool(count < 0.95 * stream.frames - 2)
    seconds = (container.duration or 0) / 1e6
    # Sound may well outlast the pictures, so a duration tells of them only where they are alone.
    return len(container.streams) == 1 and time + 2 / rate < 0.95 * seconds


def _video_frame(frame: Any, spec: FrameSpec, aspect: float) -> Pixels:
    image: Image.Image = frame.to_image()
    turned = round(getattr(frame, "rotation", 0)) % 360
    if turned:
        image = image.rotate(turned, expand=True)
    return fit_image(image, spec, 1 / aspect if turned in (90, 270) else aspect)


def _gif_moments(path: Path, spec: FrameSpec, notes: list[str]) -> Iterator[Moment]:
    time = 0.0
    try:
        with Image.open(path) as image:
            check_pixels(path, *image.size, spec)
            for index in range(spec.max_frames * spec.stride + 1):
                image.seek(index)
                pixels = fit_image(_opaque(image), spec)
                _check_time(path, time, spec)
                yield time, partial(_same, pixels)
                time += image.info.get("duration", 100) / 1000
    except EOFError:
        if not _tail(path).rstrip(b"\0").endswith(b";"):
            notes.append(f"truncated after {index} frames")
    except FileRefused:
        raise
    except BROKEN_PICTURE as error:
        notes.append(f"damaged: {error}")


def _tail(path: Path) -> bytes:
    """The last bytes of a file, where a whole gif has its end mark."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        return file.read()


def _still(path: Path, spec: FrameSpec, notes: list[str]) -> Iterator[Moment]:
    pixels = _picture(path, spec, notes.append)
    if pixels is not None:
        yield None, partial(_same, pixels)


def _same(pixels: Pixels) -> Pixels:
    return pixels


def _opaque(image: Image.Image) -> Image.Image:
    """The picture on black, with 8 bits per channel."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image.convert("RGBA"))


def numbered_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder whose names hold a number, in counting order (9 before 10)."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.name[0] != "." and re.search(r"\d", p.stem)]
    return sorted(found, key=lambda p: natural(p.name))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which 9 comes before 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _picture_moments(folder: Path, spec: FrameSpec, notes: list[str]) -> Iterator[Moment]:
    for path in numbered_pictures(folder):
        pixels = _picture(path, spec, notes.append)
        if pixels is not None:
            yield None, partial(_same, pixels)


def _picture(path: Path, spec: FrameSpec, note: Callable[[str], None]) -> Pixels | None:
    try:
        with Image.open(path) as image:
            check_pixels(path, *image.size, spec)
            return fit_image(ImageOps.exif_transpose(_opaque(image)), spec)
    except FileRefused:
        raise
    except BROKEN_PICTURE:
        note(f"{path.name} cannot be read and is left out")
        return None
