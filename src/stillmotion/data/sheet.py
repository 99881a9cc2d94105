"""A contact sheet: clips of a set as rows of frames, with their labels beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.data.write import draft

MARGIN, GAP, LEAST, LINE = 24, 3, 72, 17
INK, FAINT, PAPER, ABSENT = (28, 28, 32), (128, 128, 136), (255, 255, 255), (240, 240, 242)


def contact_sheet(clips: ClipSet, path: str | Path, rows: int = 8, columns: int = 8, title: str = "") -> Path:
    """Writes a PNG with `rows` clips, evenly spread over the set, and `columns` evenly spaced frames of each.

    Frames that a short clip lacks are left pale. Raises UserError for an empty set, and where the file cannot be written.
    """
    if not len(clips):
        raise UserError("a set with clips in it", "an empty one", "Choose another split.")
    chosen = _spread(len(clips), rows)
    frames = _spread(clips.steps, columns)
    sheet = _Sheet(clips, chosen, frames, title)
    target = Path(path)
    with draft(target) as temporary:
        sheet.draw().save(temporary, format="PNG")
    return target


def _spread(count: int, wanted: int) -> list[int]:
    return [int(index) for index in np.linspace(0, count - 1, max(1, min(count, wanted))).round()]


class _Sheet:
    """Measures first, then draws."""

    def __init__(self, clips: ClipSet, chosen: list[int], frames: list[int], title: str) -> None:
        self.clips, self.chosen, self.frames, self.title = clips, chosen, frames, title
        self.font, self.small, self.large = (ImageFont.load_default(size) for size in (14, 11, 18))
        height, width = clips.frame_shape[1:]
        scale = max(1, -(-LEAST // height))
        self.cell = (width * scale, height * scale)
        self.texts = [_caption(clips, index, self.cell[1] // LINE) for index in chosen]
        self.left = MARGIN + round(max((self.font.getlength(line) for text in self.texts for line in text), default=0)) + 16
        self.top = MARGIN + (34 if title else 0) + 20

    def draw(self) -> Image.Image:
        width = max(self.left + len(self.frames) * (self.cell[0] + GAP), MARGIN + round(self.large.getlength(self.title))) + MARGIN
        page = Image.new("RGB", (width, self.top + len(self.chosen) * (self.cell[1] + GAP) + MARGIN - GAP), PAPER)
        pen = ImageDraw.Draw(page)
        pen.text((MARGIN, MARGIN), self.title, INK, self.large)
        for column, frame in enumerate(self.frames):
            label = f"frame {frame}" if not column else str(frame)
            pen.text((self._x(column) + self.cell[0] / 2, self.top - 6), label, FAINT, self.small, anchor="ms")
        for row, index in enumerate(self.chosen):
            self._row(page, pen, row, index)
        return page

    def _x(self, column: int) -> int:
        return self.left + column * (self.cell[0] + GAP)

    def _row(self, page: Image.Image, pen: ImageDraw.ImageDraw, row: int, index: int) -> None:
        y = self.top + row * (self.cell[1] + GAP)
        lines = self.texts[row]
        for number, line in enumerate(lines):
            middle = y + self.cell[1] / 2 + (number - (len(lines) - 1) / 2) * LINE
            pen.text((MARGIN, middle), line, INK if number < len(lines) - 1 or not self.clips.sources else FAINT, self.font, anchor="lm")
        clip = self.clips.clips(torch.tensor([index]))
        pixels = clip.frames[0].mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for column, frame in enumerate(self.frames):
            corner = (self._x(column), y)
            if not clip.mask[0, frame]:
                pen.rectangle((*corner, corner[0] + self.cell[0] - 1, corner[1] + self.cell[1] - 1), ABSENT)
                continue
            picture = Image.fromarray(pixels[frame].squeeze()).convert("RGB")
            page.paste(picture.resize(self.cell, Image.Resampling.NEAREST), corner)


def _caption(clips: ClipSet, index: int, most: int) -> list[str]:
    """One line for each label, then the file where the clips come from files; at most `most` lines."""
    lines = []
    for factor, values in clips.labels.items():
        number, names = int(values[index]), clips.classes.get(factor, ())
        lines.append(f"{factor}  {'unknown' if number < 0 else names[number] if number < len(names) else number}")
    if clips.source is not None and clips.sources:
        lines.append(_short(clips.sources[int(clips.source[index])]))
    return lines[: most - 1] + lines[-1:] if len(lines) > most else lines


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else "..." + name[3 - most :]
