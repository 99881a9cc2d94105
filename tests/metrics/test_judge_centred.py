"""A judge that sees frames about their centre of light."""

from __future__ import annotations

import torch

from metrics.saying import seeded
from metrics.test_judge import small_judge
from stillmotion.core.clips import Clips
from stillmotion.metrics.judge import centred


def placed(thing: torch.Tensor, places: list[tuple[int, int]], size: int = 16) -> torch.Tensor:
    """One clip (1, T, C, size, size), black but for the thing, its upper left corner at (row, column) of each frame."""
    frames = torch.zeros(1, len(places), len(thing), size, size)
    for t, (row, column) in enumerate(places):
        frames[0, t, :, row : row + thing.shape[-1], column : column + thing.shape[-1]] = thing
    return frames


def test_the_window_is_that_of_a_loop_and_goes_along() -> None:
    thing = 0.4 + 0.6 * torch.rand(3, 4, 4, generator=seeded(0))
    light = thing.mean(0) - 0.3 * thing.mean(0).max()
    light = light.clamp(min=0) / light.clamp(min=0).sum()
    rows, columns = (float((light.sum(axis) * torch.arange(4)).sum()) for axis in (1, 0))
    places = [(0, 0), (6, 3), (12, 12), (0, 11)]
    windows = centred(placed(thing, places))
    assert windows.shape == (1, 4, 3, 8, 8)
    for t, (row, column) in enumerate(places):
        top, left = round(row + rows - 3.5), round(column + columns - 3.5)
        expected = torch.zeros(3, 8, 8)
        expected[:, row - top : row - top + 4, column - left : column - left + 4] = thing
        torch.testing.assert_close(windows[0, t], expected)


def test_dark_frames_show_their_middle() -> None:
    frames = torch.zeros(1, 2, 1, 16, 16)
    frames[0, 0, 0, 4, 4], frames[0, 1, 0, 11, 11] = 0.01, 0.01
    windows = centred(frames)
    assert float(windows[0, 0, 0, 0, 0]) == float(windows[0, 1, 0, 7, 7]) == frames[0, 0, 0, 4, 4]


@torch.no_grad()
def test_where_a_thing_is_does_not_count_and_what_it_is_does() -> None:
    thing, other = (0.4 + 0.6 * torch.rand(3, 4, 4, generator=seeded(k)) for k in (0, 1))
    judge, mask = small_judge(centred=True), torch.ones(1, 2).bool()
    here, there, else_ = (judge.read(Clips(frames, mask)) for frames in (
        placed(thing, [(1, 2), (5, 5)]), placed(thing, [(9, 8), (12, 0)]), placed(other, [(1, 2), (5, 5)]),
    ))  # fmt: skip
    torch.testing.assert_close(here.features, there.features)
    assert float((here.features - else_.features).abs().max()) > 1e-4
