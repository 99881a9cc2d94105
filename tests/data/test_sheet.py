from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.data.sheet import GAP, MARGIN, _caption, contact_sheet


def clips(count: int = 5, steps: int = 6, size: int = 24, channels: int = 3) -> ClipSet:
    """Clip k is of grey level 20 k + frame."""
    level = 20 * torch.arange(count)[:, None] + torch.arange(steps)
    frames = level.to(torch.uint8)[:, :, None, None, None].expand(count, steps, channels, size, size).contiguous()
    return ClipSet.whole(frames, {"kind": torch.arange(count) % 2}, {"kind": ("round", "square")})


def cells(path: Path, rows: int, columns: int, side: int) -> list[list[int]]:
    """The grey levels of the cells, counted from the lower right corner."""
    page = np.asarray(Image.open(path))
    ys = [page.shape[0] - MARGIN - side // 2 - (side + GAP) * row for row in reversed(range(rows))]
    xs = [page.shape[1] - MARGIN - GAP - side // 2 - (side + GAP) * column for column in reversed(range(columns))]
    return [[int(page[y, x].mean()) for x in xs] for y in ys]


def test_rows_are_clips_and_columns_their_frames(tmp_path: Path) -> None:
    path = contact_sheet(clips(), tmp_path / "new" / "sheet.png", rows=3, columns=3, title="five clips")
    assert cells(path, 3, 3, 72) == [[0, 2, 5], [40, 42, 45], [80, 82, 85]]


def test_more_rows_than_clips_and_grey(tmp_path: Path) -> None:
    path = contact_sheet(clips(2, channels=1), tmp_path / "sheet.png", rows=8, columns=20)
    assert cells(path, 2, 6, 72) == [[0, 1, 2, 3, 4, 5], [20, 21, 22, 23, 24, 25]]


def test_missing_frames_are_pale(tmp_path: Path) -> None:
    short = clips(1)
    path = contact_sheet(ClipSet(short.frames, short.starts, torch.tensor([2]), 6), tmp_path / "sheet.png", columns=6)
    assert cells(path, 1, 6, 72) == [[0, 1, 240, 240, 240, 240]]


def test_captions_name_labels_and_files() -> None:
    plain = clips()
    assert _caption(plain, 1, 4) == ["kind  square"]
    named = ClipSet(
        plain.frames, plain.starts, plain.lengths, plain.steps, {"kind": torch.tensor([-1, 0, 0, 0, 0]), "take": torch.arange(5)},
        {"kind": ("round",)}, torch.zeros(5, dtype=torch.int64), ("folder/with/a/very/long/name/of/a/clip.mp4",),
    )  # fmt: skip
    assert _caption(named, 0, 4) == ["kind  unknown", "take  0", ".../a/very/long/name/of/a/clip.mp4"]
    assert _caption(named, 0, 2) == ["kind  unknown", ".../a/very/long/name/of/a/clip.mp4"]


def test_an_empty_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a set with clips in it"):
        contact_sheet(clips().subset(torch.tensor([], dtype=torch.int64)), tmp_path / "sheet.png")
