from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.information import BINS, active, both_pools, entropy, levels, mutual_information, pool


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def labels(count: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def test_levels_are_the_bins_of_numpy() -> None:
    codes = normal(300, 4)
    for column in range(4):
        edges = np.histogram_bin_edges(codes[:, column].numpy(), BINS)
        expected = np.clip(np.digitize(codes[:, column].numpy(), edges) - 1, 0, BINS - 1)
        assert levels(codes)[:, column].tolist() == expected.tolist()


def test_mutual_information_is_that_of_scikit_learn() -> None:
    kinds = labels(300, 5)
    codes = normal(300, 3) + kinds[:, None] * torch.tensor([0.0, 0.5, 3.0])
    binned = levels(codes)
    expected = [mutual_info_score(binned[:, column].numpy(), kinds.numpy()) for column in range(3)]
    assert mutual_information(binned, kinds).tolist() == pytest.approx(expected, abs=1e-12)


def test_what_is_independent_has_the_bias_of_the_plug_in_estimate_and_no_more() -> None:
    codes = torch.rand(4000, 200, generator=torch.Generator().manual_seed(1)).double()
    bias = (BINS - 1) * (6 - 1) / (2 * 4000)
    assert float(mutual_information(levels(codes), labels(4000, 6)).mean()) == pytest.approx(bias, rel=0.05)


def test_entropy_of_even_classes_is_their_logarithm_and_the_unknown_do_not_count() -> None:
    assert entropy(torch.tensor([0, 1, 2, 3, -1, -1])) == pytest.approx(math.log(4))
    assert entropy(torch.tensor([1, 1, -1])) == 0


def test_clips_of_unknown_label_do_not_inform() -> None:
    kinds, codes = labels(200, 3), normal(200, 2)
    hidden = torch.where(torch.arange(200) < 80, -1, kinds)
    binned = levels(codes)
    assert torch.equal(mutual_information(binned, hidden), mutual_information(binned[80:], kinds[80:]))


def test_collapsed_dimensions_are_known_whatever_their_offset_and_scale() -> None:
    jitter = 1 + 1e-8 * normal(50)
    codes = torch.stack([torch.zeros(50).double(), 7 * jitter, 1e9 * jitter, 1e-9 * normal(50), 1000 + normal(50)], 1)
    assert active(codes).tolist() == [False, False, False, True, True]
    assert levels(codes)[:, :3].abs().max() == 0


def test_a_pool_leaves_out_clips_without_any_label() -> None:
    codes = normal(4, 2)
    codes[3] = math.nan
    factors = {"hair": torch.tensor([0, 1, -1, -1]), "action": torch.tensor([1, -1, 0, -1])}
    clips = pool(codes, factors, torch.tensor([5, 6, 7, 8]))
    assert torch.equal(clips.codes, codes[:3])
    assert {name: values.tolist() for name, values in clips.factors.items()} == {"hair": [0, 1, -1], "action": [1, -1, 0]}
    assert clips.clusters is not None
    assert clips.clusters.tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    ("codes", "factors", "clusters", "expected"),
    [
        (normal(4, 1), {"hair": [0, 1, 0, 1]}, None, "of at least 2 dimensions"),
        (normal(4), {"hair": [0, 1, 0, 1]}, None, "of at least 2 dimensions"),
        (normal(4, 2), {}, None, "at least 1 labelled factors"),
        (normal(4, 2), {"hair": [0, 1, 0]}, None, "hair of 4 clips"),
        (normal(4, 2), {"hair": [0, 1, 0, 1]}, [1, 2], "clusters of 4 clips"),
        (normal(4, 2), {"hair": [2, 2, -1, 2]}, None, "at least two classes of hair, got 1 in 4 clips"),
        (normal(1, 2), {"hair": [2]}, None, "at least two classes of hair"),
        (normal(0, 2), {"hair": []}, None, "at least two classes of hair, got 0"),
        (normal(4, 2) / 0, {"hair": [0, 1, 0, 1]}, None, "finite codes"),
    ],
)
def test_a_pool_that_nothing_can_be_measured_on_is_refused(
    codes: Tensor, factors: dict[str, list[int]], clusters: list[int] | None, expected: str
) -> None:
    groups = None if clusters is None else torch.tensor(clusters)
    with pytest.raises(UserError, match=expected):
        pool(codes, {name: torch.tensor(values, dtype=torch.long) for name, values in factors.items()}, groups, dimensions=2)


def test_training_and_held_out_clips_must_be_of_one_kind() -> None:
    kinds = torch.tensor([0, 1, 0, 1])
    with pytest.raises(UserError, match="held-out codes of the shape .clips, 2."):
        both_pools(normal(4, 2), {"hair": kinds}, normal(4, 3), {"hair": kinds})
    with pytest.raises(UserError, match="held-out labels of hair, got action"):
        both_pools(normal(4, 2), {"hair": kinds}, normal(4, 2), {"action": kinds})
