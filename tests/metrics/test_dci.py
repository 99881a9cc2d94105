from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.ensemble import GradientBoostingClassifier
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.dci import completeness, dci, disentanglement

Factors = dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(repeats: int = 20) -> Factors:
    hair, action = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    return {"hair": hair.flatten().repeat(repeats), "action": action.flatten().repeat(repeats)}


def one_each(factors: Factors) -> Tensor:
    return torch.stack(list(factors.values()), 1).float()


def one_hot(factors: Factors) -> Tensor:
    return torch.cat([torch.nn.functional.one_hot(labels) for labels in factors.values()], 1).float()


def mixed(factors: Factors, seed: int, angle: float, noise: float = 0.1) -> Tensor:
    """Hair and action in two dimensions turned by `angle`, and two dimensions of noise."""
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    codes = torch.cat([one_each(factors) @ turn, torch.zeros(len(factors["hair"]), 2)], 1)
    return codes + noise * torch.randn(codes.shape, generator=seeded(seed))


def test_importances_on_a_diagonal_are_ideal_and_even_ones_are_worthless() -> None:
    assert (disentanglement(torch.eye(3)), completeness(torch.eye(3))) == (1, 1)
    assert disentanglement(torch.ones(4, 3)) == pytest.approx(0, abs=1e-6)
    assert completeness(torch.ones(4, 3)) == pytest.approx(0, abs=1e-6)
    assert (disentanglement(torch.zeros(4, 3)), completeness(torch.zeros(4, 3))) == (0, 0)


def test_entropies_are_those_of_scipy() -> None:
    importance = torch.rand(5, 3, generator=seeded(1)).double().square()
    table = importance.numpy()
    rows = 1 - scipy.stats.entropy(table, axis=1, base=3)
    columns = 1 - scipy.stats.entropy(table, axis=0, base=5)
    assert disentanglement(importance) == pytest.approx(float((table.sum(1) * rows).sum() / table.sum()))
    assert completeness(importance) == pytest.approx(float(columns.mean()))


def test_a_dimension_of_two_factors_is_not_disentangled_and_a_factor_of_two_dimensions_is_not_complete() -> None:
    shared = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert (disentanglement(shared), completeness(shared)) == (0, 1)
    assert (disentanglement(shared.T), completeness(shared.T)) == (1, 0.5 * (0 + 0))


def test_one_dimension_for_each_factor_is_ideal() -> None:
    figures = dci(one_each(grid()), grid(), one_each(grid(10)), grid(10), seeded())
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(
        {"dci_disentanglement": 1, "dci_completeness": 1, "dci_informativeness": 1}, abs=1e-6
    )
    assert {figure.clips for figure in figures.values()} == {120}


def test_one_hot_codes_are_disentangled_but_not_complete() -> None:
    figures = dci(one_hot(grid()), grid(), one_hot(grid(10)), grid(10), seeded())
    assert figures["dci_disentanglement"].value == pytest.approx(1, abs=1e-6)
    assert figures["dci_completeness"].value == pytest.approx(1 - (math.log(4) + math.log(3)) / 2 / math.log(7), abs=0.08)


def test_collapsed_dimensions_are_of_no_importance() -> None:
    train, test = torch.ones(240, 3), torch.ones(120, 3)
    figures = dci(train, grid(), test, grid(10), seeded())
    assert (figures["dci_disentanglement"].value, figures["dci_completeness"].value) == (0, 0)
    assert figures["dci_informativeness"].value == pytest.approx((1 / 4 + 1 / 3) / 2)


def test_traces_below_the_rounding_of_codes_are_not_read() -> None:
    train, test = (1 + 1e-9 * one_each(factors).double() for factors in (grid(), grid(10)))
    assert dci(train, grid(), test, grid(10), seeded())["dci_informativeness"].value == pytest.approx((1 / 4 + 1 / 3) / 2)


def test_useless_codes_score_little_and_are_at_chance() -> None:
    train, test = (torch.randn(1200, 6, generator=seeded(k)) for k in (1, 2))
    figures = dci(train, grid(100), test, grid(100), seeded())
    assert 0 <= figures["dci_disentanglement"].value < 0.05
    assert 0 <= figures["dci_completeness"].value < 0.05
    assert figures["dci_informativeness"].value == pytest.approx((1 / 4 + 1 / 3) / 2, abs=0.05)


@pytest.mark.parametrize("angle", [0.15, 0.5])
def test_figures_are_near_those_of_impurity_in_another_boosting(angle: float) -> None:
    train, test = mixed(grid(), 1, angle), mixed(grid(), 2, angle)
    columns = []
    for labels in grid().values():
        columns.append(GradientBoostingClassifier(n_estimators=20, random_state=0).fit(train.numpy(), labels.numpy()).feature_importances_)
    impurity = torch.from_numpy(np.stack(columns, 1))
    figures = dci(train, grid(), test, grid(), seeded())
    assert figures["dci_disentanglement"].value == pytest.approx(disentanglement(impurity), abs=0.15)
    assert figures["dci_completeness"].value == pytest.approx(completeness(impurity), abs=0.15)


def test_turned_codes_are_less_disentangled_and_less_complete() -> None:
    straight = dci(mixed(grid(), 1, 0.0), grid(), mixed(grid(), 2, 0.0), grid(), seeded())
    turned = dci(mixed(grid(), 1, 0.7), grid(), mixed(grid(), 2, 0.7), grid(), seeded())
    for name in ("dci_disentanglement", "dci_completeness"):
        assert turned[name].high < straight[name].low - 0.2


def test_scale_of_dimensions_changes_nothing_and_their_order_no_more_than_ties_between_splits() -> None:
    train, test = mixed(grid(), 1, 0.3, 0.5).double(), mixed(grid(), 2, 0.3, 0.5).double()
    order, scale = [2, 0, 3, 1], torch.tensor([8.0, 0.25, 64.0, 2.0])
    plain = dci(train, grid(), test, grid(), seeded())
    scaled = dci(train * scale, grid(), test * scale, grid(), seeded())
    ordered = dci(train[:, order], grid(), test[:, order], grid(), seeded())
    for name, figure in plain.items():
        assert scaled[name].value == pytest.approx(figure.value, abs=1e-9)
        assert ordered[name].value == pytest.approx(figure.value, abs=0.02)


def test_clips_of_unknown_class_count_neither_in_the_fit_nor_in_the_accuracy() -> None:
    factors, held = grid(), grid(10)
    codes, held_codes = one_each(factors), one_each(held)
    for known, dimensions in ((factors, codes), (held, held_codes)):
        known["hair"][:36] = -1
        dimensions[:36, 0] = 1.0
    assert dci(codes, factors, held_codes, held, seeded())["dci_informativeness"].value == 1
    factors["action"][:36], held["action"][:36] = -1, -1
    assert dci(codes, factors, held_codes, held, seeded())["dci_informativeness"].clips == 84


def test_clips_that_belong_together_widen_the_interval() -> None:
    train, test = mixed(grid(), 1, 0.3, 0.5), mixed(grid(2), 2, 0.3, 0.5).repeat_interleave(8, 0)
    factors = {name: labels.repeat_interleave(8) for name, labels in grid(2).items()}
    alone = dci(train, grid(), test, factors, seeded())
    together = dci(train, grid(), test, factors, seeded(), torch.arange(24).repeat_interleave(8))
    for name, figure in alone.items():
        assert together[name].high - together[name].low > 1.5 * (figure.high - figure.low)


def test_a_lone_factor_nan_and_one_clip_are_refused() -> None:
    codes = one_each(grid())
    with pytest.raises(UserError, match="at least 2 labelled factors, got hair"):
        dci(codes, {"hair": grid()["hair"]}, codes, {"hair": grid()["hair"]}, seeded())
    with pytest.raises(UserError, match="finite codes"):
        dci(codes, grid(), codes * torch.inf, grid(), seeded())
    with pytest.raises(UserError, match="at least two classes of hair"):
        dci(codes[:1], {name: labels[:1] for name, labels in grid().items()}, codes, grid(), seeded())
