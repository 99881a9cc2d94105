from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillmotion.metrics.exhibits import Pictures
from stillmotion.report.grids import alt_of, grid_of, lay, moves, write_grid


def pictures(shape: tuple[int, ...] = (2, 3, 4, 3, 8, 6), **changes: Any) -> Pictures:
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Pictures(**{"name": "p", "title": "Swaps", "frames": frames, "scale": 3, **changes})


def test_a_grid_stays_as_it_is() -> None:
    laid = lay(pictures(row_labels=("a", "b"), column_labels=("x", "y", "z")))
    np.testing.assert_array_equal(laid.tiles.numpy(), pictures().frames)
    assert (laid.rows, laid.columns) == (("a", "b"), ("x", "y", "z"))


def test_in_a_strip_time_goes_from_left_to_right_and_the_rows_of_a_column_stay_together() -> None:
    strip = pictures(strip=True, row_labels=("real", "model"), column_labels=("x", "y", "z"))
    laid = lay(strip)
    assert laid.tiles.shape == (6, 4, 1, 3, 8, 6)
    assert laid.rows == ("x, real", "x, model", "y, real", "y, model", "z, real", "z, model")
    assert laid.columns == ()
    for row, column, time in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        np.testing.assert_array_equal(laid.tiles[2 * column + row, time, 0].numpy(), strip.frames[row, column, time])
    assert lay(pictures(strip=True, row_labels=("real", "model"))).rows == ("real", "model") * 3
    assert lay(pictures(strip=True)).rows == ()


@pytest.mark.parametrize(("scale", "width"), [(1, 22), (3, 66), (45, 990), (60, 990)])
def test_pixels_are_as_large_as_asked_where_there_is_room(scale: int, width: int) -> None:
    assert grid_of(pictures(scale=scale)).picture.width == width


def test_only_what_moves_has_a_still_for_those_who_want_no_motion() -> None:
    assert grid_of(pictures()).picture.still
    assert not grid_of(pictures(strip=True)).picture.still
    assert [moves(pictures()), moves(pictures(strip=True)), moves(pictures((2, 3, 1, 1, 8, 6)))] == [True, False, False]


def test_the_picture_is_told_in_words() -> None:
    assert alt_of(pictures(row_labels=("a", "b"))) == "Swaps: 2 rows (a, b) and 3 columns, 4 frames each."
    assert alt_of(pictures((1, 1, 5, 1, 8, 8), strip=True)) == "Swaps: 1 row and 1 column, 5 frames from left to right."
    assert alt_of(pictures((1, 2, 1, 1, 8, 8))) == "Swaps: 1 row and 2 columns."


def test_the_file_shows_every_pixel_right_and_below_its_labels(tmp_path: Path) -> None:
    still = pictures((2, 3, 1, 1, 8, 6), scale=20, row_labels=("real", "a longer label"), column_labels=("x", "two words", "z"))
    shown = np.asarray(Image.open(write_grid(still, tmp_path / "p.png")))
    height, width = 2 * 160 + 40, 3 * 120 + 80
    left, top = shown.shape[1] - width, shown.shape[0] - height
    assert left > 60
    assert top == 18
    for row, column in ((0, 0), (1, 2)):
        at = top + row * 200, left + column * 160
        tile = shown[at[0] : at[0] + 160 : 20, at[1] : at[1] + 120 : 20, 0]
        np.testing.assert_array_equal(tile, still.frames[row, column, 0, 0])
    labels = shown[:, :left] < 200
    assert labels[top : top + 160].any()
    assert labels[top + 200 :].any()
    assert (shown[:top, left:] < 200).any()


def test_without_labels_the_file_has_no_margin(tmp_path: Path) -> None:
    assert Image.open(write_grid(pictures((2, 3, 1, 1, 8, 6)), tmp_path / "p.png")).size == (66, 54)


def test_an_animation_has_all_frames(tmp_path: Path) -> None:
    image: Any = Image.open(write_grid(pictures(column_labels=("x", "y", "a name that is too long for it")), tmp_path / "p.gif"))
    assert (image.n_frames, image.format) == (4, "GIF")
    assert image.size[0] == 66
    assert image.size[1] > 54 + 18
