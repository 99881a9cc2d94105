"""The study of bias as a page: figures 3 and 4 of the report, the table of biases, and the same for Kalman VAEs."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from stillmotion.metrics.exhibits import Curves, Exhibit, Line, Mark, Page, Table
from stillmotion.metrics.figure import Figure
from stillmotion.recipes.bias import SEQUENCES, Cell, Interval, Study, study
from stillmotion.recipes.bias_world import Posterior
from stillmotion.recipes.reproduce import Plan, Reproduced

LABELS: dict[Posterior, str] = {
    "exact": "log-likelihood", "full": "full", "factorised": "every code by itself, of all frames", "dsa": "DSA",
}  # fmt: skip
SUMMARY = (
    "Sequences of a known linear-Gaussian world. One of its three scales is swept while the others stay at the truth; for each value the "
    "best posterior of a family is found, and its bound drawn beside the exact log-likelihood. Where the two peak apart, learning that "
    "scale by the bound is biased."
)


def reproduce(folder: Path, plan: Plan) -> Reproduced:
    """How far the bound leads away from the truth: a linear-Gaussian world, four posteriors, and Kalman VAEs."""
    found = study(plan.quick)
    exhibits: list[Exhibit] = [_biases(found), *(curve for cell in found.cells for curve in _curves(cell)), _kalman(found)]
    if found.patient is not None:
        exhibits.insert(1, _patient(found))
    page = Page("The bias of the disentangled sequential autoencoder", SUMMARY, tuple(exhibits))
    return Reproduced(page, _figures(found), seeds=(found.seed,))


def _biases(found: Study) -> Table:
    head = ("scale", "true", "posterior", "population", "closed form", "gradient descent", "one run", "descent less closed form")
    rows = tuple(
        (
            f"sigma_{row.swept}", row.true, LABELS[row.posterior], "none: it collapses" if row.population == 0 else f"{row.population:.3f}",
            _said(row.sample), _said(row.descent), None if row.descent is None else f"± {row.descent.one_run:.3f}", _said(row.difference),
        )
        for row in found.rows
    )  # fmt: skip
    note = (
        f"Where the bound is highest. Population: infinitely many sequences. Samples: {found.settings.data_sets} sets of {SEQUENCES} "
        f"sequences, mean and 95 % interval of the mean; one run: where one more set would fall. "
        "Peaks of samples cannot lie below the grid's lowest value."
    )
    return Table("biases", "Table of biases", head, rows, note)


def _said(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval.mean:.3f} ± {interval.half:.3f}"


def _patient(found: Study) -> Table:
    row, steps = found.patient, found.settings.steps
    assert row is not None
    short = next(other for other in found.rows if (other.swept, other.true, other.posterior) == (row.swept, row.true, row.posterior))
    rows = (
        ("closed form", _said(row.sample)), (f"gradient descent, {steps} steps as in the report", _said(short.descent)),
        (f"gradient descent, {3 * steps} steps", _said(row.descent)),
    )  # fmt: skip
    note = "The bound of DSA's posterior has no peak here: on samples, the grid's lowest value is the best."
    return Table("collapse", f"The collapse of sigma_{row.swept} = {row.true:g}, with more steps", ("samples", "peak"), rows, note)


def _curves(cell: Cell) -> list[Curves]:
    """All posteriors for the population; and as in the report, one sample, its bound by gradient descent and its log-likelihood."""
    x, truth = _numbers(cell.grid), Mark("truth", cell.true)
    name, label = _name(cell.swept, cell.true), f"sigma_{cell.swept} (true: {cell.true:g})"
    lines = tuple(Line(LABELS[posterior], x, _numbers(curves.population)) for posterior, curves in cell.curves.items())
    whole = Curves(f"population_{name}", f"The population, {label}", label, "nats per sequence", lines, (truth,))
    dsa, exact = cell.curves["dsa"], cell.curves["exact"]
    assert dsa.descent is not None
    assert dsa.descent_error is not None
    assert dsa.descent_peaks is not None
    bound, error = dsa.descent[0], 1.96 * dsa.descent_error[0]
    drawn = (
        Line("DSA, gradient descent", x, _numbers(bound), _numbers(bound - error), _numbers(bound + error)),
        Line("DSA, closed form", x, _numbers(dsa.sample[0])), Line("log-likelihood", x, _numbers(exact.sample[0])),
    )  # fmt: skip
    marks = (Mark("peak of the bound", float(dsa.descent_peaks[0])), Mark("peak of the likelihood", float(exact.sample_peaks[0])), truth)
    note = f"One sample of {SEQUENCES} sequences. Band: 95 % of the Monte-Carlo error of the evaluation."
    return [whole, Curves(f"sample_{name}", f"One sample, {label}", label, "nats per sequence", drawn, marks, note)]


def _kalman(found: Study) -> Table:
    head = ("scale", "true", "share of noise", "peak of the bound", "its closed form", "peak of the likelihood", "population")
    rows = tuple(
        (
            f"sigma_{cell.swept}", cell.true, each.share, each.bound_peak, each.closed_peak, each.likelihood_peak,
            "none: it collapses" if each.population_peak == 0 else f"{each.population_peak:.3f}",
        )
        for cell in found.cells for each in cell.kalman
    )  # fmt: skip
    note = (
        "A linear Kalman VAE of the same world, by the loss of the model itself, on one sample. Its states are inferred exactly, so what "
        "the bound lacks is the encoder's alone, of the share of the observation noise that lies between frame and code: with a small "
        "share bound and likelihood peak together."
    )
    return Table("kalman", "The same of Kalman VAEs", head, rows, note)


def _figures(found: Study) -> dict[str, Figure]:
    """`bias_peak_z05_dsa_population`, `..._sample` and `..._descent`: where the bound is highest."""
    figures = dict[str, Figure]()
    clips = SEQUENCES * found.settings.data_sets
    for row in found.rows:
        name = f"bias_peak_{_name(row.swept, row.true)}_{row.posterior}"
        figures[f"{name}_population"] = Figure(row.population, row.population, row.population, 0)
        for way, interval in (("sample", row.sample), ("descent", row.descent)):
            if interval is not None:
                figures[f"{name}_{way}"] = Figure(interval.mean, interval.mean - interval.half, interval.mean + interval.half, clips)
    return figures


def _name(swept: str, true: float) -> str:
    return f"{swept}{round(10 * true):02d}"


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
