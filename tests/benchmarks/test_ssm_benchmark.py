from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.ssm import PAPER, Size, best, growth, kvae_step, main, make, ours, pykalman, simdkalman, statsmodels

from stillmotion.models.kvae import KVAEConfig

SMALL = KVAEConfig(size=8, width=4)
TINY = Size(6, 2, (3, 6), (1, 2), 12, (2, 200, 1600), SMALL)


def test_all_variants_compute_the_same() -> None:
    clips = make(9, 3, torch.float64)
    scan, loop = ours(clips, "scan"), ours(clips, "loop")
    for one, other in ((scan.mean, loop.mean), (scan.covariance, loop.covariance)):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    for variant in (pykalman, statsmodels):
        for k, (mean, covariance) in enumerate(variant(clips, 3)):
            np.testing.assert_allclose(mean, scan.mean[k].detach().numpy(), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(covariance, scan.covariance[k].detach().numpy(), rtol=1e-9, atol=1e-9)


def test_simdkalman_computes_the_static_system() -> None:
    clips = make(9, 3, torch.float64)
    still = replace(clips, system=replace(clips.system, A=clips.system.A[0, 0].clone(), C=clips.system.C[0, 0].clone()))
    mean, covariance = simdkalman(clips)
    found = ours(still, "scan")
    np.testing.assert_allclose(mean, found.mean.detach().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(covariance, found.covariance.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_what_is_timed_in_float32_does_not_switch_to_float64() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ours(make(300, 4, torch.float32), "scan")
    right = ours(make(300, 4, torch.float64), "scan")
    torch.testing.assert_close(found.mean.double(), right.mean, rtol=1e-3, atol=1e-4)


def test_the_size_of_the_ratios() -> None:
    assert (PAPER.frames, PAPER.clips) == (2000, 32)


def test_growth_is_a_power() -> None:
    table = {f"{frames} x {clips}": {"scan": frames * clips**2.0} for frames in (3, 6) for clips in (1, 2)}
    assert growth(table, TINY, 0) == pytest.approx(1)
    assert growth(table, TINY, 1) == pytest.approx(2)


def test_the_best_of_repeats_is_taken() -> None:
    calls: list[str] = []
    found = best({"one": lambda: calls.append("one"), "two": lambda: sum(range(200000))}, 3)
    assert calls == ["one"] * 3
    assert found["two"] > found["one"]


def test_the_parts_of_a_training_step_make_up_the_step() -> None:
    """The gradient of the whole is that of the pixels through the VAE and of the prior through the codes, so each part must run back."""
    parts = kvae_step(SMALL, 4, 2)
    assert list(parts) == ["kvae_step", "kvae_vae", "kvae_filter", "kvae_step_missing", "kvae_filter_missing"]
    for run in parts.values():
        run()


def test_quick_prints_one_json_object_last(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick"], TINY)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) > 8
    figures = json.loads(lines[-1])
    assert figures["ratio"] == pytest.approx(figures["seconds_pykalman"] / figures["seconds_scan"], rel=0.05)
    assert figures["ratio_loop"] == pytest.approx(figures["seconds_loop"] / figures["seconds_scan"], rel=0.05)
    assert set(figures["grid"]) == {"3 x 1", "3 x 2", "6 x 1", "6 x 2"}
    assert set(figures["grid"]["3 x 1"]) == {"scan", "loop", "pykalman", "statsmodels", "simdkalman"}
    shown = {"peak_mb", "memory_power", "power_of_frames", "power_of_clips", "seconds_kvae_vae", "share_of_filter", "threads", "torch"}
    assert shown <= figures.keys()
