"""Figures 3a and 3b of the Kalman VAE paper: hidden frames filled in by several models, the published curves behind ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Curves, Line, Table
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.published import Data, published
from stillmotion.recipes.imputation import SEEN_FIRST, Errors, Fill, figure_of, hidden_errors, middle_gap, random_drops

DROPS = tuple(f"p{10 * k}" for k in range(1, 11))
GAPS = tuple(f"n{k}" for k in range(1, 16, 2))
BATCH = 100
MASKS_SEED = 0
SOURCES = {
    "smooth": ("KVAE", "imputation_smooth_"), "filter": ("KVAE", "imputation_filter_"), "ae_rnn": ("AE-RNN", "imputation_filter_"),
    "vae_rnn": ("VAE-RNN", "imputation_filter_"),
}  # fmt: skip
"""Key of a filler -> method and first half of the names of its published figures."""
NOTE = (
    "Share of wrong pixels (thresholded at one half) in hidden frames; the first four frames are always there. The same frames are hidden "
    "from every model. Bands: 95 %, over seeds (Student's t, where there are several) and test clips together. "
)


@dataclass(frozen=True)
class Filler:
    """What fills in frames. key: in the names of figures. label: in legends. errors: of each seed, what `clip_errors` found."""

    key: str
    label: str
    errors: tuple[Mapping[str, Sequence[float]], ...]


@dataclass(frozen=True)
class Point:
    """figure: over seeds and clips. seeds: the mean of each seed by itself."""

    figure: Figure
    seeds: tuple[float, ...]


Measured = Mapping[str, Mapping[str, Point]]
"""Key of a filler -> name of a mask -> what was measured."""


def masks(clips: int, steps: int) -> dict[str, Tensor]:
    """What is hidden of so many clips, (clips, steps) bool, by name: every point of figures 3a (p) and 3b (n) that fits in."""
    found = {}
    for name in DROPS:
        same = torch.Generator().manual_seed(seed_of(MASKS_SEED, "hidden frames"))
        found[name] = random_drops(clips, steps, int(name[1:]) / 100, same)
    for name in GAPS:
        if SEEN_FIRST + int(name[1:]) < steps:
            found[name] = middle_gap(clips, steps, int(name[1:]))
    return {name: hidden for name, hidden in found.items() if bool(hidden.any())}


def clip_errors(fill: Fill, clips: ClipSet, hidden: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Of each mask (N, T) the mean error of the hidden frames of each of N whole clips; clips of which nothing is hidden are left out."""
    batches = torch.split(torch.arange(len(clips)), BATCH)
    found = {}
    for name, mask in hidden.items():
        errors, counts = hidden_errors(fill, clips, mask, batches), mask.sum(1)
        sums = torch.zeros(len(clips), dtype=torch.float64).index_add_(0, errors.clip, errors.values)
        found[name] = [round(value, 7) for value in (sums / counts)[counts > 0].tolist()]
    return found


def measure(fillers: Sequence[Filler], hidden: Mapping[str, Tensor]) -> dict[str, dict[str, Point]]:
    """Every filler at every mask (N, T): means over all hidden frames."""
    return {filler.key: {name: _point(filler, mask, name) for name, mask in hidden.items()} for filler in fillers}


def _point(filler: Filler, hidden: Tensor, name: str) -> Point:
    values = torch.tensor([errors[name] for errors in filler.errors], dtype=torch.float64)
    figure = _over_frames(values, hidden, (filler.key, name))
    counts = hidden.sum(1)
    seeds = (values * counts[counts > 0]).sum(1) / counts.sum()
    return Point(replace(figure, low=max(0.0, figure.low)), tuple(seeds.tolist()))


def _over_frames(values: Tensor, hidden: Tensor, key: tuple[str, ...]) -> Figure:
    """The mean over hidden frames (N, T) of values (S, clips of which something is hidden), which are means over those of a clip."""
    counts = hidden.sum(1)
    counts = counts[counts > 0]
    noise = torch.Generator().manual_seed(seed_of(MASKS_SEED, *key))
    return over_seeds(values.repeat_interleave(counts, 1), torch.arange(len(counts)).repeat_interleave(counts), noise)


def over_seeds(values: Tensor, clip: Tensor, noise: torch.Generator) -> Figure:
    """The mean of values (S, M) of S seeds on the same M frames of clips (M,), and how sure it is.

    Seeds vary (Student's t with S - 1 degrees of freedom) and so do clips (bootstrap of the mean over seeds): half-widths are added as
    squares. Of a single seed only the second is known.
    """
    from scipy.stats import t as student

    figure = figure_of(Errors(values.mean(0), clip), noise)
    if len(values) < 2:
        return figure
    spread = float(student.ppf(0.975, len(values) - 1)) * float(values.mean(1).std()) / math.sqrt(len(values))
    down, up = (math.hypot(spread, end - figure.value) for end in (figure.low, figure.high))
    return replace(figure, low=figure.value - down, high=figure.value + up)


def published_points(key: str, world: str = "box") -> dict[str, float]:
    """Name of a mask -> what the paper has for this filler; empty where it has nothing."""
    method, prefix = SOURCES.get(key, ("", ""))
    rows = [row for row in published("imputation", Data(name=world)) if row.method == method]
    return {name.removeprefix(prefix): value for row in rows for name, value in row.figures.items() if name.startswith(prefix)}


def curves(world: str, fillers: Sequence[Filler], measured: Measured) -> tuple[Curves, ...]:
    """Figures 3a and 3b, as far as they were measured."""
    drops = (f"{world}_drops", "Frames hidden at random", "each frame after the fourth is hidden with probability", DROPS, 0.01)
    gaps = (f"{world}_gap", "A gap in the middle", "frames hidden after the fourth", GAPS, 1.0)
    found = []
    for name, title, label, points, unit in (drops, gaps):
        there = [point for point in points if point in measured[fillers[0].key]]
        if there:
            lines = [_line(filler.label, measured[filler.key], there, unit) for filler in fillers]
            lines += _published_lines(world, fillers, points, unit)
            found.append(Curves(name, f"{title}: {world}", label, "share of wrong pixels", tuple(lines), note=NOTE + _read_off(lines)))
    return tuple(found)


def _line(label: str, points: Mapping[str, Point], there: Sequence[str], unit: float) -> Line:
    figures = [points[name].figure for name in there]
    low, high = tuple(figure.low for figure in figures), tuple(figure.high for figure in figures)
    return Line(label, _places(there, unit), tuple(figure.value for figure in figures), low, high)


def _published_lines(world: str, fillers: Sequence[Filler], points: Sequence[str], unit: float) -> list[Line]:
    lines = []
    for filler in fillers:
        known = {name: value for name, value in published_points(filler.key, world).items() if name in points}
        if known:
            lines.append(Line(filler.label, _places(tuple(known), unit), tuple(known.values()), published=True))
    return lines


def _places(names: Sequence[str], unit: float) -> tuple[float, ...]:
    return tuple(round(int(name[1:]) * unit, 2) for name in names)


def _read_off(lines: Sequence[Line]) -> str:
    if not any(line.published for line in lines):
        return "Nothing is published of this world that could be read off."
    return (
        "The published curves were read off the authors' figure, to 0.0002; their balls were drawn by another library, so shapes compare "
        "better than offsets."
    )


def errors_table(world: str, fillers: Sequence[Filler], measured: Measured) -> Table:
    """All points as numbers, in per cent, the published ones below ours."""
    names = tuple(measured[fillers[0].key])
    rows = list[tuple[str, ...]]()
    for filler in fillers:
        rows.append((filler.label, *(_percent(measured[filler.key][name].figure.value) for name in names)))
        known = published_points(filler.key, world)
        if known:
            rows.append((f"{filler.label} (paper)", *(_percent(known.get(name)) for name in names)))
    note = "Wrong pixels in per cent. p: each frame hidden with that probability, in per cent; n: a gap of so many frames."
    return Table(f"{world}_errors", f"Imputation error: {world}", ("", *names), tuple(rows), note)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def order_table(world: str, fillers: Sequence[Filler], measured: Measured, best: str = "smooth") -> Table:
    """At how many points `best` is below each of the others, seed by seed."""
    rivals = [filler for filler in fillers if filler.key != best]
    seeds = len(measured[best][next(iter(measured[best]))].seeds)
    rows = [(rival.label, *(_below(measured, best, rival.key, seed) for seed in range(seeds))) for rival in rivals]
    note = (
        "Smoothing and filtering are the same thing where nothing is seen after the fourth frame: p100 does not count between them. "
        "A model of which there are fewer seeds is compared by its last."
    )
    head = ("smoothing is below", *(f"seed {seed}" for seed in range(seeds)))
    return Table(f"{world}_order", f"Does smoothing win everywhere? {world}", head, tuple(rows), note)


def _below(measured: Measured, best: str, rival: str, seed: int) -> str:
    wins, points = count_below(measured, best, rival, seed)
    return f"at {wins} of {points} points"


def count_below(measured: Measured, best: str, rival: str, seed: int) -> tuple[int, int]:
    """At how many points one seed of `best` is below the same seed of `rival`, and how many points there are."""
    names = [name for name in measured[best] if not _same(best, rival, name)]
    other = {name: measured[rival][name].seeds for name in names}
    wins = sum(measured[best][name].seeds[seed] < other[name][min(seed, len(other[name]) - 1)] for name in names)
    return wins, len(names)


def margins_table(
    world: str, fillers: Sequence[Filler], hidden: Mapping[str, Tensor], best: str = "smooth"
) -> tuple[Table, dict[str, Figure]]:
    """How far `best` is below each of the others, clip by clip and seed by seed; figures `imputation_margin_<filler>_<point>`."""
    ours = next(filler for filler in fillers if filler.key == best)
    rivals = [filler for filler in fillers if filler.key != best]
    middle, figures, rows = _middle(world), dict[str, Figure](), list[tuple[str, ...]]()
    for name, mask in hidden.items():
        margins = [None if _same(best, rival.key, name) else _margin(ours, rival, mask, name) for rival in rivals]
        figures |= {f"imputation_{middle}margin_{rival.key}_{name}": each for rival, each in zip(rivals, margins, strict=True) if each}
        rows.append((name, *("" if each is None else _span(each) for each in margins)))
    note = (
        "Wrong pixels in per cent that smoothing has less, with half the width of a 95 % interval over clips and seeds: the differences of "
        "the same clips, so that clips which are hard for both count for neither. A question mark: zero lies in the interval, "
        "which of few seeds is wide where the training of one failed."
    )
    head = ("smoothing is below by", *(rival.label for rival in rivals))
    return Table(f"{world}_margins", f"By how much smoothing wins: {world}", head, tuple(rows), note), figures


def _span(margin: Figure) -> str:
    unsure = "?" if margin.low <= 0 <= margin.high else ""
    return f"{100 * margin.value:.2f} ± {50 * (margin.high - margin.low):.2f}{unsure}"


def _margin(ours: Filler, rival: Filler, hidden: Tensor, name: str) -> Figure:
    """Errors of `rival` less `ours`; of which there are fewer seeds, the last stands for the rest."""
    pairs = [(mine, rival.errors[min(seed, len(rival.errors) - 1)]) for seed, mine in enumerate(ours.errors)]
    less = torch.tensor([other[name] for _, other in pairs], dtype=torch.float64)
    return _over_frames(less - torch.tensor([mine[name] for mine, _ in pairs], dtype=torch.float64), hidden, ("margin", rival.key, name))


def figures_of(world: str, measured: Measured) -> tuple[dict[str, Figure], dict[str, float]]:
    """Every point as a figure, `imputation_<filler>_<point>`, worlds other than the box by name; and what is published of it."""
    middle = _middle(world)
    figures = {f"imputation_{middle}{key}_{name}": point.figure for key, points in measured.items() for name, point in points.items()}
    paper = {
        f"imputation_{middle}{key}_{name}": value
        for key, points in measured.items() for name, value in published_points(key, world).items() if name in points
    }  # fmt: skip
    return figures, paper


def _same(one: str, other: str, name: str) -> bool:
    """Whether they have to agree there: nothing is seen after the hidden frames."""
    return name == "p100" and {one, other} == {"smooth", "filter"}


def _middle(world: str) -> str:
    """Of the names of figures: worlds other than the box by name."""
    return "" if world == "box" else f"{world}_"
