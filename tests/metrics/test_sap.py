from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import LinearSVC
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.sap import sap

Factors = dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(repeats: int = 10) -> Factors:
    hair, action = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    return {"hair": hair.flatten().repeat(repeats), "action": action.flatten().repeat(repeats)}


def one_each(factors: Factors) -> Tensor:
    return torch.stack(list(factors.values()), 1).float()


def noisy(factors: Factors, seed: int) -> Tensor:
    codes = torch.cat([one_each(factors), torch.zeros(len(factors["hair"]), 2)], 1)
    return codes + 0.3 * torch.randn(codes.shape, generator=seeded(seed))


def test_one_dimension_for_each_factor_leads_by_all_that_is_above_chance() -> None:
    figure = sap(one_each(grid()), grid(), one_each(grid(5)), grid(5), seeded())["sap"]
    assert figure.value == pytest.approx(((1 - 1 / 4) + (1 - 1 / 3)) / 2)
    assert figure.clips == 60


def test_one_dimension_among_collapsed_ones_leads_by_everything() -> None:
    only = {"hair": grid()["hair"]}
    codes = torch.stack([only["hair"], torch.full((120,), 7), torch.zeros(120)], 1).float()
    assert sap(codes, only, codes, only, seeded())["sap"].value == pytest.approx(1)


def test_a_dimension_written_twice_leads_by_nothing() -> None:
    train, test = noisy(grid(), 1).repeat(1, 2), noisy(grid(), 2).repeat(1, 2)
    assert sap(train, grid(), test, grid(), seeded())["sap"].value == pytest.approx(0, abs=1e-12)


def test_two_classes_are_told_apart_as_by_a_linear_machine() -> None:
    kinds = torch.arange(2000) % 5 // 4
    train, test = (torch.randn(2000, 2, generator=seeded(k)) + kinds[:, None] * torch.tensor([2.0, 0.7]) for k in (1, 2))
    scores = []
    for column in range(2):
        machine = LinearSVC(class_weight="balanced", C=1.0).fit(train[:, column, None].numpy(), kinds.numpy())
        scores.append(balanced_accuracy_score(kinds.numpy(), machine.predict(test[:, column, None].numpy())))
    figure = sap(train, {"kind": kinds}, test, {"kind": kinds}, seeded())["sap"]
    assert figure.value == pytest.approx(scores[0] - scores[1], abs=0.03)
    assert figure.low < figure.value < figure.high


def test_useless_codes_lead_by_luck_alone() -> None:
    train, test = (torch.randn(1200, 6, generator=seeded(k)) for k in (1, 2))
    figure = sap(train, grid(100), test, grid(100), seeded())["sap"]
    assert 0 <= figure.value < 3 * ((4 - 1) / 1200) ** 0.5 / 4


def test_turned_codes_lead_by_less() -> None:
    turn = torch.linalg.qr(torch.randn(4, 4, generator=seeded(4)))[0]
    train, test = noisy(grid(), 1), noisy(grid(), 2)
    straight = sap(train, grid(), test, grid(), seeded())["sap"].value
    assert sap(train @ turn, grid(), test @ turn, grid(), seeded())["sap"].value < 0.6 * straight


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(4)), st.lists(st.integers(-8, 8), min_size=4, max_size=4))
def test_order_and_scale_of_dimensions_change_nothing(order: list[int], powers: list[int]) -> None:
    train, test, scale = noisy(grid(4), 1), noisy(grid(4), 2), 2.0 ** torch.tensor(powers)
    changed = sap(train[:, order] * scale, grid(4), test[:, order] * scale, grid(4), seeded())["sap"]
    assert changed.value == pytest.approx(sap(train, grid(4), test, grid(4), seeded())["sap"].value)


def test_clips_of_unknown_class_count_neither_in_the_fit_nor_in_the_score() -> None:
    factors, codes, held, held_codes = grid(), one_each(grid()), grid(5), one_each(grid(5))
    for known, dimensions in ((factors, codes), (held, held_codes)):
        known["hair"][:24] = -1
        dimensions[:24, 0] = 9.0
    figure = sap(codes, factors, held_codes, held, seeded())["sap"]
    assert figure.value == pytest.approx(((1 - 1 / 4) + (1 - 1 / 3)) / 2)
    factors["action"][:24], held["action"][:24] = -1, -1
    assert sap(codes, factors, held_codes, held, seeded())["sap"].clips == 36


def test_clips_that_belong_together_widen_the_interval() -> None:
    train, test = noisy(grid(), 1), noisy(grid(2), 2).repeat_interleave(8, 0)
    factors = {name: labels.repeat_interleave(8) for name, labels in grid(2).items()}
    alone = sap(train, grid(), test, factors, seeded())["sap"]
    together = sap(train, grid(), test, factors, seeded(), torch.arange(24).repeat_interleave(8))["sap"]
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_nan_one_class_and_a_single_dimension_are_refused() -> None:
    codes, held = one_each(grid()), one_each(grid())
    held[3] = torch.nan
    with pytest.raises(UserError, match="1 of 120 clips with NaN"):
        sap(codes, grid(), held, grid(), seeded())
    with pytest.raises(UserError, match="at least two classes of hair, got 1 in 1 clips"):
        sap(codes, grid(), codes[:1], {name: labels[:1] for name, labels in grid().items()}, seeded())
    with pytest.raises(UserError, match="at least 2 dimensions"):
        sap(codes[:, :1], grid(), codes[:, :1], grid(), seeded())
