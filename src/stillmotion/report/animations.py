"""Clips as moving pictures: for the page as WebP in the page itself, for people as GIF files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from stillmotion.core.abilities import Decodes, Encodes, Swaps, require
from stillmotion.data.base import ClipSet
from stillmotion.data.fitting import Pixels
from stillmotion.data.write import tile, write_video
from stillmotion.report.folder import Finished, spread
from stillmotion.tasks import clips as tasks
from stillmotion.tasks.codes import encode

GRID, COLUMNS, NEW_ROWS, LONG, STRIP_FRAMES = 5, 6, 2, 40, 12
MOST_FRAMES = 48
GAP = 2
MOST_BYTES, MOST_PIXELS = 750_000, 6_000_000
"""A lossless picture of more bytes is kept with loss instead; one of more pixels is not even tried."""
WIDEST = 1000
GIF_WIDTH = 800


@dataclass(frozen=True)
class Picture:
    """A picture inside the page. source: a data URI. width, height: CSS pixels.

    still: the first frame of an animation, for those who want no motion; empty for a picture that does not move.
    """

    source: str
    still: str
    width: int
    height: int


def reconstructions(finished: Finished, clips: ClipSet) -> Tensor:
    """Real clips above what the model makes of them, (2, N, T, C, H, W). Raises MissingAbility."""
    require(finished.model, Encodes), require(finished.model, Decodes)
    real = spread(clips, COLUMNS).clips()
    made = tasks.reconstruct(finished.model, real)
    # what is not there is shown empty, in the model's row too
    return _short(torch.stack([real.frames, made * real.mask[:, :, None, None, None]]), 2)


def swaps(finished: Finished, clips: ClipSet) -> tuple[Tensor, Tensor]:
    """The grid of swaps (N, N, T, C, H, W), row = whose movement, column = whose identity; and the originals (N, T, C, H, W)."""
    require(finished.model, Swaps)
    real = spread(clips, GRID).clips()
    codes = encode(finished.model, real)
    grid = tasks.swap_grid(finished.model, [codes[k : k + 1] for k in range(len(real))])
    return _short(grid, 2), _short(real.frames[:, : grid.shape[2]], 1)


def new_clips(finished: Finished, rows: int, steps: int, source: str) -> Tensor:
    """Clips drawn from the priors or from the aggregate posterior, (rows, COLUMNS, T, C, H, W). Raises MissingAbility."""
    drawn = tasks.generate(finished.model, rows * COLUMNS, steps, finished.run.seed, source=source)
    return _short(drawn.view(rows, COLUMNS, *drawn.shape[1:]), 2)


def strip_of(reconstruction: Tensor) -> Tensor:
    """Some frames of the first two clips side by side, as one still: (4, frames, 1, C, H, W), rows real and model by turns."""
    steps = reconstruction.shape[2]
    some = torch.linspace(0, steps - 1, min(STRIP_FRAMES, steps)).round().long()
    pairs = [reconstruction[row, clip, some] for clip in range(min(2, reconstruction.shape[1])) for row in range(2)]
    return torch.stack(pairs)[:, :, None]


def rate(finished: Finished) -> float:
    """Frames per second to show clips at: those of the data where they are known."""
    return float(finished.run.data.options.get("fps") or 12)


def picture(
    clips: Tensor, fps: float, *, header: Tensor | None = None, side: Tensor | None = None, widest: int = WIDEST, foot: int = 0
) -> Picture:
    """Clips (R, N, T, C, H, W) as one looped picture; what lies between them is transparent.

    foot: pixels that are left free under each clip, to write on.
    """
    frames = _rgba(clips, header, side, foot)
    height, width = frames.shape[1:3]
    if width > widest:
        frames = _shrunk(frames, widest / width)
        height, width = frames.shape[1:3]
    zoom = max(1, widest // width)
    still = _uri(_webp(frames[:1], fps)) if len(frames) > 1 else ""
    return Picture(_uri(_webp(frames, fps)), still, width * zoom, height * zoom)


def write_gif(clips: Tensor, path: Path, fps: float, *, header: Tensor | None = None, side: Tensor | None = None) -> Path:
    """The same as a file, on white and enlarged for viewing."""
    frames = tile(clips, header=header, side=side)
    return write_video(frames, path, fps, max(1, GIF_WIDTH // frames.shape[-1]))


def _short(clips: Tensor, axis: int) -> Tensor:
    return clips.narrow(axis, 0, min(clips.shape[axis], MOST_FRAMES))


def _rgba(clips: Tensor, header: Tensor | None, side: Tensor | None, foot: int) -> Pixels:
    """uint8 (T, H, W, 4). The tiles get a fourth channel of zeros; the gaps, which are filled with ones, then tell themselves."""

    def marked(part: Tensor | None) -> Tensor | None:
        if part is None:
            return None
        colour = part.expand(*part.shape[:-3], 3, *part.shape[-2:])
        return F.pad(torch.cat([colour, torch.zeros_like(colour[..., :1, :, :])], -3), (0, 0, 0, foot), value=1.0)

    body = marked(clips)
    assert body is not None
    frames = tile(body, GAP, marked(header), marked(side))
    frames[:, 3] = 1 - frames[:, 3]
    pixels: Pixels = frames.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


def _shrunk(frames: Pixels, factor: float) -> Pixels:
    height, width = frames.shape[1:3]
    size = round(width * factor), round(height * factor)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def _webp(frames: Pixels, fps: float) -> bytes:
    """Without loss where that is small. With loss the picture is kept at twice its size: WebP halves the resolution of colours."""
    content = b""
    if frames.size // 4 <= MOST_PIXELS:
        content = _encode(frames, fps, lossless=True, quality=40)
        if len(content) <= MOST_BYTES:
            return content
    doubled = frames.repeat(2, 1).repeat(2, 2) if frames.shape[2] * 2 <= WIDEST else frames
    for quality in (80, 50, 25):
        content = _encode(doubled, fps, lossless=False, quality=quality)
        if len(content) <= MOST_BYTES:
            break
    return content


def _encode(frames: Pixels, fps: float, *, lossless: bool, quality: int) -> bytes:
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    buffer = io.BytesIO()
    moving = {"save_all": True, "append_images": images[1:], "duration": round(1000 / fps), "loop": 0} if len(images) > 1 else {}
    images[0].save(buffer, "WEBP", lossless=lossless, quality=quality, method=3, **moving)
    return buffer.getvalue()


def _uri(content: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(content).decode()
