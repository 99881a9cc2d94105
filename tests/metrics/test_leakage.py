from __future__ import annotations

import math
from itertools import product
from typing import Literal

import pytest
import torch
from torch import Tensor

from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.judge import Verdicts
from stillmotion.metrics.leakage import Three, leakage, resampled
from stillmotion.metrics.pooled import pooled

CLASSES = {"who": 4, "act": 3}
COUNTS = (300, 100, 200)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_hot(of: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(of, 4).float()


def told(seed: int, count: int) -> dict[str, Tensor]:
    g = seeded(seed)
    return {factor: torch.randint(classes, (count,), generator=g) for factor, classes in CLASSES.items()}


LABELS = Three(*(told(seed, count) for seed, count in enumerate(COUNTS)))


def run(codes: list[dict[str, Tensor]], way: Literal["mean", "sample"] = "mean", clusters: Tensor | None = None) -> Figures:
    return leakage(codes[0], codes[1], codes[2], LABELS, moving=("act",), way=way, generator=seeded(0), clusters=clusters)


def near(figures: Figures, name: str, chance: str) -> bool:
    """Within four standard errors, and what a guess of another class than the largest may cost."""
    found, expected = figures[name], figures[chance].value
    return abs(found.value - expected) < 4 * math.sqrt(expected * (1 - expected) / found.clips) + 0.05


def test_ideal_codes_tell_their_own_and_leak_nothing() -> None:
    found = run([{"static": one_hot(labels["who"]), "dynamic": one_hot(labels["act"])} for labels in LABELS])
    for kind in ("", "_mlp"):
        assert found[f"probe_static_who_mean{kind}"].value == found[f"probe_dynamic_act_mean{kind}"].value == 1.0
        assert near(found, f"leak_static_to_act_mean{kind}", "chance_act")
        assert near(found, f"leak_dynamic_to_who_mean{kind}", "chance_who")


def test_an_identity_in_the_code_of_movement_is_a_leak_of_that_code() -> None:
    everything = [torch.cat([one_hot(labels["who"]), one_hot(labels["act"])], 1) for labels in LABELS]
    found = run([{"static": torch.randn(len(code), 3, generator=seeded(k)), "dynamic": code} for k, code in enumerate(everything)])
    assert found["leak_dynamic_to_who_mean"].value == found["leak_dynamic_to_who_mean_mlp"].value == 1.0
    assert near(found, "probe_static_who_mean", "chance_who")


def test_names_say_code_factor_way_and_probe() -> None:
    codes = [{code: torch.randn(count, 2, generator=seeded(0)) for code in ("static", "dynamic", "path")} for count in COUNTS]
    found = run(codes, "sample")
    own = ("probe_static_who", "probe_dynamic_act", "probe_path_act")
    others = ("leak_static_to_act", "leak_dynamic_to_who", "leak_path_to_who")
    assert set(found) == {f"{name}_sample{kind}" for name, kind in product(own + others, ("", "_mlp"))} | {"chance_who", "chance_act"}
    assert {figure.clips for figure in found.values()} == {COUNTS[2]}


def test_chance_is_the_share_of_the_largest_class_among_held_out_clips() -> None:
    found = run([{"static": torch.randn(count, 2, generator=seeded(3))} for count in COUNTS])
    assert found["chance_who"].value == pytest.approx(int(torch.bincount(LABELS.test["who"]).max()) / COUNTS[2])


def test_a_wide_posterior_hides_what_its_mean_shows() -> None:
    codes = [Gaussian(1e-3 * one_hot(labels["act"]), torch.ones(len(labels["act"]), 4)) for labels in LABELS]
    means = run([pooled(Codes(static=code.mean, static_posterior=code)) for code in codes])
    samples = run([pooled(Codes(static=code.mean, static_posterior=code), seeded(k)) for k, code in enumerate(codes)], "sample")
    for kind in ("", "_mlp"):
        assert means[f"leak_static_to_act_mean{kind}"].value == 1.0
        assert near(samples, f"leak_static_to_act_sample{kind}", "chance_act")


def test_test_clips_of_a_class_never_trained_on_are_left_out_and_clusters_follow() -> None:
    labels = Three(*({"who": part["who"].clone()} for part in LABELS))
    labels.train["who"][labels.train["who"] == 3] = -1
    kept = int((labels.test["who"] < 3).sum())
    codes = [{"static": one_hot(part["who"])} for part in LABELS]
    clusters = torch.arange(COUNTS[2]) // 70
    found = leakage(codes[0], codes[1], codes[2], labels, moving=(), way="mean", generator=seeded(0), clusters=clusters)
    assert found["chance_who"].clips == found["probe_static_who_mean"].clips == kept
    assert found["probe_static_who_mean"].value == 1.0
    assert found["probe_static_who_mean"].low < 0.5  # three clusters, so nothing is sure


def test_figures_are_those_of_their_generator() -> None:
    codes = [{"static": torch.randn(count, 2, generator=seeded(count))} for count in COUNTS]
    assert run(codes) == run(codes)


def test_codes_that_are_not_numbers_are_refused() -> None:
    codes = [{"static": torch.zeros(count, 2)} for count in COUNTS]
    codes[2]["static"][0, 0] = torch.inf
    with pytest.raises(UserError, match="finite codes"):
        run(codes)


def test_a_factor_of_one_class_is_refused_by_name() -> None:
    labels = Three(*({"who": torch.zeros_like(part["who"])} for part in LABELS))
    codes = [{"static": torch.zeros(count, 2)} for count in COUNTS]
    with pytest.raises(UserError, match="got 1 among training clips for who"):
        leakage(codes[0], codes[1], codes[2], labels, moving=(), way="mean", generator=seeded(0))


# After resampling


def verdicts(who: Tensor, act: Tensor) -> Verdicts:
    return Verdicts({"who": one_hot(who), "act": one_hot(act)[:, :3]}, torch.zeros(len(who), 1))


def test_a_clean_swapper_shows_chance_after_resampling_and_a_cheat_the_truth() -> None:
    labels = told(0, 2000)
    new = told(1, 2000)
    clean = resampled(
        verdicts(new["who"], labels["act"]), verdicts(labels["who"], new["act"]), labels, moving=("act",), generator=seeded(0)
    )
    assert set(clean) == {"resampled_static_who", "resampled_dynamic_act"}
    assert clean["resampled_static_who"].value == pytest.approx(1 / 4, abs=0.04)
    assert clean["resampled_dynamic_act"].value == pytest.approx(1 / 3, abs=0.05)
    ignored = verdicts(labels["who"], labels["act"])
    cheat = resampled(ignored, ignored, labels, moving=("act",), generator=seeded(0))
    assert {figure.value for figure in cheat.values()} == {1.0}


def test_unknown_labels_and_factors_that_the_judge_does_not_know_are_left_out() -> None:
    labels = told(0, 100)
    seen = verdicts(labels["who"], labels["act"])
    labels["who"] = torch.where(torch.arange(100) < 30, -1, labels["who"])
    labels |= {"hat": torch.zeros(100, dtype=torch.int64), "turn": torch.full((100,), -1)}
    found = resampled(seen, seen, labels, moving=("act", "turn"), generator=seeded(0), clusters=torch.arange(100) // 10)
    assert set(found) == {"resampled_static_who", "resampled_dynamic_act"}
    assert (found["resampled_static_who"].value, found["resampled_static_who"].clips) == (1.0, 70)


def test_verdicts_of_other_clips_are_refused() -> None:
    labels = told(0, 100)
    seen = verdicts(labels["who"], labels["act"])
    with pytest.raises(UserError, match="one label of who for each of 50 verdicts, got 100"):
        resampled(seen[:50], seen, labels, moving=("act",), generator=seeded(0))


def test_clips_that_only_stay_are_asked_for_that_alone() -> None:
    labels = told(0, 100)
    seen = verdicts(labels["who"], labels["act"])
    assert set(resampled(seen, seen, {"who": labels["who"]}, moving=("act",), generator=seeded(0))) == {"resampled_static_who"}


def test_clips_without_labels_are_refused() -> None:
    seen = verdicts(LABELS.test["who"], LABELS.test["act"])
    with pytest.raises(UserError, match="labelled clips to judge, got clips without labels"):
        resampled(seen, seen, {}, moving=("act",), generator=seeded(0))


def test_verdicts_that_are_not_numbers_are_refused() -> None:
    seen = verdicts(LABELS.test["who"], LABELS.test["act"])
    seen.logits["act"][0] = torch.nan
    with pytest.raises(UserError, match="finite verdicts on act"):
        resampled(seen, seen, LABELS.test, moving=("act",), generator=seeded(0))
