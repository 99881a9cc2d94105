"""Pictures of a reproduction: laid out for the page, and with their labels drawn in for a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stillmotion.data.write import tile, write_video
from stillmotion.metrics.exhibits import Pictures
from stillmotion.report.animations import GAP, WIDEST, Picture, picture

FPS = 10
FONT, LINE, SPACE = 13, 18, 8
"""Of labels in files, in pixels: letters, the height of a line, and the room beside it."""


@dataclass(frozen=True)
class Grid:
    """rows, columns: labels, none or as many as there are. alt: the picture in words."""

    picture: Picture
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    alt: str


@dataclass(frozen=True)
class Laid:
    """tiles: uint8 (R, N, T, C, H, W) as they are shown; a strip has a tile for each frame, and a row for each clip, column by column."""

    tiles: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def lay(pictures: Pictures) -> Laid:
    """The tiles and their labels."""
    frames = torch.from_numpy(np.ascontiguousarray(pictures.frames))
    if not pictures.strip:
        return Laid(frames, pictures.row_labels, pictures.column_labels)
    rows, columns, steps = frames.shape[:3]
    across, down = pictures.column_labels or ("",) * columns, pictures.row_labels or ("",) * rows
    labels = tuple(", ".join(filter(None, (column, row))) for column in across for row in down)
    tiles = frames.transpose(0, 1).reshape(rows * columns, steps, 1, *frames.shape[3:])
    return Laid(tiles, labels if any(labels) else (), ())


def grid_of(pictures: Pictures) -> Grid:
    """The pictures for the page, each pixel as large as `scale` says where there is room."""
    laid = lay(pictures)
    wide = laid.tiles.shape[1] * (laid.tiles.shape[-1] + GAP) - GAP
    shown = picture(laid.tiles.float() / 255, FPS, widest=min(WIDEST, wide * pictures.scale))
    return Grid(shown, laid.rows, laid.columns, alt_of(pictures))


def alt_of(pictures: Pictures) -> str:
    """What is to be seen, in words."""
    rows, columns, steps = pictures.frames.shape[:3]
    told = f"{pictures.title}: {_side(rows, 'row', pictures.row_labels)} and {_side(columns, 'column', pictures.column_labels)}"
    if steps > 1:
        told += f", {steps} frames {'from left to right' if pictures.strip else 'each'}"
    return told + "."


def write_grid(pictures: Pictures, path: Path) -> Path:
    """Writes the pictures with their labels: path ends with .gif where they move, else with .png."""
    laid = lay(pictures)
    frames = tile(laid.tiles, GAP)
    frames = frames.expand(-1, 3, -1, -1).repeat_interleave(pictures.scale, 2).repeat_interleave(pictures.scale, 3)
    step_x, step_y = ((size + GAP) * pictures.scale for size in (laid.tiles.shape[-1], laid.tiles.shape[-2]))
    return write_video(_labelled(frames, laid, step_x, step_y), path, FPS)


def moves(pictures: Pictures) -> bool:
    """Whether it is an animation."""
    return pictures.frames.shape[2] > 1 and not pictures.strip


def _side(count: int, word: str, labels: tuple[str, ...]) -> str:
    return f"{count} {word}{'s' if count > 1 else ''}" + (f" ({', '.join(labels)})" if labels else "")


def _labelled(frames: Tensor, laid: Laid, step_x: int, step_y: int) -> Tensor:
    """Frames (T, 3, H, W) with the labels of rows on their left and those of columns above, on white."""
    font = ImageFont.load_default(FONT)
    columns = [_wrapped(text, step_x - SPACE, font) for text in laid.columns]
    left = int(max((font.getlength(text) for text in laid.rows), default=-SPACE)) + SPACE
    top = max((text.count("\n") + 1 for text in columns), default=0) * LINE
    margin = Image.new("RGB", (left + frames.shape[-1], top + frames.shape[-2]), "white")
    draw = ImageDraw.Draw(margin)
    for row, text in enumerate(laid.rows):
        draw.text((left - SPACE, top + (row + 0.5) * step_y - GAP), text, "#444444", font, anchor="rm")
    for column, text in enumerate(columns):
        lines = text.splitlines()
        for place, line in enumerate(lines):
            draw.text((left + (column + 0.5) * step_x - GAP, top - (len(lines) - place - 0.5) * LINE), line, "#444444", font, anchor="mm")
    whole = torch.from_numpy(np.array(margin)).permute(2, 0, 1).repeat(len(frames), 1, 1, 1)
    whole[:, :, top:, left:] = frames
    return whole


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text in as few lines of at most that width as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
