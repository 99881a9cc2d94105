from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.information import BINS, entropy, levels
from stillmotion.metrics.mig import mig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(repeats: int = 10) -> dict[str, Tensor]:
    """Every pair of 4 hairs and 3 actions equally often, so that neither tells anything of the other."""
    hair, action = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    return {"hair": hair.flatten().repeat(repeats), "action": action.flatten().repeat(repeats)}


def one_each(factors: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(factors.values()), 1).float()


def noisy(factors: dict[str, Tensor]) -> Tensor:
    codes = torch.cat([one_each(factors), torch.zeros(len(factors["hair"]), 3)], 1)
    return codes + 0.4 * torch.randn(codes.shape, generator=seeded(3))


def test_one_dimension_for_each_factor_is_ideal() -> None:
    figures = mig(one_each(grid()), grid(), seeded())
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx({"mig": 1, "mig_hair": 1, "mig_action": 1})
    assert {figure.clips for figure in figures.values()} == {120}


def test_a_dimension_written_twice_leaves_no_gap() -> None:
    assert mig(one_each(grid()).repeat(1, 2), grid(), seeded())["mig"].value == pytest.approx(0, abs=1e-12)


def test_one_hot_codes_have_no_gap_because_each_class_has_a_dimension_that_tells_as_much() -> None:
    one_hot = torch.cat([torch.nn.functional.one_hot(labels) for labels in grid().values()], 1).float()
    assert mig(one_hot, grid(), seeded())["mig"].value == pytest.approx(0, abs=1e-12)


def test_the_gap_is_that_of_scikit_learns_mutual_information() -> None:
    factors, codes = grid(20), noisy(grid(20))
    binned = levels(codes.double())
    gaps = []
    for labels in factors.values():
        told = sorted(mutual_info_score(column.numpy(), labels.numpy()) for column in binned.T)
        gaps.append((told[-1] - told[-2]) / entropy(labels))
    figures = mig(codes, factors, seeded())
    assert [figures["mig_hair"].value, figures["mig_action"].value] == pytest.approx(gaps)
    assert figures["mig"].value == pytest.approx(sum(gaps) / 2)
    assert 0.5 * figures["mig"].value < figures["mig"].low < figures["mig"].value


def test_useless_codes_stay_below_the_bias_of_the_estimate() -> None:
    factors = grid(100)
    figures = mig(torch.randn(1200, 8, generator=seeded(1)), factors, seeded())
    for name, classes in (("hair", 4), ("action", 3)):
        assert 0 <= figures[f"mig_{name}"].value < (BINS - 1) * (classes - 1) / (2 * 1200) / entropy(factors[name])


def test_turned_codes_have_less_of_a_gap() -> None:
    codes = noisy(grid(20))
    turn = torch.linalg.qr(torch.randn(5, 5, generator=seeded(4)))[0]
    assert mig(codes @ turn, grid(20), seeded())["mig"].value < 0.5 * mig(codes, grid(20), seeded())["mig"].value


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(5)), st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5), st.floats(-10, 10))
def test_order_scale_and_offset_of_dimensions_change_nothing(order: list[int], scale: list[float], offset: float) -> None:
    codes = noisy(grid(5)).double()
    changed = codes[:, order] * torch.tensor(scale, dtype=torch.double) + offset
    assert mig(changed, grid(5), seeded())["mig"].value == pytest.approx(mig(codes, grid(5), seeded())["mig"].value)


def test_each_factor_counts_only_its_known_clips() -> None:
    factors, codes = grid(), one_each(grid())
    factors["hair"][:24] = -1
    codes[:24, 0] = 2.0
    figures = mig(codes, factors, seeded())
    assert (figures["mig_hair"].value, figures["mig_hair"].clips) == (pytest.approx(1), 96)
    assert (figures["mig"].value, figures["mig"].clips) == (pytest.approx(1), 120)


def test_clips_that_belong_together_widen_the_interval() -> None:
    base = {name: labels.repeat_interleave(8) for name, labels in grid(3).items()}
    codes, clusters = noisy(grid(3)).repeat_interleave(8, 0), torch.arange(36).repeat_interleave(8)
    alone, together = mig(codes, base, seeded())["mig"], mig(codes, base, seeded(), clusters)["mig"]
    assert alone.value == together.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_unknown_clips_take_their_clusters_with_them() -> None:
    factors, clusters = grid(), torch.arange(120) // 12
    factors["hair"][:24] = -1
    known = {"hair": factors["hair"][24:]}
    expected = mig(noisy(grid())[24:], known, seeded(), clusters[24:])["mig_hair"]
    assert mig(noisy(grid()), {"hair": factors["hair"]}, seeded(), clusters)["mig_hair"] == expected
    assert mig(noisy(grid()), factors, seeded(), clusters)["mig_hair"].clips == 96


def test_nan_one_class_and_a_single_dimension_are_refused() -> None:
    with pytest.raises(UserError, match="finite codes"):
        mig(one_each(grid()) * torch.nan, grid(), seeded())
    with pytest.raises(UserError, match="at least two classes of hair"):
        mig(torch.ones(1, 2), {"hair": torch.zeros(1, dtype=torch.long)}, seeded())
    with pytest.raises(UserError, match="at least 2 dimensions"):
        mig(one_each(grid())[:, :1], grid(), seeded())
