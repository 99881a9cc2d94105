"""Small real files for the tests of reading videos. Frame number k of each has the grey level 16 + 8 k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillmotion.data.decode import read_frames
from stillmotion.data.fitting import FrameSpec

CODECS = {"mp4": ("libx264", "yuv420p"), "webm": ("libvpx-vp9", "yuv420p"), "avi": ("mjpeg", "yuvj420p"), "mkv": ("mpeg4", "yuv420p"),
          "mov": ("libx264", "yuv420p")}  # fmt: skip


def levels(count: int = 12) -> NDArray[np.uint8]:
    return (16 + 8 * np.arange(count)).astype(np.uint8)


def ramp(count: int = 12, height: int = 16, width: int = 16) -> NDArray[np.uint8]:
    """Frames (F, H, W, 3), each of one grey that tells its number."""
    return np.broadcast_to(levels(count)[:, None, None, None], (count, height, width, 3)).copy()


def write_av(
    path: Path, frames: NDArray[np.uint8], fps: int = 10, container: str | None = None, options: dict[str, str] | None = None
) -> Path:
    import av

    name, layout = CODECS[container or path.suffix[1:]]
    with av.open(str(path), "w", format={"mkv": "matroska"}.get(container or path.suffix[1:], container), options=options or {}) as file:
        stream = file.add_stream(name, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], layout
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """An mp4 with a second of silence and no picture."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_gif(path: Path, frames: NDArray[np.uint8], duration: int = 100) -> Path:
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:], duration=duration)
    return path


def write_pictures(folder: Path, frames: NDArray[np.uint8], ending: str = "png") -> Path:
    """frame1, frame2, ..., frame10: numbers without leading zeros, so that only counting order is right."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / f"frame{number}.{ending}")
    return folder


def write_one_of_each(folder: Path, count: int = 12) -> list[str]:
    """A clip of every kind below `folder`; returns their names."""
    frames = ramp(count)
    names = [write_av(folder / f"clip.{ending}", frames).name for ending in CODECS]
    names.append(write_gif(folder / "clip.gif", frames).name)
    names += [write_pictures(folder / kind, frames, kind).name for kind in ("png", "jpg")]
    np.save(folder / "clip.npy", frames)
    np.savez_compressed(folder / "clip.npz", frames=frames[..., 0], other=np.zeros(3))
    return [*names, "clip.npy", "clip.npz"]


def read(path: Path, spec: FrameSpec | None = None, notes: list[str] | None = None) -> NDArray[np.uint8]:
    return np.concatenate(list(read_frames(path, spec or FrameSpec(size=16), notes)))


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    """The numbers of frames (F, C, H, W) from a ramp, by their mean grey."""
    return [int(number) for number in np.rint((frames.reshape(len(frames), -1).mean(1) - 16) / 8)]
