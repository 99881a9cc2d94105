"""How the law book calls each metric of this package, and what theory says of it; those of codes and of verdicts have their own files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log10

import torch
from torch import Tensor

from stillmotion.metrics import borders, quality
from stillmotion.metrics.figure import Figures, mean, share
from stillmotion.metrics.frechet import frechet_figures, frechet_floor
from stillmotion.testing.code_cases import CODE_CASES
from stillmotion.testing.metric_laws import Expected, Metric, Sample, chance, near
from stillmotion.testing.metric_samples import CLIPS, Noise, features, frames, surroundings
from stillmotion.testing.metric_theory import BEST, NOTHING, alike
from stillmotion.testing.verdict_cases import ONLY_NONE, VERDICT_CASES


def _per_clip(metric: Callable[[Tensor, Tensor, Tensor], Tensor], sample: Sample, noise: Noise) -> Figures:
    return {"mean": mean(metric(sample["made"], sample["real"], _all_there(sample["made"])), noise)}


def _borders(sample: Sample, noise: Noise) -> Figures:
    made, first, other = (borders.border_colour(sample[name], _all_there(sample[name])) for name in ("made", "first", "other"))
    return {"first": share(borders.nearer_to_first(made, first, other), noise)}


def _all_there(frames: Tensor) -> Tensor:
    return torch.ones(frames.shape[:2], dtype=torch.bool)


FEATURES = 3
FLOOR = (2 * FEATURES + FEATURES * (FEATURES + 1) / 2) / (CLIPS / 2)
"""Fréchet distance of two halves of the clips of one Gaussian, to first order: of the means and of the covariances."""


def _frechet(value: float, tolerance: float) -> dict[str, Expected]:
    return {"frechet": near(value, tolerance), "frechet_floor": near(FLOOR, 0.05), "frechet_infinity": near(value, 2 * tolerance)}


FRAME_CASES: dict[str, Metric] = {
    "frechet": Metric(
        lambda sample, noise: {
            **frechet_figures("frechet", sample["made"], sample["real"], noise, paired=True),
            "frechet_floor": frechet_floor(sample["real"], len(sample["made"]), noise),
        },
        features,
        {"ideal": _frechet(0, 1e-6), "useless": _frechet(4 * FEATURES, 1e-4)},
        clips=lambda figure, clips: clips // 2 if figure == "frechet_floor" else clips,
        refuses=("no_clips", "one_clip"),
        order=0.05,
    ),
    "quality.psnr": Metric(
        partial(_per_clip, quality.psnr),
        frames,
        {
            "ideal": {"mean": near(100, 1e-4)},
            "useless": {"mean": near(10 * log10(4), 1e-4)},
            "shuffled": {"mean": near(10 * log10(2), 0.2)},
        },
        refuses=ONLY_NONE,
        order=1e-4,
    ),
    "quality.ssim": Metric(
        partial(_per_clip, quality.ssim),
        frames,
        {"ideal": {"mean": near(1, 1e-5)}, "useless": {"mean": near(0, 0.01)}, "shuffled": {"mean": chance(0)}},
        refuses=ONLY_NONE,
    ),
    "quality.wrong_pixels": Metric(
        partial(_per_clip, quality.wrong_pixels),
        frames,
        {"ideal": {"mean": NOTHING}, **alike({"mean": chance(0.5)}, "useless", "shuffled")},
        refuses=ONLY_NONE,
    ),
    "borders": Metric(
        _borders,
        surroundings,
        {"ideal": {"first": BEST}, "swapped": {"first": NOTHING}, "useless": {"first": chance(0.5)}},
        refuses=ONLY_NONE,
    ),
}

METRICS: dict[str, Metric] = CODE_CASES | VERDICT_CASES | FRAME_CASES
"""Every metric by its module; where one module has several, with the name of another behind a point."""

EXEMPT: dict[str, str] = {
    "exhibits": "tables, curves and pictures as data",
    "figure": "the figures themselves",
    "information": "what the measures of pooled codes share",
    "judge": "a model that is trained; its accuracy and calibration have cases",
    "judge_files": "judges on disk",
    "kinetics": "makes features, measures nothing",
    "paths": "numbers of each clip, of which others make figures",
    "pooled": "makes codes, measures nothing",
    "protocols": "words about figures",
    "published": "figures of others",
    "results": "figures on disk",
}
"""Modules of `metrics` without a figure of their own, and what they are."""


def uncovered(modules: set[str]) -> set[str]:
    """The modules that no law is asked of, though nothing exempts them."""
    return modules - {name.split(".")[0] for name in METRICS} - EXEMPT.keys()
