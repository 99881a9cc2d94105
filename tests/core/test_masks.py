from __future__ import annotations

import torch

from stillmotion.core.masks import average, total, until_last


def test_what_is_not_there_is_not_counted_even_where_it_is_not_a_number() -> None:
    values = torch.tensor([[1.0, torch.nan, 3.0], [torch.inf, 5.0, 6.0]])
    assert total(values, torch.tensor([[1, 0, 1], [0, 1, 1]]).bool()).tolist() == [4, 11]


def test_averages_count_what_is_there_alone() -> None:
    values = torch.tensor([[[1.0, 2.0], [torch.nan, torch.inf], [3.0, 6.0]], [[torch.nan, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    assert average(values, torch.tensor([[1, 0, 1], [0, 0, 0]]).bool()).tolist() == [[2, 4], [0, 0]]


def test_until_the_last_frame_gaps_count() -> None:
    mask = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    assert until_last(mask).int().tolist() == [[1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
