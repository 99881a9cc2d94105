from __future__ import annotations

import pytest

from stillmotion.metrics.figure import Figure
from stillmotion.recipes.lab import over_seeds


def test_seeds_are_averaged_and_their_spread_counts() -> None:
    def one(value: float) -> dict[str, Figure]:
        return {"a": Figure(value, value - 0.01, value + 0.02, 9)}

    assert over_seeds([one(0.5)]) == one(0.5)
    figure = over_seeds([{**one(0.4), "b": Figure(1, 1, 1, 9)}, one(0.6)])["a"]
    # Student's t with one degree of freedom is 12.706; the deviation of 0.4 and 0.6 is 0.1 * sqrt(2)
    assert figure.value == pytest.approx(0.5)
    assert figure.high == pytest.approx(0.5 + (1.2706**2 + 0.02**2) ** 0.5, rel=1e-3)
    assert figure.low == pytest.approx(0.5 - (1.2706**2 + 0.01**2) ** 0.5, rel=1e-3)
    assert over_seeds([{**one(0.4), "b": Figure(1, 1, 1, 9)}, one(0.6)]).keys() == {"a"}
    shares = over_seeds([{"leak_static_to_action_mean": Figure(value, value, value, 9)} for value in (0.4, 0.6)])
    assert list(shares.values()) == [Figure(0.5, 0.0, 1.0, 9)]
