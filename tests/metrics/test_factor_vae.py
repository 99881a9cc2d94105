from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.factor_vae import _least, factor_vae

Factors = dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(repeats: int = 10) -> Factors:
    hair, action, top = torch.meshgrid(torch.arange(4), torch.arange(3), torch.arange(2), indexing="ij")
    return {"hair": hair.flatten().repeat(repeats), "action": action.flatten().repeat(repeats), "top": top.flatten().repeat(repeats)}


def one_each(factors: Factors) -> Tensor:
    return torch.stack(list(factors.values()), 1).float()


def one_hot(factors: Factors) -> Tensor:
    return torch.cat([torch.nn.functional.one_hot(labels) for labels in factors.values()], 1).float()


def noisy(factors: Factors, seed: int) -> Tensor:
    codes = torch.cat([one_each(factors), torch.zeros(len(factors["hair"]), 2)], 1)
    return codes + 0.4 * torch.randn(codes.shape, generator=seeded(seed))


def test_the_least_variance_is_that_of_each_batch_by_brute_force() -> None:
    codes = torch.randn(50, 6, generator=seeded(1)).double()
    batches = torch.randint(50, (20, 8), generator=seeded(2))
    expected = [int(torch.stack([codes[i] for i in batch]).var(0, correction=0).argmin()) for batch in batches.tolist()]
    assert _least(codes, batches).tolist() == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize("code", [one_each, one_hot])
def test_ideal_codes_foretell_every_vote(code: type) -> None:
    figure = factor_vae(code(grid()), grid(), code(grid(20)), grid(20), seeded())["factor_vae"]
    assert (figure.value, figure.low, figure.high, figure.clips) == (1, 1, 1, 480)


def test_copies_and_collapsed_dimensions_take_nothing_away() -> None:
    train, test = (torch.cat([one_each(f), one_each(f), torch.full((len(f["hair"]), 2), 3.0)], 1) for f in (grid(), grid(5)))
    assert factor_vae(train, grid(), test, grid(5), seeded())["factor_vae"].value == 1


def test_a_code_that_has_collapsed_altogether_scores_nothing() -> None:
    figure = factor_vae(torch.ones(240, 3), grid(), torch.ones(120, 3), grid(5), seeded())["factor_vae"]
    assert (figure.value, figure.low, figure.high, figure.clips) == (0, 0, 0, 120)


def test_useless_codes_guess_the_factor() -> None:
    train, test = (torch.randn(2400, 10, generator=seeded(k)) for k in (1, 2))
    figure = factor_vae(train, grid(100), test, grid(100), seeded())["factor_vae"]
    assert figure.value == pytest.approx(1 / 3, abs=4 * (2 / 9 / 300) ** 0.5)


def test_a_code_of_one_factor_alone_foretells_that_one_and_guesses_between_the_others() -> None:
    codes = [torch.stack([f["hair"], torch.randn(len(f["hair"]), generator=seeded(k)) * 3], 1) for k, f in enumerate((grid(40), grid(40)))]
    figure = factor_vae(codes[0], grid(40), codes[1], grid(40), seeded())["factor_vae"]
    assert 0.5 < figure.value < 0.8
    assert figure.low < figure.value < figure.high


@pytest.mark.parametrize(("order", "powers"), [((4, 2, 0, 1, 3), (0, 8, -8, 1, 3)), ((1, 0, 4, 3, 2), (-3, 2, 2, -7, 0))])
def test_order_and_scale_of_dimensions_change_nothing(order: tuple[int, ...], powers: tuple[int, ...]) -> None:
    train, test, scale = noisy(grid(3), 1), noisy(grid(3), 2), 2.0 ** torch.tensor(powers)
    changed = factor_vae(train[:, order] * scale, grid(3), test[:, order] * scale, grid(3), seeded())["factor_vae"]
    assert changed.value == pytest.approx(factor_vae(train, grid(3), test, grid(3), seeded())["factor_vae"].value)


def test_every_class_of_a_factor_votes_as_often() -> None:
    """The dimension of action is still in class 0 of hair as well, so that a quarter of the votes of hair are for it."""
    train, test = (torch.stack([(f["action"] - 1) * (f["hair"] > 0), f["hair"]], 1).float() for f in (grid(20), grid(20)))
    both = {name: grid(20)[name] for name in ("hair", "action")}
    figure = factor_vae(train, both, test, both, seeded())["factor_vae"]
    assert figure.value == pytest.approx(1 - 1 / 4 / 2, abs=4 * (3 / 16 / 100) ** 0.5 / 2)


def test_a_dimension_that_has_collapsed_on_held_out_clips_takes_no_votes() -> None:
    train, test = torch.cat([one_each(grid())[:, :1]] * 2 + [one_each(grid())[:, 1:]], 1), one_each(grid(5))
    test = torch.cat([torch.zeros(120, 1), test], 1)
    assert factor_vae(train, grid(), test, grid(5), seeded())["factor_vae"].value == 1


def test_votes_come_from_clips_of_known_class_alone() -> None:
    factors, held = grid(), grid(5)
    codes, held_codes = one_each(factors), one_each(held)
    for known, dimensions in ((factors, codes), (held, held_codes)):
        known["hair"][:24] = -1
        dimensions[:24, 0] = torch.linspace(-9, 9, 24)
    assert factor_vae(codes, factors, held_codes, held, seeded())["factor_vae"].value == 1


def test_clips_that_belong_together_widen_the_interval() -> None:
    factors = {name: labels[torch.randperm(24, generator=seeded(1))[:16]].repeat_interleave(20) for name, labels in grid(1).items()}
    test = noisy(grid(1), 2)[:16].repeat_interleave(20, 0)
    alone = factor_vae(noisy(grid(), 1), grid(), test, factors, seeded())["factor_vae"]
    together = factor_vae(noisy(grid(), 1), grid(), test, factors, seeded(), torch.arange(16).repeat_interleave(20))["factor_vae"]
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_lone_factor_nan_and_one_clip_are_refused() -> None:
    codes = one_each(grid())
    with pytest.raises(UserError, match="at least 2 labelled factors, got hair"):
        factor_vae(codes, {"hair": grid()["hair"]}, codes, {"hair": grid()["hair"]}, seeded())
    with pytest.raises(UserError, match="finite codes"):
        factor_vae(codes * torch.nan, grid(), codes, grid(), seeded())
    with pytest.raises(UserError, match="at least two classes of hair, got 1 in 1 clips"):
        factor_vae(codes, grid(), codes[:1], {name: labels[:1] for name, labels in grid().items()}, seeded())
