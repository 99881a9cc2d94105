"""Table 1 of the Kalman VAE paper as a reproduction: a pendulum that is pushed, told by six models."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stillmotion.core.abilities import Model
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.exhibits import Page
from stillmotion.metrics.figure import Figure, mean
from stillmotion.models.kvae import KVAE
from stillmotion.recipes.kvae_baselines import PERCEPTRON, baseline, pendulum
from stillmotion.recipes.kvae_bounds import DRAWS, Bounded, bound_figures, bound_margins, bound_tables, bound_terms, pixel_scale
from stillmotion.recipes.kvae_readout import codes_of, r2_figures, r2_paper, r2_table, residuals, states_of, targets_of
from stillmotion.recipes.lab import Lab, fingerprint, load
from stillmotion.recipes.override import override
from stillmotion.recipes.reproduce import Reproduced, measured_once
from stillmotion.recipes.swing_truth import true_log_likelihood
from stillmotion.training.settings import Run

NOISE = 0.01
"""Of the camera. Without any, a bound has no limit and says how sharp a decoder is; the published numbers are those of pixels that are
off by about so much."""


def seen(make: Callable[..., Run], size: str = "laptop", *, seed: int = 0) -> Run:
    """A run on frames with noise. Decoders work in float32: bfloat16 has errors as large as the noise."""
    return override(make(size, seed=seed), {"data": {"noise": NOISE}, "precision": "float32"})


MODELS: dict[str, tuple[str, Callable[..., Run]]] = {
    "kvae": ("KVAE, convolutions", partial(seen, partial(pendulum, "conv"))),
    "kvae_dense": ("KVAE, perceptron", partial(seen, partial(pendulum, "dense"))),
    "dvbf": ("DVBF, perceptron", partial(seen, partial(baseline, "dvbf", "torque", pixel_scale=0.2, **PERCEPTRON))),
    "dmm": ("DMM, perceptron", partial(seen, partial(baseline, "dmm", "torque", **PERCEPTRON))),
    "dvbf_conv": ("DVBF, convolutions", partial(seen, partial(baseline, "dvbf", "torque"))),
    "dmm_conv": ("DMM, convolutions", partial(seen, partial(baseline, "dmm", "torque"))),
}
"""Key in the names of figures -> label, and its run for a size and a seed. The last two read and draw frames as the Kalman VAE does."""
PAIRS = (("kvae", "dvbf_conv"), ("dvbf_conv", "dmm_conv"), ("kvae_dense", "dvbf"), ("dvbf", "dmm"))
"""Models with the same networks of frames, in the published order."""
WORLD = "log_likelihood_per_frame_world"
SUMMARY = (
    "Bounds on the log-likelihood of a pendulum under random torque, beside the likelihood that the world itself gives its clips, and what "
    "can be read from the states. States of the Kalman VAE have five numbers, of which frames tell two; those of DVBF and DMM have three, "
    "as published, and frames are drawn from all of them."
)


def swing(lab: Lab) -> Reproduced:
    """The bounds in their parts beside the published ones, and R2 of angle and velocity."""
    data = lab.data(MODELS["kvae"][1](lab.size))
    folders = {key: [lab.train(f"torque_{key}_{seed}", run(lab.size, seed=seed)) for seed in range(lab.plan.seeds)]
               for key, (_, run) in MODELS.items()}  # fmt: skip
    bounded = [_bounded(key, folders[key], data.test) for key in MODELS]
    figures, paper = bound_figures(bounded, data.test.steps)
    figures |= {WORLD: _world(data.test)}
    tables = bound_tables(bounded, data.test.steps, math.prod(data.test.frame_shape), figures[WORLD])
    margins, gaps = bound_margins(bounded, PAIRS, data.test.steps)
    labels, known = _readouts(folders, data)
    paper |= {name: value for key in labels for name, value in r2_paper(key).items()}
    page = Page("Kalman VAE: a pendulum", SUMMARY, (*tables, margins, r2_table(labels, known), lab.runs_table("runs")))
    return Reproduced(page, figures | gaps | known, paper)


def _world(clips: ClipSet) -> Figure:
    noise = torch.Generator().manual_seed(seed_of("world"))
    return mean(true_log_likelihood(clips, NOISE) / clips.steps, noise)


def _bounded(key: str, folders: list[Path], clips: ClipSet) -> Bounded:
    told = f"parts of the bound by {DRAWS} draws of clips {fingerprint(clips)}"
    terms = tuple(measured_once(folder, told, partial(_terms, folder, clips)) for folder in folders)
    return Bounded(key, MODELS[key][0], terms, tuple(pixel_scale(load(folder)) for folder in folders))


def _terms(folder: Path, clips: ClipSet) -> dict[str, list[float]]:
    return bound_terms(load(folder), clips)


def _readouts(folders: dict[str, list[Path]], data: Splits) -> tuple[dict[str, str], dict[str, Figure]]:
    """Labels and R2 of the states of every model, and of the codes of the Kalman VAE."""
    labels = {key: f"{label}, states" for key, (label, _) in MODELS.items()}
    figures = dict[str, Figure]()
    for key, runs in folders.items():
        figures |= r2_figures(key, [_left(states_of, load(run), data) for run in runs], targets_of(data.test))
    codes = [_left(_codes, load(run), data) for run in folders["kvae"]]
    return labels | {"kvae_code": "KVAE, convolutions, codes"}, figures | r2_figures("kvae_code", codes, targets_of(data.test))


def _codes(model: Model, clips: ClipSet) -> Tensor:
    assert isinstance(model, KVAE)
    return codes_of(model, clips)


def _left(read: Callable[[Model, ClipSet], Tensor], model: Model, data: Splits) -> Tensor:
    return residuals(read(model, data.train), targets_of(data.train), read(model, data.test), targets_of(data.test))
