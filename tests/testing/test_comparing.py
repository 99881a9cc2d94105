"""Comparisons: what counts as the same, and what is said where it is not."""

from __future__ import annotations

import pytest
import torch

from stillmotion.core.codes import Codes
from stillmotion.testing.comparing import TOLERANCE, claim, parts_of, same


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_rounding_is_forgiven_relative_to_the_largest_value(size: float) -> None:
    x = torch.tensor([0.0, size])
    same("x", x + 0.9 * TOLERANCE * size, x)
    with pytest.raises(AssertionError, match="x: off by"):
        same("x", x + 1.2 * TOLERANCE * size, x)
    with pytest.raises(AssertionError, match="x: off by"):
        same("x", x + 0.9 * TOLERANCE * size, x, 0.0)


def test_what_is_not_a_number_is_not_the_same() -> None:
    with pytest.raises(AssertionError, match="x: off by nan"):
        same("x", torch.tensor([float("nan")]), torch.zeros(1))


def test_shapes_must_agree_where_broadcasting_would_do() -> None:
    with pytest.raises(AssertionError, match=r"x: shape \(1, 3\), should be \(2, 3\)"):
        same("x", torch.zeros(1, 3), torch.zeros(2, 3))


def test_both_may_be_missing_but_not_one() -> None:
    same("x", None, None)
    with pytest.raises(AssertionError, match="x: one is missing"):
        same("x", torch.zeros(1), None)


def test_claims_are_kept_or_broken() -> None:
    claim(True, "never said")
    with pytest.raises(AssertionError, match=r"^said$"):
        claim(False, "said")


def test_the_parts_of_codes_are_those_that_are_there() -> None:
    assert [name for name, _ in parts_of(Codes(static=torch.zeros(1, 2), path=torch.zeros(1, 3, 2)))] == ["static", "path"]
