"""Algebra of many small matrices, against torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from stillmotion.ssm import batched, small


def matrices(seed: int, rows: int, columns: int, *many: int) -> Tensor:
    return torch.randn(rows, columns, *many, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariances(seed: int, n: int, rank: int, *many: int) -> Tensor:
    factor = matrices(seed, n, rank, *many)
    return torch.einsum("ik...,jk...->ij...", factor, factor)


def usual(a: Tensor) -> Tensor:
    """The matrix axes last, as torch has them."""
    return a.movedim((0, 1), (-2, -1))


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_products_are_those_of_torch(seed: int, i: int, k: int, j: int) -> None:
    a, b = matrices(seed, i, k, 3, 1), matrices(seed + 1, k, j, 1, 4)
    torch.testing.assert_close(usual(small.product(a, b)), usual(a) @ usual(b))
    square = matrices(seed, k, k, 3, 4)
    torch.testing.assert_close(usual(small.congruence(a, square)), usual(a) @ usual(square) @ usual(a).mT)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_inverses_of_both_layouts_are_those_of_torch(seed: int, n: int) -> None:
    a = covariances(seed, n, n + 2, 3, 2)
    right = torch.linalg.inv(usual(a))
    for found in (small.invert(a), batched.invert(usual(a))):
        matrix = usual(found.matrix) if found.matrix.shape == a.shape else found.matrix
        torch.testing.assert_close(a.movedim((0, 1), (-2, -1)) @ matrix, torch.eye(n, dtype=a.dtype).expand_as(right), rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(found.log_det, torch.logdet(usual(a)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(small.invert(a).share, batched.invert(usual(a)).share, rtol=1e-6, atol=1e-9)
    others = 1 / (torch.diagonal(usual(a), dim1=-2, dim2=-1) * torch.diagonal(right, dim1=-2, dim2=-1))
    torch.testing.assert_close(small.invert(a).share, others.amin(-1), rtol=1e-6, atol=1e-9)


def test_pivots_are_variances_given_the_entries_before_and_shares_given_all_others() -> None:
    a = torch.tensor([[4.0, 2.0], [2.0, 5.0]], dtype=torch.float64)[:, :, None]
    assert small.pivots(a)[1][:, 0].tolist() == pytest.approx([4.0, 4.0])
    assert float(small.invert(a).share) == pytest.approx(0.8)
    for entries in ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]):
        assert float(small.invert(torch.tensor(entries)[:, :, None]).share) == 0
        assert float(batched.invert(torch.tensor(entries)).share) == 0


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_singular_equations_are_solved_where_they_can_be(seed: int, n: int) -> None:
    """a x = a b, which is all that the smoother asks."""
    a, b = covariances(seed, n, n - 1, 5), matrices(seed, n, 2, 5)
    right = small.product(a, b)
    torch.testing.assert_close(small.product(a, small.solve(a, right)), right, rtol=1e-6, atol=1e-6)
    regular = covariances(seed, n, n + 1, 5)
    torch.testing.assert_close(small.product(regular, small.solve(regular, b)), b, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_fusing_is_the_sum_of_precisions(seed: int, n: int, rank: int, other: int) -> None:
    c, j = covariances(seed, n, rank, 3, 2), covariances(seed + 1, n, other, 3, 2)
    eye = torch.eye(n, dtype=c.dtype)
    right = torch.linalg.solve(eye + usual(c) @ usual(j), usual(c))
    torch.testing.assert_close(usual(small.fuse(c, j)), right, rtol=1e-7, atol=1e-7)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_roots_are_triangular_and_give_the_covariance(seed: int, n: int) -> None:
    a = covariances(seed, n, n + 1, 4)
    lower = small.root(a)
    torch.testing.assert_close(usual(lower), torch.linalg.cholesky(usual(a)), rtol=1e-7, atol=1e-7)


def test_derivatives() -> None:
    a, b = covariances(0, 3, 5, 2, 1).requires_grad_(), matrices(1, 3, 2, 2, 3).requires_grad_()
    j = covariances(2, 3, 4, 1, 3).requires_grad_()

    def inverse(of: Tensor) -> tuple[Tensor, Tensor]:
        found = small.invert(small.symmetric(of))
        return found.matrix, found.log_det

    def inverse_batched(of: Tensor) -> tuple[Tensor, Tensor]:
        found = batched.invert(batched.symmetric(usual(of)))
        return found.matrix, found.log_det

    assert gradcheck(small.product, (a, b))
    assert gradgradcheck(small.product, (a, b))
    assert gradcheck(inverse, a)
    assert gradgradcheck(inverse, a)
    assert gradcheck(inverse_batched, a)
    assert gradcheck(lambda one, two: small.solve(small.symmetric(one), two), (covariances(0, 3, 5, 2, 3).requires_grad_(), b))
    assert gradcheck(lambda one, two: small.fuse(small.symmetric(one), small.symmetric(two)), (a, j))
    assert gradcheck(lambda of: small.root(small.symmetric(of)), a)
