"""What states know of angle and velocity: ordinary least squares from the states of a model (DVBF paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stillmotion.core.abilities import Model
from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Cell, Table
from stillmotion.metrics.figure import Figure, bootstrap
from stillmotion.models.kvae import KVAE
from stillmotion.tasks.codes import encode

TARGETS = ("sin", "cos", "velocity")
PAPER: Mapping[str, tuple[float, float, float]] = {"dvbf": (0.961, 0.982, 0.916), "dmm": (0.929, 0.979, 0.035)}
"""Karl, Soelch, Bayer and van der Smagt, DVBF, ICLR 2017, table 1: R2 of a least-squares fit from the states."""
BATCH = 50
NOTE = (
    "Share of the variance that a linear map of the states explains (R2), fitted by least squares on the frames of all training clips and "
    "measured on those of all test clips; several seeds are averaged. States are posterior means given the whole clip; codes of the Kalman "
    "VAE are read off single frames, which show no velocity. Published: another pendulum, as its frames and torques are not, and not "
    "said of which clips."
)


def states_of(model: Model, clips: ClipSet) -> Tensor:
    """Posterior means of the states of each frame, (N, T, Z) float64: z of a Kalman VAE, the path of other models."""
    if isinstance(model, KVAE):
        with torch.inference_mode():
            parts = torch.split(torch.arange(len(clips)), BATCH)
            return torch.cat([model.states(clips.clips(part)).mean for part in parts])
    path = encode(model, clips).path
    assert path is not None
    return path.double()


def codes_of(model: KVAE, clips: ClipSet) -> Tensor:
    """The codes of each frame, read off it alone, (N, T, A) float64."""
    path = encode(model, clips, poses=True).path
    assert path is not None
    return path.double()


def targets_of(clips: ClipSet) -> Tensor:
    """Sine and cosine of the angle, and the velocity, (N, T, 3) float64. Raises UserError for clips without these states."""
    if clips.state_names[:2] != ("angle", "velocity"):
        raise UserError("clips whose states are angle and velocity", ", ".join(clips.state_names) or "none")
    angle, velocity = clips.truth().double()[..., :2].unbind(-1)
    return torch.stack([angle.sin(), angle.cos(), velocity], -1)


def residuals(train: Tensor, train_targets: Tensor, test: Tensor, test_targets: Tensor) -> Tensor:
    """What is left of test targets (N, T, K) after a linear map with a constant from states (N, T, Z), fitted on training frames."""
    design = _with_constant(train).flatten(0, 1)
    weights = torch.linalg.lstsq(design, train_targets.flatten(0, 1), driver="gelsd").solution
    left: Tensor = test_targets - _with_constant(test) @ weights
    return left


def r2(left: Tensor, targets: Tensor) -> Tensor:
    """1 - squared residuals over squared deviations from the mean, of all frames (N, T, K): (K,)."""
    deviations = targets - targets.mean((0, 1))
    explained: Tensor = 1 - left.square().sum((0, 1)) / deviations.square().sum((0, 1))
    return explained


def r2_figures(key: str, left: Sequence[Tensor], targets: Tensor) -> dict[str, Figure]:
    """`r2_sin_<key>`, `r2_cos_<key>`, `r2_velocity_<key>`: means over the residuals of each seed, whole clips resampled."""
    found = {}
    for k, name in enumerate(TARGETS):

        def mean(index: Tensor, k: int = k) -> float:
            return sum(float(r2(each[index], targets[index])[k]) for each in left) / len(left)

        noise = torch.Generator().manual_seed(seed_of("r2", key, name))
        found[f"r2_{name}_{key}"] = bootstrap(mean, len(targets), noise)
    return found


def r2_paper(key: str) -> dict[str, float]:
    """What is published of a model, by the names of our figures."""
    return {f"r2_{name}_{key}": value for name, value in zip(TARGETS, PAPER.get(key, ()), strict=False)}


def r2_table(labels: Mapping[str, str], figures: Mapping[str, Figure]) -> Table:
    """A row for each model, the published ones below ours; labels: key in the names of figures -> label."""
    rows = list[tuple[Cell, ...]]()
    for key, label in labels.items():
        rows.append((label, *(_told(figures[f"r2_{name}_{key}"]) for name in TARGETS)))
        if key in PAPER:
            rows.append((f"{label} (paper)", *(f"{value:.3f}" for value in PAPER[key])))
    return Table("pendulum_r2", "What the states know", ("", *TARGETS), tuple(rows), NOTE)


def _told(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _with_constant(states: Tensor) -> Tensor:
    return torch.cat([states, torch.ones_like(states[..., :1])], -1)
