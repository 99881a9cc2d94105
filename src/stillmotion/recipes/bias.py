"""Where learning by a bound leads away from the truth: the study of section 3 of the report on the disentangled sequential autoencoder.

One scale of a known world is swept while the others stay at the truth. Under each value the best posterior of a family is found, and
the bound is drawn beside the exact log-likelihood (figures 3 and 4 of the report). Where the two peak apart, learning that scale by the
bound is biased. Every bound is there three times: for infinitely many sequences in closed form (`population`), for samples of 50 sequences
in closed form (`sample`), and for the same samples by gradient descent, as in the report (`descent`).

A peak of gradient descent is uncertain for three reasons: which 50 sequences were drawn, where the encoders started, and the noise of
training and evaluation. All three are drawn anew for each of several data sets, so the spread of peaks between data sets holds
all of them, and its intervals are Student's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillmotion.core.random import seed_of
from stillmotion.recipes.bias_descent import PASSES, STEPS, fit
from stillmotion.recipes.bias_kalman import innovations, own_bound
from stillmotion.recipes.bias_world import (
    POSTERIORS,
    Posterior,
    Scales,
    Swept,
    draw,
    elbo,
    kalman_gap,
    log_likelihood,
    moments,
    peak,
    population,
    scales,
)

TRUTH: dict[Swept, float] = {"f": 2.0, "z": 0.5, "x": 0.5}
CELLS: tuple[tuple[Swept, float], ...] = (("x", 0.3), ("x", 0.5), ("x", 1.0), ("z", 0.5), ("z", 1.0), ("f", 2.0))
"""What is swept and its true value: those of figures 3 and 4, and the third scale."""
COLLAPSE = CELLS[3]
"""Where the bound of dsa has no peak."""
GRID = torch.arange(1, 21, dtype=torch.float64) / 10
"""The report's; of f, whose truth would be its end, twice as far."""
FINE = torch.arange(1, 401, dtype=torch.float64) / 200
SEQUENCES = 50


@dataclass(frozen=True)
class Settings:
    """fitted: the posteriors found by gradient descent too. data_sets: samples of 50 sequences for each cell.

    steps and passes: of gradient descent. shares: of the noise, in the frames of Kalman VAEs. kalman_passes: draws for their own bounds.
    """

    fitted: tuple[Posterior, ...]
    data_sets: int
    steps: int
    passes: int
    shares: tuple[float, ...]
    kalman_passes: int


WHOLE = Settings(fitted=("factorised", "dsa", "full"), data_sets=8, steps=STEPS, passes=PASSES, shares=(0.01, 0.1, 0.5), kalman_passes=50)
QUICK = Settings(fitted=("dsa",), data_sets=4, steps=600, passes=100, shares=(0.01,), kalman_passes=10)


@dataclass(frozen=True)
class Interval:
    """Over data sets: the mean, half of its 95 % interval, and half of the 95 % interval in which one more data set would fall."""

    mean: float
    half: float
    one_run: float

    @staticmethod
    def of(values: Tensor) -> Interval:
        """Student's, of at least two values (R,)."""
        from scipy.stats import t

        count = len(values)
        spread = float(values.std()) * float(t.ppf(0.975, count - 1))
        return Interval(float(values.mean()), spread / math.sqrt(count), spread * math.sqrt(1 + 1 / count))

    def holds(self, value: float, one_run: bool = False) -> bool:
        """Whether a value is within the interval of the mean, or of one run."""
        return abs(value - self.mean) <= (self.one_run if one_run else self.half)


@dataclass(frozen=True, eq=False)
class Curves:
    """Of one posterior in one cell, nats per sequence; exact has the log-likelihood.

    population: (G,). sample: (R, G), the closed form on each data set. descent: (R, G) by gradient descent, and descent_error, its
    Monte-Carlo standard error; None where it was not fitted. *_peaks: where they are highest, () or (R,).
    """

    population: Tensor
    population_peak: float
    sample: Tensor
    sample_peaks: Tensor
    descent: Tensor | None = None
    descent_error: Tensor | None = None
    descent_peaks: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Kalman:
    """The Kalman VAE of one cell on its first data set, (G,): the model's own bound, its closed form, and the filter's log-likelihood.

    share: of the observation noise, what the frame has and the code has not. *_peak: where they are highest; population_peak, that of the
    bound for infinitely many sequences, is 0 where it rises all the way down.
    """

    share: float
    population_peak: float
    bound: Tensor
    closed: Tensor
    likelihood: Tensor
    bound_peak: float
    closed_peak: float
    likelihood_peak: float


@dataclass(frozen=True, eq=False)
class Cell:
    """One sweep: grid (G,), the curves of each posterior, and the Kalman VAE for each share of noise."""

    swept: Swept
    true: float
    grid: Tensor
    curves: Mapping[Posterior, Curves]
    kalman: tuple[Kalman, ...]


@dataclass(frozen=True)
class Row:
    """A line of the table of biases: peaks of the bound where `true` is right.

    population: 0 where the bound has no peak but rises all the way down. sample and descent: over data sets. difference: of descent
    from sample on the same data. Peaks on samples cannot lie below the lowest value of the grid.
    """

    swept: Swept
    true: float
    posterior: Posterior
    population: float
    sample: Interval
    descent: Interval | None
    difference: Interval | None

    @property
    def bias(self) -> float:
        return self.population - self.true


@dataclass(frozen=True, eq=False)
class Study:
    """All cells, the table of biases, how it was run, and the seconds it took.

    patient: the row of dsa where the bound has no peak, with three times the steps; None in a quick study.
    """

    cells: tuple[Cell, ...]
    rows: tuple[Row, ...]
    settings: Settings
    seed: int
    seconds: float
    patient: Row | None = None


def study(quick: bool = False, seed: int = 0) -> Study:
    """The whole study, a few minutes on two cores.

    quick: gradient descent for dsa alone, four data sets and fewer steps, about 20 seconds.
    """
    found = conduct(QUICK if quick else WHOLE, seed)
    if quick:
        return found
    # so small a scale of z is the hardest of all to fit: gradient descent as short as the report's stops before the bottom of the grid
    longer = conduct(replace(WHOLE, fitted=("dsa",), steps=3 * STEPS, shares=()), seed, (COLLAPSE,))
    patient = next(row for row in longer.rows if row.posterior == "dsa")
    return replace(found, patient=patient, seconds=found.seconds + longer.seconds)


def conduct(settings: Settings, seed: int, cells: tuple[tuple[Swept, float], ...] = CELLS) -> Study:
    """The study of some cells under other settings. Its data sets are the same whatever the settings and whichever the cells."""
    began = time.perf_counter()
    data = torch.stack([data_sets(cell, settings.data_sets, seed) for cell in cells])
    found = {name: _descend(name, cells, data, settings, seed) for name in settings.fitted}
    done = []
    for place, cell in enumerate(cells):
        of_cell = {name: (values[place], errors[place]) for name, (values, errors) in found.items()}
        done.append(_cell(cell, data[place], of_cell, settings, seed))
    rows = tuple(_row(cell, name) for cell in done for name in POSTERIORS)
    return Study(tuple(done), rows, settings, seed, time.perf_counter() - began)


def world(swept: Swept, true: float) -> Scales:
    """The true scales of a cell."""
    values = {**TRUTH, swept: true}
    return scales(values["f"], values["z"], values["x"])


def grid_of(swept: Swept) -> Tensor:
    return 2 * GRID if swept == "f" else GRID


def data_sets(cell: tuple[Swept, float], count: int, seed: int) -> Tensor:
    """Samples (count, 50, T, 2) of the world of a cell."""
    generators = [torch.Generator().manual_seed(seed_of("bias", seed, *cell, number)) for number in range(count)]
    return torch.stack([draw(world(*cell), SEQUENCES, generator) for generator in generators])


def _descend(
    posterior: Posterior, cells: tuple[tuple[Swept, float], ...], data: Tensor, settings: Settings, seed: int
) -> tuple[Tensor, Tensor]:
    """Bounds and their errors (cells, R, G), all fitted at once."""
    swept = [world(*cell).sweep(cell[0], grid_of(cell[0])) for cell in cells for _ in range(settings.data_sets)]
    worlds = Scales(*(torch.stack([getattr(one, name) for one in swept]) for name in ("f", "z", "x")))
    generator = torch.Generator().manual_seed(seed_of("bias", seed, posterior))
    fitted = fit(posterior, data.flatten(0, 1), worlds, generator, settings.steps, settings.passes)
    shape = (len(cells), settings.data_sets, -1)
    return fitted.elbo.view(shape), fitted.error.view(shape)


def _cell(
    cell: tuple[Swept, float], data: Tensor, found: Mapping[Posterior, tuple[Tensor, Tensor]], settings: Settings, seed: int
) -> Cell:
    curves = {name: _curves(name, cell, moments(data), found.get(name)) for name in POSTERIORS}
    kalman = tuple(_kalman(cell, data[0], share, settings.kalman_passes, seed) for share in settings.shares)
    return Cell(*cell, grid_of(cell[0]), curves, kalman)


def _curves(posterior: Posterior, cell: tuple[Swept, float], seen: Tensor, found: tuple[Tensor, Tensor] | None) -> Curves:
    truth, grid = world(*cell), grid_of(cell[0])
    fine, swept = FINE * grid[-1] / FINE[-1], truth.sweep(cell[0], grid)
    everything = population(truth)
    sample = elbo(posterior, seen, swept)
    top = _top(fine, elbo(posterior, everything, truth.sweep(cell[0], fine)))
    closed = (elbo(posterior, everything, swept), top, sample, peak(grid, sample))
    return Curves(*closed) if found is None else Curves(*closed, *found, peak(grid, found[0]))


def _top(fine: Tensor, values: Tensor) -> float:
    """Where a curve is highest; 0 where that is its lower end."""
    return 0.0 if int(values.argmax()) == 0 else float(peak(fine, values))


def _kalman(cell: tuple[Swept, float], x: Tensor, share: float, passes: int, seed: int) -> Kalman:
    truth, grid = world(*cell), grid_of(cell[0])
    fine, swept = FINE * grid[-1] / FINE[-1], truth.sweep(cell[0], grid)
    everything, wide = population(truth), truth.sweep(cell[0], fine)
    top = _top(fine, log_likelihood(everything, wide) - kalman_gap(share, everything, wide))
    likelihood = innovations(x, swept)
    three = (own_bound(x, swept, share, passes, seed), likelihood - kalman_gap(share, moments(x), swept), likelihood)
    return Kalman(share, top, *three, *(float(peak(grid, values)) for values in three))


def _row(cell: Cell, posterior: Posterior) -> Row:
    curves = cell.curves[posterior]
    peaks, sample = curves.descent_peaks, curves.sample_peaks
    descent, difference = (None, None) if peaks is None else (Interval.of(peaks), Interval.of(peaks - sample))
    return Row(cell.swept, cell.true, posterior, curves.population_peak, Interval.of(sample), descent, difference)
