from __future__ import annotations

import pytest
import torch
from benchmarks.weight_gradients import REPEATS, race

from benchmarks import weight_gradients


def test_both_ways_are_timed():
    theirs, ours = race(3, 8, 4)
    assert len(theirs) == len(ours) == REPEATS
    assert min(theirs + ours) > 0


def test_a_wrong_product_is_not_timed(monkeypatch):
    monkeypatch.setattr(weight_gradients, "weight_gradient", lambda large, small, shape, stride, padding: torch.zeros(shape))
    with pytest.raises(ValueError, match="differ"):
        race(3, 8, 4)


def test_table_names_the_way_that_is_taken(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["weight_gradients", "--threads", str(torch.get_num_threads())])
    monkeypatch.setattr(weight_gradients, "LAYERS", ((3, 32, 4), (3, 16, 4)))
    monkeypatch.setattr(weight_gradients, "REPEATS", 2)
    weight_gradients.main()
    rows = [line.split()[-2] for line in capsys.readouterr().out.splitlines() if " to " in line]
    assert rows == ["torch", "product"]
