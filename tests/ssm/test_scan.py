"""The scan by itself: any associative operation, and linear recursions."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillmotion.ssm.loop import spreads_by_loop, states_by_loop
from stillmotion.ssm.scan import prefixes, spreads, states


class Words(NamedTuple):
    """Affine maps x -> scale x + shift of one number: associative, and not commutative."""

    shift: Tensor
    scale: Tensor


def join(one: Words, two: Words) -> Words:
    return Words(two.scale * one.shift + two.shift, two.scale * one.scale)


def follow(state: tuple[Tensor, ...], two: Words) -> tuple[Tensor, ...]:
    return (two.scale * state[0] + two.shift,)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 70), st.integers(1, 3))
def test_prefixes_are_those_of_a_loop(frames: int, clips: int) -> None:
    words = Words(random(0, 1, 1, frames, clips), random(1, 1, 1, frames, clips))
    (found,) = prefixes(words, join, follow, 1)
    so_far = words.shift[:, :, 0]
    expected = [so_far]
    for t in range(1, frames):
        so_far = words.scale[:, :, t] * so_far + words.shift[:, :, t]
        expected.append(so_far)
    torch.testing.assert_close(found, torch.stack(expected, 2))


def test_the_number_of_rounds_is_logarithmic_and_the_work_linear() -> None:
    calls, work = [0], [0]

    def counted(one: Words, two: Words) -> Words:
        calls[0] += 1
        work[0] += one.shift.shape[2]
        return join(one, two)

    def counted_follow(state: tuple[Tensor, ...], two: Words) -> tuple[Tensor, ...]:
        calls[0] += 1
        work[0] += two.shift.shape[2]
        return follow(state, two)

    prefixes(Words(random(0, 1, 1, 1000, 1), random(1, 1, 1, 1000, 1)), counted, counted_follow, 1)
    assert calls[0] <= 2 * math.ceil(math.log2(1000))
    assert work[0] < 2 * 1000


@pytest.mark.parametrize("frames", [2, 5, 16])
def test_linear_recursions_and_their_derivatives(frames: int) -> None:
    E, g = random(0, 3, 3, frames, 2).requires_grad_(), random(1, 3, 2, frames, 2).requires_grad_()
    factor = random(2, 3, 3, frames, 1)
    L = torch.einsum("ik...,jk...->ij...", factor, factor).requires_grad_()
    one, two = (states(E, g), spreads(E, L)), (states_by_loop(E, g), spreads_by_loop(E, L))
    weights = random(3, 3, 2, frames, 2), random(4, 3, 3, frames, 2)
    weights = weights[0], weights[1] + weights[1].transpose(0, 1)
    gradients = [torch.autograd.grad((x * weights[0]).sum() + (X * weights[1]).sum(), (E, g, L)) for x, X in (one, two)]
    for left, right in zip((*one, *gradients[0]), (*two, *gradients[1]), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)
