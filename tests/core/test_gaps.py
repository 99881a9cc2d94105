from __future__ import annotations

import numpy as np
import pytest
import torch

from stillmotion.core.gaps import bridge, hold, runs


@pytest.mark.parametrize(("flags", "found"), [
    ("0110010", [(1, 3), (5, 6)]), ("1101", [(0, 2), (3, 4)]), ("000", []), ("111", [(0, 3)]), ("1", [(0, 1)]),
])  # fmt: skip
def test_runs_are_told_by_their_first_frame_and_the_one_behind_their_last(flags: str, found: list[tuple[int, int]]) -> None:
    assert runs(torch.tensor([flag == "1" for flag in flags])) == found


def test_a_bridge_is_what_numpy_interpolates() -> None:
    g = torch.Generator().manual_seed(0)
    values, mask = torch.randn(20, 9, 2, 3, generator=g), torch.rand(20, 9, generator=g) < 0.4
    mask[:, 4] = True
    found, place = bridge(values, mask), np.arange(9)
    for row in range(20):
        kept = mask[row].numpy()
        for column in range(6):
            series = values[row].flatten(1)[:, column].double().numpy()
            expected = torch.from_numpy(np.interp(place, place[kept], series[kept])).float()
            torch.testing.assert_close(found[row].flatten(1)[:, column], expected)
    assert torch.equal(found[mask], values[mask])


def test_what_is_missing_is_never_read() -> None:
    values = torch.full((2, 4, 1), torch.nan)
    values[0, 1], mask = 3.0, torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert bridge(values, mask)[..., 0].tolist() == [[3.0] * 4, [0.0] * 4]


def test_the_last_value_is_held_and_nothing_stands_before_the_first() -> None:
    values, mask = torch.tensor([[9.0, 1.0, torch.nan, 2.0, torch.nan, torch.nan]]), torch.tensor([[0, 1, 0, 1, 0, 0]]).bool()
    assert hold(values, mask).tolist() == [[0, 1, 1, 2, 2, 2]]
