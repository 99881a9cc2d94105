"""Noise: explicit, shared by ranks, and stable over runs; precision contexts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.core.precision import full_precision, working_dtype
from stillmotion.core.random import Noise, noise_of, normal, seed_of, uniform

Draw = Callable[[tuple[int, ...], torch.Generator, torch.Tensor], torch.Tensor]


def rank_of(world: int, rank: int, seed: int) -> Noise:
    noise = Noise()
    noise.manual_seed(seed)
    noise.world, noise.rank = world, rank
    return noise


@pytest.mark.parametrize("draw", [normal, uniform])
@given(world=st.integers(1, 4), clips=st.integers(1, 3), seed=st.integers(0, 2**40))
def test_ranks_together_draw_what_one_process_draws(draw: Draw, world: int, clips: int, seed: int) -> None:
    like, ranks = torch.zeros(()), [rank_of(world, rank, seed) for rank in range(world)]
    alone = rank_of(1, 0, seed)
    for tail in ((2, 3), (5,), ()):  # successive draws must stay in step
        together = torch.cat([draw((clips, *tail), noise, like) for noise in ranks])
        assert torch.equal(together, draw((clips * world, *tail), alone, like))


def test_a_plain_generator_is_the_one_process() -> None:
    plain = torch.Generator().manual_seed(3)
    assert torch.equal(normal((4, 2), plain, torch.zeros(())), normal((4, 2), rank_of(1, 0, 3), torch.zeros(())))


def test_noise_takes_the_dtype_of_its_model() -> None:
    assert normal((2,), torch.Generator(), torch.zeros((), dtype=torch.float64)).dtype == torch.float64


def test_uniform_noise_is_uniform() -> None:
    draws = uniform((20000,), torch.Generator().manual_seed(0), torch.zeros(()))
    counts = torch.histc(draws, 10, 0, 1)
    assert ((counts - 2000).abs() < 5 * 2000**0.5).all()


def test_the_global_noise_is_left_alone() -> None:
    before = torch.get_rng_state()
    normal((3,), torch.Generator(), torch.zeros(()))
    uniform((3,), torch.Generator(), torch.zeros(()))
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_are_the_same_in_every_process_and_version() -> None:
    assert seed_of(0, "poses", 17) == 8089460661606840949
    assert seed_of() == 2847183694713211083


@given(st.integers(0, 10**6), st.sampled_from(["", "poses", "sequence"]), st.integers(0, 10**6))
def test_seeds_fit_a_generator_and_tell_neighbours_apart(run: int, stage: str, step: int) -> None:
    seed = seed_of(run, stage, step)
    assert 0 <= seed < 2**63
    assert torch.Generator().manual_seed(seed).initial_seed() == seed
    assert len({seed, seed_of(run + 1, stage, step), seed_of(run, stage + "x", step), seed_of(run, stage, step + 1)}) == 4


def test_noise_begins_alike_for_the_same_parts_alone() -> None:
    first = torch.rand(3, generator=noise_of("a", 1))
    assert torch.equal(first, torch.rand(3, generator=torch.Generator().manual_seed(seed_of("a", 1))))
    assert not torch.equal(first, torch.rand(3, generator=noise_of("a", 2)))


def test_the_working_dtype_is_that_of_autocast_or_of_the_input() -> None:
    like = torch.zeros(2, dtype=torch.float64)
    assert working_dtype(like) == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert working_dtype(like) == torch.bfloat16
        with full_precision(like):
            assert working_dtype(like) == torch.float64
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
