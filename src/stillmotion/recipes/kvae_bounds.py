"""Table 1 of the Kalman VAE paper: bounds on the log-likelihood of the pendulum, in their parts, and what their unit must be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillmotion.core.abilities import Model
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Cell, Table
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.published import Data, published
from stillmotion.recipes.kvae_curves import over_seeds

METHODS = {"kvae": "KVAE, convolutions", "kvae_dense": "KVAE, perceptron", "dvbf": "DVBF", "dmm": "DMM"}
"""Key in the names of figures -> method in the paper's table."""
PARTS = {
    "reconstruction": "E log p(x | ·)", "dynamics": "E log p(a | u)", "code": "-E log q(a | x)", "path_kl": "-KL(q(z) || p(z))",
    "prior": "E log p(w)", "posterior": "-E log q(w)",
}  # fmt: skip
"""What minus each term of a loss is."""
DRAWS = 16
PARTS_NOTE = (
    "Nats per frame, mean over test clips, and seeds where there are several; the parts of a bound add up to it. In the Kalman VAE the "
    "two parts beside the pixels are far from zero one by one, as densities of codes are; what codes cost is their sum. In DVBF "
    "and DMM it is a divergence, in one part or in two."
)
Terms = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Bounded:
    """terms: of each seed, name -> nats of each clip, as `bound_terms` found them. scales: the pixels' standard deviation of each seed."""

    key: str
    label: str
    terms: tuple[Terms, ...]
    scales: tuple[float, ...]


def bound_terms(model: Model, clips: ClipSet, draws: int = DRAWS) -> dict[str, list[float]]:
    """The parts of the bound of each clip in nats, name -> (N,), each a mean over draws of the posterior; their sum is the bound."""
    model.eval()
    found = dict[str, list[float]]()
    for k in range(len(clips)):
        # a loss is a mean over its batch: of one clip many times it is that clip's
        same = clips.clips(torch.full((draws,), k))
        noise = torch.Generator().manual_seed(seed_of("bound", k))
        with torch.inference_mode():
            terms = model.loss(same, {}, noise)
        for name, value in terms.values.items():
            found.setdefault(name, []).append(-float(value))
    return found


def pixel_scale(model: Model) -> float:
    """The standard deviation that the model gives its pixels."""
    return math.exp(model.get_submodule("pixels").get_parameter("log_scale").item())


def bound_figures(models: Sequence[Bounded], steps: int) -> tuple[dict[str, Figure], dict[str, float]]:
    """`elbo_per_frame_<key>` and `elbo_per_clip_<key>`; and what is published of the first."""
    rows = {row.method: row.figures["elbo_per_frame"] for row in published("likelihood", Data(name="pendulum", version="controlled"))}
    per_clip = {f"elbo_per_clip_{each.key}": _figure(each, tuple(each.terms[0])) for each in models}
    per_frame = {f"elbo_per_frame_{each.key}": _figure(each, tuple(each.terms[0]), steps) for each in models}
    paper = {f"elbo_per_frame_{each.key}": rows[METHODS[each.key]] for each in models if METHODS.get(each.key) in rows}
    return per_clip | per_frame, paper


def _figure(each: Bounded, names: Sequence[str], steps: int = 1) -> Figure:
    """The sum of some of the terms, per clip, or per frame of `steps`."""
    values = _per_clip(each, names)
    noise = torch.Generator().manual_seed(seed_of("bound", each.key, tuple(names)))
    return over_seeds(values / steps, torch.arange(values.shape[1]), noise)


def _per_clip(each: Bounded, names: Sequence[str]) -> Tensor:
    """The sum of some of the terms, (seeds, clips)."""
    return torch.stack([torch.tensor([terms[name] for name in names], dtype=torch.float64).sum(0) for terms in each.terms])


def bound_tables(models: Sequence[Bounded], steps: int, pixels: int, world: Figure | None = None) -> tuple[Table, Table]:
    """The bounds beside the published ones, and the parts of each. world: the log-likelihood per frame of the world that made the clips."""
    figures, paper = bound_figures(models, steps)
    head = ("", "bound, nats per frame", "95 %", "nats per clip", "pixel deviation", "paper", "deviation that the paper's number implies")
    rows = []
    for each in models:
        frame, clip = figures[f"elbo_per_frame_{each.key}"], figures[f"elbo_per_clip_{each.key}"]
        known = paper.get(f"elbo_per_frame_{each.key}")
        scale, implied = sum(each.scales) / len(each.scales), None if known is None else implied_scale(known, pixels)
        rows.append((each.label, round(frame.value, 2), _span(frame), round(clip.value, 1), _small(scale), known, _small(implied)))
    if world is not None:
        told = round(world.value, 2), _span(world), round(steps * world.value, 1)
        rows.append(("log-likelihood of the world itself", *told, None, None, None))
    bounds = Table("pendulum_bounds", "Test bounds on the pendulum", head, tuple(rows), _units(steps, pixels))
    return bounds, _parts_table(models, steps)


def bound_margins(models: Sequence[Bounded], pairs: Sequence[tuple[str, str]], steps: int) -> tuple[Table, dict[str, Figure]]:
    """How far the bound of the first of each pair of keys is above that of the second, clip by clip and seed by seed.

    Figures `elbo_per_frame_margin_<first>_<second>`, in nats. Both of a pair must have as many seeds.
    """
    by_key, figures, rows = {each.key: each for each in models}, dict[str, Figure](), list[tuple[Cell, ...]]()
    for pair in pairs:
        one, other = (by_key[key] for key in pair)
        gap = (_per_clip(one, tuple(one.terms[0])) - _per_clip(other, tuple(other.terms[0]))) / steps
        noise = torch.Generator().manual_seed(seed_of("bound margin", *pair))
        figure = figures["elbo_per_frame_margin_" + "_".join(pair)] = over_seeds(gap, torch.arange(gap.shape[1]), noise)
        wins = float((gap > 0).double().mean())
        rows.append((one.label, other.label, round(figure.value, 2), _span(figure), f"{100 * wins:.0f} %", round(float(gap.median()), 2)))
    head = ("", "less", "nats per frame", "95 %", "clips in which it is above", "median")
    note = "Differences of the bounds of the same test clips, so that a clip which is hard for both counts for neither."
    return Table("pendulum_margins", "By how much one bound is above another", head, tuple(rows), note), figures


def _parts_table(models: Sequence[Bounded], steps: int) -> Table:
    rows = list[tuple[Cell, ...]]()
    for each in models:
        names = tuple(each.terms[0])
        for name in names:
            figure = _figure(each, (name,), steps)
            rows.append((each.label, PARTS.get(name, name), round(figure.value, 2), _span(figure)))
        rest = _figure(each, tuple(name for name in names if name != "reconstruction"), steps)
        rows.append((each.label, "all but the pixels", round(rest.value, 2), _span(rest)))
    return Table("pendulum_parts", "The parts of each bound", ("", "part", "nats per frame", "95 %"), tuple(rows), PARTS_NOTE)


def implied_scale(nats: float, pixels: int) -> float:
    """The deviation at which Gaussian pixels whose errors are as large as it have this log-density per frame, all else being free."""
    return math.exp(-nats / pixels - 0.5 * math.log(2 * math.pi) - 0.5)


def _units(steps: int, pixels: int) -> str:
    return (
        f"Nats of a density of {pixels} Gaussian pixels in [0, 1], one learned deviation for all; posterior draws, {DRAWS} per clip. The "
        "paper does not say whether its numbers are per frame or per clip. The released code divides by the number of frames, and per "
        f"clip of {steps} frames they would mean pixels that are off by {implied_scale(810.08 / steps, pixels):.2f} on average, "
        "worse than frames without a pendulum: so they are read as per frame. Such a number is mostly the logarithm of how exactly frames "
        "are redrawn; its level depends on how they were rendered and how noisy they are, none of which is published: the order of the "
        "models can be compared, the level cannot. The world itself: the likelihood of the clips under the pendulum, the torques and the "
        "camera's noise that made them, the unknown start integrated out; in the mean no bound can be above it."
    )


def _span(figure: Figure) -> str:
    return f"{figure.low:.2f} to {figure.high:.2f}"


def _small(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
