from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.modularity import explicitness, modularity

Factors = dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(repeats: int = 10) -> Factors:
    hair, action = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    return {"hair": hair.flatten().repeat(repeats), "action": action.flatten().repeat(repeats)}


def one_each(factors: Factors) -> Tensor:
    return torch.stack(list(factors.values()), 1).float()


def one_hot(factors: Factors) -> Tensor:
    return torch.cat([torch.nn.functional.one_hot(labels) for labels in factors.values()], 1).float()


def noisy(factors: Factors, seed: int, amount: float = 0.4) -> Tensor:
    codes = one_each(factors)
    return codes + amount * torch.randn(codes.shape, generator=seeded(seed))


@pytest.mark.parametrize("code", [one_each, one_hot])
def test_dimensions_of_one_factor_each_are_modular(code: type) -> None:
    figure = modularity(code(grid()), grid(), seeded())["modularity"]
    assert (figure.value, figure.clips) == (pytest.approx(1), 120)


def test_a_dimension_that_tells_two_factors_alike_is_not_modular() -> None:
    first, second = torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij")
    factors = {"hair": first.flatten().repeat(9), "action": second.flatten().repeat(9)}
    both = (3 * factors["hair"] + factors["action"]).float()
    assert modularity(both[:, None], factors, seeded())["modularity"].value == pytest.approx(0, abs=1e-9)
    mixed = torch.stack([both, factors["hair"]], 1)
    assert modularity(mixed, factors, seeded())["modularity"].value == pytest.approx(0.5)


def test_copies_and_collapsed_dimensions_leave_it_as_it_is() -> None:
    codes = noisy(grid(), 1)
    value = modularity(codes, grid(), seeded())["modularity"].value
    more = torch.cat([codes, codes, torch.full((120, 3), 2.5)], 1)
    assert 0.5 < value < 1
    assert modularity(more, grid(), seeded())["modularity"].value == pytest.approx(value)


def test_a_code_that_has_collapsed_altogether_scores_nothing() -> None:
    assert modularity(torch.ones(120, 3), grid(), seeded())["modularity"].value == 0


def test_useless_codes_look_as_modular_as_the_bias_of_the_estimate_makes_them() -> None:
    kinds = {"few": torch.randint(2, (4000,), generator=seeded(1)), "many": torch.randint(9, (4000,), generator=seeded(2))}
    codes = torch.rand(4000, 30, generator=seeded(3))
    assert modularity(codes, kinds, seeded())["modularity"].value == pytest.approx(1 - (1 / 8) ** 2, abs=0.01)


def test_turned_codes_are_less_modular() -> None:
    codes, turn = noisy(grid(), 1, 0.1), torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    assert modularity(codes @ turn, grid(), seeded())["modularity"].value < modularity(codes, grid(), seeded())["modularity"].value - 0.1


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(4)), st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4))
def test_order_and_scale_of_dimensions_change_nothing(order: list[int], scale: list[float]) -> None:
    codes = torch.cat([noisy(grid(4), 1), noisy(grid(4), 2)], 1).double()
    changed = modularity(codes[:, order] * torch.tensor(scale, dtype=torch.double), grid(4), seeded())["modularity"]
    assert changed.value == pytest.approx(modularity(codes, grid(4), seeded())["modularity"].value)


def test_a_lone_factor_nan_and_one_class_are_refused_by_modularity() -> None:
    with pytest.raises(UserError, match="at least 2 labelled factors, got hair"):
        modularity(one_each(grid()), {"hair": grid()["hair"]}, seeded())
    with pytest.raises(UserError, match="finite codes"):
        modularity(one_each(grid()) / 0, grid(), seeded())
    with pytest.raises(UserError, match="at least two classes of hair"):
        modularity(torch.ones(1, 2), {name: labels[:1] for name, labels in grid().items()}, seeded())


def test_ideal_codes_are_explicit() -> None:
    figure = explicitness(one_hot(grid()), grid(), one_hot(grid(5)), grid(5), seeded())["explicitness"]
    assert (figure.value, figure.low, figure.high, figure.clips) == (1, 1, 1, 60)


def test_the_area_is_that_of_scikit_learn_ties_included() -> None:
    train, test = noisy(grid(), 1, 1.0).round(), noisy(grid(), 2, 1.0).round()
    scaler = StandardScaler().fit(train.double().numpy())
    areas = []
    for labels in grid().values():
        for kind in range(int(labels.max()) + 1):
            reader = LogisticRegression().fit(scaler.transform(train.double().numpy()), labels.numpy() == kind)
            areas.append(roc_auc_score(labels.numpy() == kind, reader.decision_function(scaler.transform(test.double().numpy()))))
    figure = explicitness(train, grid(), test, grid(), seeded())["explicitness"]
    assert figure.value == pytest.approx(sum(areas) / len(areas), abs=2e-3)
    assert figure.low < figure.value < figure.high < 0.95


def test_useless_codes_are_at_chance_which_is_one_half() -> None:
    train, test = (torch.randn(1200, 5, generator=seeded(k)) for k in (1, 2))
    deviation = (1 / 12 * (1 / 300 + 1 / 900)) ** 0.5
    figure = explicitness(train, grid(100), test, grid(100), seeded())["explicitness"]
    assert figure.value == pytest.approx(0.5, abs=3 * deviation)


def test_explicitness_ignores_clips_of_unknown_class_and_classes_that_one_part_lacks() -> None:
    factors, held = grid(), grid(5)
    codes, held_codes = one_hot(factors), one_hot(held)
    codes[:24], held_codes[:12] = 50.0, -50.0
    for labels in factors.values():
        labels[:24] = -1
    for labels in held.values():
        labels[:12] = -1
    held["hair"][held["hair"] == 3] = 5
    figure = explicitness(codes, factors, held_codes, held, seeded())["explicitness"]
    assert (figure.value, figure.clips) == (1, 48)


def test_explicitness_without_a_class_in_common_or_with_nan_is_refused() -> None:
    kinds = torch.tensor([0, 1, 0, 1])
    with pytest.raises(UserError, match="classes that both training and held-out clips show"):
        explicitness(torch.randn(4, 2), {"hair": kinds}, torch.randn(4, 2), {"hair": kinds + 2}, seeded())
    with pytest.raises(UserError, match="finite codes"):
        explicitness(torch.ones(4, 2) * torch.nan, {"hair": kinds}, torch.ones(4, 2), {"hair": kinds}, seeded())
