"""Intervals cover the truth as often as they say, and are those of independent implementations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from metrics.saying import seeded
from stillmotion.core.errors import UserError
from stillmotion.metrics import figure
from stillmotion.metrics.figure import Figure, bootstrap, finite, mean, resample, share


def covered(found: list[Figure], truth: float) -> float:
    return float(np.mean([one.low <= truth <= one.high for one in found]))


# How often intervals hold the truth


def test_intervals_of_independent_values_hold_the_mean_nineteen_times_in_twenty() -> None:
    noise = seeded()
    found = [mean(torch.randn(60, generator=noise) + 3, noise) for _ in range(200)]
    assert 0.9 <= covered(found, 3) <= 0.98


def test_intervals_of_shares_hold_the_truth() -> None:
    noise = seeded()
    found = [share(torch.rand(80, generator=noise) < 0.3, noise) for _ in range(200)]
    assert 0.9 <= covered(found, 0.3) <= 0.98


def clustered(noise: torch.Generator, clusters: int = 40, each: int = 8) -> tuple[Tensor, Tensor]:
    """Values of mean 1 that differ more from cluster to cluster than within one."""
    which = torch.arange(clusters).repeat_interleave(each)
    own = 1 + torch.randn(clusters, generator=noise)
    return own[which] + 0.3 * torch.randn(len(which), generator=noise), which


def test_whole_clusters_must_be_drawn_for_the_interval_to_hold_the_truth() -> None:
    noise, apart, together = seeded(), [], []
    for _ in range(100):
        values, which = clustered(noise)
        apart.append(mean(values, noise))
        together.append(mean(values, noise, which))
    assert 0.88 <= covered(together, 1) <= 0.99
    assert covered(apart, 1) < 0.75, "as independent clips the interval is far too narrow"


def test_bootstrap_of_any_statistic_covers_too() -> None:
    noise, found = seeded(), []
    for _ in range(80):
        values, which = clustered(noise, 30, 3)
        found.append(bootstrap(lambda index, v=values: float(v[index].mean()), len(values), noise, which, rounds=100))
    assert 0.86 <= covered(found, 1) <= 0.99


# Other implementations


@pytest.mark.parametrize("clips", [5, 40, 500])
def test_the_interval_of_a_mean_is_that_of_scipy(clips: int) -> None:
    values = torch.rand(clips, generator=seeded()) ** 2
    ours = mean(values, seeded(1))
    theirs = stats.bootstrap((values.double().numpy(),), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0))
    assert ours.value == pytest.approx(float(values.double().mean()), rel=1e-12)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.09 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.09 * width)


@pytest.mark.parametrize("clips", [1, 3, 20, 1000])
def test_where_all_or_none_are_hits_the_open_end_is_that_of_wilson(clips: int) -> None:
    for hits in (0, clips):
        ours = share(torch.full((clips,), bool(hits)), seeded())
        low, high = stats.binomtest(hits, clips).proportion_ci(0.95, method="wilson")
        assert (ours.value, ours.clips) == (hits / clips, clips)
        assert ours.low == pytest.approx(low, abs=1e-5)
        assert ours.high == pytest.approx(high, abs=1e-5)


def test_wilsons_end_counts_clusters_not_clips() -> None:
    found = share(torch.ones(100, dtype=torch.bool), seeded(), torch.arange(100) // 20)
    low, _ = stats.binomtest(5, 5).proportion_ci(0.95, method="wilson")
    assert found.low == pytest.approx(low, abs=1e-5)
    assert found.clips == 100


def test_a_mean_is_a_share_of_ones() -> None:
    hits = torch.rand(50, generator=seeded()) < 0.6
    assert share(hits, seeded(1)) == mean(hits.float(), seeded(1))


def plainly(values: Tensor, clusters: Tensor, rounds: int, noise: torch.Generator) -> tuple[float, float]:
    """The percentile interval of the mean over draws of whole clusters, one member at a time."""
    members = [values[clusters == name].tolist() for name in clusters.unique()]
    found = []
    for _ in range(rounds):
        drawn = [value for k in torch.randint(len(members), (len(members),), generator=noise).tolist() for value in members[k]]
        found.append(sum(drawn) / len(drawn))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def test_clusters_of_unequal_size_weigh_as_many_as_they_are() -> None:
    clusters = torch.tensor([7] * 9 + [2] + [40] * 3 + [-5] * 2 + [11])[torch.randperm(16, generator=seeded())]
    values = torch.rand(16, generator=seeded(3), dtype=torch.double) + (clusters == 7)
    expected = plainly(values, clusters, figure.ROUNDS, seeded(5))
    found = mean(values, seeded(5), clusters)
    assert found.value == pytest.approx(float(values.mean()))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_bootstrap_of_the_mean_is_the_mean() -> None:
    values, which = clustered(seeded(), 12, 4)
    for clusters in (None, which):
        one = mean(values, seeded(1), clusters)
        other = bootstrap(lambda index: float(values.double()[index].mean()), len(values), seeded(2), clusters, rounds=1000)
        width = one.high - one.low
        assert other.value == pytest.approx(one.value)
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.12 * width)


def test_the_size_of_chunks_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    values, which = torch.rand(30, generator=seeded()), torch.arange(30) // 4
    whole = [mean(values, seeded(1), clusters) for clusters in (None, which)]
    for chunk in (1, 30, 64, 1000):
        monkeypatch.setattr(figure, "CHUNK", chunk)
        assert [mean(values, seeded(1), clusters) for clusters in (None, which)] == whole


# Resamples


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 5), min_size=1, max_size=20), st.integers(0, 1000))
def test_a_resample_holds_whole_clusters(names: list[int], seed: int) -> None:
    clusters = torch.tensor(names)
    drawn = resample(len(names), seeded(seed), clusters)
    assume(len(set(names)) > 1)
    times = drawn.bincount(minlength=len(names))
    for name in clusters.unique():
        assert len(times[clusters == name].unique()) == 1, "all members of a cluster come equally often"
    draws = sum(int(times[clusters == name][0]) for name in clusters.unique())
    assert draws == len(clusters.unique())


def test_clips_of_a_single_cluster_are_drawn_one_by_one_so_that_the_interval_has_a_width() -> None:
    values, alone = torch.arange(20.0), torch.full((20,), 7)
    assert len(resample(20, seeded(), alone).unique()) > 5
    figure = mean(values, seeded(), alone)
    assert figure == mean(values, seeded())
    assert figure.low < figure.value < figure.high


def test_a_resample_of_clips_draws_each_evenly() -> None:
    noise = seeded()
    times = torch.stack([resample(5, noise).bincount(minlength=5) for _ in range(800)])
    assert (times.sum(1) == 5).all()
    torch.testing.assert_close(times.double().mean(0), torch.ones(5, dtype=torch.double), atol=0.12, rtol=0)


# One value


WAYS: dict[str, Callable[[torch.Generator], Figure]] = {
    "share": lambda noise: share(torch.arange(999) % 3 == 0, noise),
    "mean": lambda noise: mean(torch.arange(30.0), noise),
    "bootstrap": lambda noise: bootstrap(lambda index: float(index.double().var()), 30, noise),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_seed_decides_and_the_interval_holds_the_value(way: Callable[[torch.Generator], Figure]) -> None:
    one, same, other = way(seeded(1)), way(seeded(1)), way(seeded(2))
    assert one == same
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)
    assert one.low < one.value < one.high


def test_the_global_generator_is_not_touched() -> None:
    state = torch.get_rng_state()
    for way in WAYS.values():
        way(seeded())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_value_beyond_all_resamples_is_in_its_interval() -> None:
    found = bootstrap(lambda index: float(len(index.unique())), 40, seeded())
    assert found.value == found.high == 40
    assert found.low < 35


def test_resamples_that_lack_a_class_are_left_out() -> None:
    kinds = torch.tensor([0, 0, 0, 1])

    def gap(index: Tensor) -> float:
        chosen = kinds[index]
        return float((chosen == 0).sum() / (chosen == 1).sum()) if bool((chosen == 1).any()) else math.nan

    found = bootstrap(gap, 4, seeded())
    assert found.value == 3
    assert math.isfinite(found.low)
    assert found.high <= 3


def test_one_clip_has_a_value_and_no_spread() -> None:
    assert mean(torch.tensor([0.25]), seeded()) == Figure(0.25, 0.25, 0.25, 1)


@pytest.mark.parametrize("way", [
    lambda: share(torch.zeros(0, dtype=torch.bool), seeded()),
    lambda: mean(torch.zeros(0), seeded()),
    lambda: bootstrap(lambda index: 0.0, 0, seeded()),
], ids=["share", "mean", "bootstrap"])  # fmt: skip
def test_no_clips_are_refused(way: Callable[[], Figure]) -> None:
    with pytest.raises(UserError, match="at least one clip to measure, got none"):
        way()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_numbers_are_refused_and_counted(bad: float) -> None:
    values = torch.ones(6)
    values[[1, 4]] = bad
    with pytest.raises(UserError, match="finite values, got 2 of 6 clips with NaN or infinite ones. Check frames"):
        mean(values, seeded())
    with pytest.raises(UserError, match=f"a finite value, got {bad}"):
        bootstrap(lambda index: bad, 6, seeded())


def test_finite_names_what_and_counts_clips_not_numbers() -> None:
    codes = torch.zeros(4, 3, 2)
    assert finite(codes, "codes") is codes
    codes[2] = math.nan
    with pytest.raises(UserError, match="finite codes, got 1 of 4 clips"):
        finite(codes, "codes")
