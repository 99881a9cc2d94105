"""The code roller against its LSTM written out step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oracles.code_walk import walk
from stillmotion.core.random import Noise, normal
from stillmotion.nn.code_rnn import CodeRNN


def net(standard: bool = False) -> CodeRNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = CodeRNN(2, 5, standard)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.normal_()
    return made


def some_codes() -> Tensor:
    return torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(1))


def noise(seed: int) -> Noise:
    made = Noise()
    made.manual_seed(seed)
    return made


MASKS = {
    "whole": [1, 1, 1, 1, 1, 1], "gap": [1, 1, 0, 0, 1, 1], "first": [0, 1, 1, 1, 0, 1], "end": [1, 1, 1, 0, 0, 0],
    "nothing": [0, 0, 0, 0, 0, 0],
}  # fmt: skip


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("name", MASKS)
@torch.no_grad()
def test_expectations_are_those_of_single_steps(name: str, standard: bool) -> None:
    made, codes = net(standard), some_codes()
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[0] = torch.tensor(MASKS[name]).bool()
    read = made(torch.where(mask[..., None], codes, 77.0), mask)
    for clip in range(3):
        expected = walk(made, codes[clip], mask[clip].tolist())
        torch.testing.assert_close(read.expected.mean[clip], expected.mean)
        torch.testing.assert_close(read.expected.scale[clip], expected.scale)
        torch.testing.assert_close(read.filled[clip], expected.filled)


@pytest.mark.parametrize("standard", [False, True])
@torch.no_grad()
def test_draws_are_fed_on(standard: bool) -> None:
    made, codes = net(standard), some_codes()
    mask = torch.tensor(MASKS["gap"]).bool().expand(3, 6)
    own = noise(3)
    draws = torch.stack([normal((3, 2), own, codes) for _ in range(6)], 1)
    read = made(codes, mask, noise(3))
    for clip in range(3):
        torch.testing.assert_close(read.filled[clip], walk(made, codes[clip], mask[clip].tolist(), draws[clip]).filled)
    own = noise(4)
    draws = torch.stack([normal((2, 2), own, codes) for _ in range(5)], 1)
    drawn = made.draw(2, 5, noise(4))
    for clip in range(2):
        torch.testing.assert_close(drawn[clip], walk(made, drawn[clip], [False] * 5, draws[clip]).filled)


@torch.no_grad()
def test_after_its_end_a_sequence_goes_on_by_itself() -> None:
    made, codes = net(), some_codes()
    found = made.roll_on(codes, 9)
    longer = torch.cat([codes, torch.zeros(3, 3, 2)], 1)
    for clip in range(3):
        torch.testing.assert_close(found[clip], walk(made, longer[clip], [True] * 6 + [False] * 3).filled)
    assert torch.equal(made.roll_on(codes, 4), codes[:, :4])


@torch.no_grad()
def test_a_path_with_drawn_gaps_is_rolled_on_from_its_draws() -> None:
    made, codes = net(), some_codes()
    mask = torch.tensor(MASKS["gap"]).bool().expand(3, 6)
    drawn = made(codes, mask, noise(3)).filled
    found, longer = made.roll_on(drawn, 8), torch.cat([drawn, torch.zeros(3, 2, 2)], 1)
    assert torch.equal(found[:, :6], drawn)
    for clip in range(3):
        torch.testing.assert_close(found[clip], walk(made, longer[clip], [True] * 6 + [False] * 2).filled)
    assert not torch.allclose(found[:, 6:], made.roll_on(made(codes, mask).filled, 8)[:, 6:])
