from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillmotion.data.base import ClipSet
from stillmotion.report import animations
from stillmotion.report.animations import Picture, new_clips, picture, reconstructions, strip_of, swaps, write_gif
from stillmotion.report.folder import Finished, open_run, spread
from stillmotion.tasks.codes import decode, encode


@pytest.fixture(scope="module")
def finished(finished_folder: Path) -> Finished:
    return open_run(finished_folder)


def frames_of(shown: Picture) -> np.ndarray:
    """(T, H, W, 4) uint8 of a picture inside the page."""
    image = Image.open(io.BytesIO(base64.b64decode(shown.source.split(",")[1])))
    found = []
    for k in range(getattr(image, "n_frames", 1)):
        image.seek(k)
        found.append(np.asarray(image.convert("RGBA")))
    return np.stack(found)


def test_a_picture_shows_the_clips_exactly_and_nothing_between_them() -> None:
    clips = torch.randint(0, 256, (2, 3, 4, 3, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    shown = frames_of(picture(clips, 12))
    assert shown.shape == (4, 18, 28, 4)
    truth = (clips[1, 2] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(shown[:, 10:, 20:, :3], truth)
    assert (shown[:, :, 8:10, 3] == 0).all()
    assert (shown[:, 8:10, :, 3] == 0).all()
    assert (shown[:, :8, :8, 3] == 255).all()


def test_a_picture_is_enlarged_by_a_whole_number_and_a_grey_one_is_shown_too() -> None:
    shown = picture(torch.rand(1, 2, 1, 1, 8, 8), 12, widest=100)
    assert (shown.width, shown.height) == (18 * 5, 8 * 5)
    assert shown.still == ""
    pixels = frames_of(shown)[0, :, :8, :3]
    assert (pixels == pixels[..., :1]).all()


def test_a_picture_that_is_too_wide_is_shrunk() -> None:
    shown = picture(torch.rand(1, 2, 2, 3, 64, 64), 12, widest=65)
    assert (shown.width, shown.height) == (65, 32)
    assert frames_of(shown).shape[1:3] == (32, 65)


def test_a_large_picture_is_kept_with_loss_but_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4), size=(32, 32), mode="bilinear")[None, None]
    exact = frames_of(picture(clips, 12))
    monkeypatch.setattr(animations, "MOST_PIXELS", 0)
    lossy = frames_of(picture(clips, 12))[:, ::2, ::2]
    assert exact.shape == lossy.shape
    assert 0 < np.abs(exact.astype(float) - lossy).mean() < 8


def test_the_grid_has_movements_in_rows_and_identities_in_columns(finished: Finished) -> None:
    _, clips = finished.shown
    assert clips is not None
    grid, real = swaps(finished, clips)
    chosen = spread(clips, animations.GRID)
    codes = encode(finished.model, chosen)
    assert grid.shape == (5, 5, 6, 3, 16, 16)
    torch.testing.assert_close(real, chosen.clips().frames)
    expected = decode(finished.model, codes[1:2].with_static_of(codes[3:4]))[0]
    torch.testing.assert_close(grid[1, 3], expected)


def test_reconstructions_are_below_the_real_clips(finished: Finished) -> None:
    _, clips = finished.shown
    assert clips is not None
    pairs = reconstructions(finished, clips)
    chosen = spread(clips, animations.COLUMNS)
    torch.testing.assert_close(pairs[0], chosen.clips().frames)
    torch.testing.assert_close(pairs[1], decode(finished.model, encode(finished.model, chosen)))


def test_a_strip_has_real_and_made_frames_by_turns() -> None:
    pairs = torch.rand(2, 3, 30, 1, 4, 4)
    strip = strip_of(pairs)
    assert strip.shape == (4, animations.STRIP_FRAMES, 1, 1, 4, 4)
    for row, (kind, clip) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        torch.testing.assert_close(strip[row, 0, 0], pairs[kind, clip, 0])
        torch.testing.assert_close(strip[row, -1, 0], pairs[kind, clip, 29])


def test_new_clips_are_those_of_the_seed_and_cut_to_what_can_be_watched(finished: Finished) -> None:
    first, again = (new_clips(finished, 1, 9, "prior") for _ in range(2))
    assert first.shape == (1, animations.COLUMNS, 9, 3, 16, 16)
    torch.testing.assert_close(first, again)
    assert new_clips(finished, 1, 60, "prior").shape[2] == animations.MOST_FRAMES


def test_a_gif_is_enlarged_for_viewing(tmp_path: Path) -> None:
    path = write_gif(torch.rand(1, 2, 3, 3, 16, 16), tmp_path / "a.gif", 12)
    with Image.open(path) as image:
        assert image.size == (34 * 23, 16 * 23)


def some(count: int, lengths: torch.Tensor | None = None, **columns: torch.Tensor) -> ClipSet:
    whole = ClipSet.whole(torch.zeros(count, 4, 1, 2, 2, dtype=torch.uint8), columns, {})
    return whole if lengths is None else ClipSet(whole.frames, whole.starts, lengths, 4, columns)


def test_clips_are_spread_over_the_classes_of_the_first_factor() -> None:
    kind = torch.tensor([0] * 50 + [1] * 3 + [2] * 2)
    found = spread(some(55, kind=kind), 5).labels["kind"].tolist()
    assert sorted(set(found)) == [0, 1, 2]
    assert found == sorted(found)
    assert max(found.count(k) for k in range(3)) == 2


def test_other_factors_and_sources_are_spread_too() -> None:
    found = spread(some(8, kind=torch.zeros(8, dtype=torch.long), other=torch.tensor([0, 0, 0, 0, 0, 0, 1, 2])), 3)
    assert sorted(found.labels["other"].tolist()) == [0, 1, 2]


def test_whole_clips_come_before_short_ones_and_few_clips_are_all_taken() -> None:
    lengths = torch.tensor([1, 4, 2, 4])
    assert spread(some(4, lengths, kind=torch.zeros(4, dtype=torch.long)), 2).lengths.tolist() == [4, 4]
    assert len(spread(some(4, lengths), 9)) == 4


def test_the_strip_under_each_clip_is_left_free() -> None:
    clips = torch.rand(2, 2, 2, 3, 8, 8)
    shown = frames_of(picture(clips, 12, header=clips[0], foot=5))
    assert shown.shape[1:3] == (13 + 8 + 2 * 13 + 2, 8 + 2 + 8)
    strips = np.zeros(shown.shape[1], bool)
    for top in (0, 21, 36):
        strips[top + 8 : top + 13] = True
    assert (shown[:, strips, :, 3] == 0).all()
    assert (shown[:, 21:29, :8, 3] == 255).all()
