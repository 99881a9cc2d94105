"""Named loss terms."""

from __future__ import annotations

import torch

from stillmotion.core.terms import Terms


def test_the_total_is_the_weighted_sum_and_the_elbo_the_plain_one() -> None:
    terms = Terms({"a": torch.tensor(2.0), "b": torch.tensor(3.0), "c": torch.tensor(5.0)}, {"b": 10.0, "c": 0.0, "unused": 7.0})
    assert terms.total.item() == 2 + 30 + 0
    assert terms.elbo.item() == -(2 + 3 + 5)


def test_the_total_carries_each_gradient_times_its_weight() -> None:
    values = {name: torch.tensor(1.0, requires_grad=True) for name in "ab"}
    Terms(values, {"b": 0.25}).total.backward()
    assert [value.grad.item() for value in values.values() if value.grad is not None] == [1.0, 0.25]


def test_watched_figures_are_not_trained_on() -> None:
    terms = Terms({"a": torch.tensor(2.0)}, {"w": 3.0}, {"w": torch.tensor(float("nan"))})
    assert terms.total.item() == 2
    assert terms.not_finite() == []


def test_terms_that_are_no_numbers_are_named() -> None:
    values = {"good": 1.0, "nan": float("nan"), "up": float("inf"), "down": float("-inf")}
    assert Terms({name: torch.tensor(value) for name, value in values.items()}).not_finite() == ["nan", "up", "down"]
