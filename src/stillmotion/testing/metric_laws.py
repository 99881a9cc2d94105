"""The law book for metrics: what must hold for every one of them on clips whose truth is known.

    from stillmotion.testing.metric_laws import METRIC_LAWS, Metric, near
    mine = Metric(measure=..., sample=verdicts, expected={"ideal": {"mine": near(1.0)}, "useless": {"mine": chance(0.25)}})
    for law in METRIC_LAWS.values():
        law(mine)

A law raises AssertionError and says what was broken. The cases of this package's metrics are in `testing/metric_cases.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.testing.comparing import claim

Sample = Mapping[str, Tensor]
"""N clips by the name of what is known of them, N rows each. Labels are (N,) int64; codes, verdicts and frames are floats."""

UNUSUAL = ("no_clips", "one_clip", "one_class")
ROUNDING = 1e-6


class Expected(NamedTuple):
    """value: what theory says. tolerance: how far off the figure may be; without one, twice its interval must hold the value."""

    value: float
    tolerance: float | None = None

    def met_by(self, figure: Figure) -> bool:
        """Whether theory and figure agree."""
        if self.tolerance is not None:
            return abs(figure.value - self.value) <= self.tolerance
        return 2 * figure.low - figure.value <= self.value <= 2 * figure.high - figure.value


def near(value: float, tolerance: float = ROUNDING) -> Expected:
    """This value."""
    return Expected(value, tolerance)


def chance(value: float) -> Expected:
    """This value, but for the luck of the clips that were drawn."""
    return Expected(value)


def every(figure: str, clips: int) -> int:
    """The figure is of all clips."""
    return clips


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric as the laws need it.

    measure: calls it on a sample. sample: makes one of a situation, by name, from a generator.
    expected: situation -> figure -> what theory says of it. Every figure must be named; every metric has an "ideal" situation, where
    codes and verdicts are right, and a "useless" one, where they have nothing to do with the clips.
    clips: figure and size of the sample -> how many clips the figure is of.
    refuses: of UNUSUAL, what it answers with UserError; in the other cases its figures must still be numbers.
    order: how far values may move when the clips come in another order; more than rounding only where the generator splits them.
    """

    measure: Callable[[Sample, torch.Generator], Figures]
    sample: Callable[[str, torch.Generator], Sample]
    expected: Mapping[str, Mapping[str, Expected]]
    clips: Callable[[str, int], int] = every
    refuses: tuple[str, ...] = UNUSUAL
    order: float = ROUNDING

    def of(self, situation: str) -> Sample:
        """A sample, always the same one."""
        return self.sample(situation, _seeded(0))

    def figures(self, sample: Sample) -> Figures:
        """The metric of a sample, always with the same noise."""
        return self.measure(sample, _seeded(1))


def check_theory(metric: Metric) -> None:
    """In every situation each figure is what theory says it is."""
    claim({"ideal", "useless"} <= set(metric.expected), "a metric must say what it expects of ideal and of useless codes or verdicts")
    for situation, expected in metric.expected.items():
        _, found = _measured(metric, situation)
        claim(found.keys() == expected.keys(), f"{situation}: figures {sorted(found)}, theory tells of {sorted(expected)}")
        for name, theory in expected.items():
            figure = found[name]
            tells = f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"
            claim(theory.met_by(figure), f"{situation}: {name} is {tells}, in theory {theory.value:.4f}")


def check_interval(metric: Metric) -> None:
    """Every figure is a number within its interval, and says how many clips it is of."""
    for situation in metric.expected:
        sample, found = _measured(metric, situation)
        for name, figure in found.items():
            _check_figure(f"{situation}: {name}", figure)
            clips = metric.clips(name, size(sample))
            claim(figure.clips == clips, f"{situation}: {name} is said to be of {figure.clips} clips, it is of {clips}")


def check_seed(metric: Metric) -> None:
    """The generator that is handed in decides the noise, alone: the same seed gives the same figures, whatever the global one does."""
    sample, first = _measured(metric, "useless")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        claim(metric.figures(sample) == first, "one seed gave two results")
        claim(torch.equal(before, torch.get_rng_state()), "it draws from the global generator")


def check_order(metric: Metric) -> None:
    """The order of the clips does not matter."""
    sample, first = _measured(metric, "useless")
    mixed = metric.figures(rows_of(sample, torch.randperm(size(sample), generator=_seeded(2))))
    for name, figure in first.items():
        off = abs(mixed[name].value - figure.value)
        claim(off <= metric.order, f"{name} moves by {off:.3g} when the clips come in another order")


def check_unknown(metric: Metric) -> None:
    """Clips whose labels are unknown (-1) are left out, and are not counted."""
    sample, _ = _measured(metric, "useless")
    if not any(map(_is_label, sample.values())):
        return
    known = torch.rand(size(sample), generator=_seeded(3)) < 0.7
    hidden = {name: value.where(known, -1) if _is_label(value) else value for name, value in sample.items()}
    found, fewer = metric.figures(hidden), metric.figures(rows_of(sample, known))
    for name, figure in fewer.items():
        claim(found[name].clips == figure.clips, f"{name}: {found[name].clips} clips are counted, the labels of {figure.clips} are known")
        off = abs(found[name].value - figure.value)
        claim(off <= metric.order, f"{name} moves by {off:.3g} with clips of unknown labels")


def check_input(metric: Metric) -> None:
    """What is measured is left as it was."""
    sample, _ = _measured(metric, "ideal")
    changed = [name for name, value in metric.of("ideal").items() if not torch.equal(value, sample[name])]
    claim(not changed, f"it changes {', '.join(changed)}")


def check_not_a_number(metric: Metric) -> None:
    """One NaN or infinite number, in anything that is read, is refused; it neither passes for a value nor breaks anything else."""
    sample, _ = _measured(metric, "ideal")
    for name, value in sample.items():
        if not value.is_floating_point():
            continue
        for bad in (math.nan, math.inf):
            spoilt = value.clone()
            spoilt.view(len(value), -1)[len(value) // 2, 0] = bad
            answer = _refusal(metric, {**sample, name: spoilt})
            claim(answer is None, f"{bad} among the {name}: {answer}")


def check_unusual(metric: Metric) -> None:
    """No clips, one clip, clips of one class: a UserError where nothing can be said, otherwise figures that are numbers."""
    sample, _ = _measured(metric, "ideal")
    unusual = {
        "no_clips": rows_of(sample, slice(0)),
        "one_clip": rows_of(sample, slice(1)),
        "one_class": {name: torch.zeros_like(value) if _is_label(value) else value for name, value in sample.items()},
    }
    for name in UNUSUAL:
        if name != "one_class" or any(_is_label(value) for value in sample.values()):
            answer = _refusal(metric, unusual[name])
            if name in metric.refuses:
                claim(answer is None, f"{name}: {answer}")
            else:
                claim(answer is not None, f"{name}: refused, though the case says that it is measured")


METRIC_LAWS: dict[str, Callable[[Metric], None]] = {
    "theory": check_theory,
    "interval": check_interval,
    "seed": check_seed,
    "order": check_order,
    "unknown": check_unknown,
    "input": check_input,
    "not_a_number": check_not_a_number,
    "unusual": check_unusual,
}


def rows_of(sample: Sample, rows: Tensor | slice) -> Sample:
    """Some of the clips."""
    return {name: value[rows] for name, value in sample.items()}


def size(sample: Sample) -> int:
    """N."""
    return len(next(iter(sample.values())))


@cache
def _measured(metric: Metric, situation: str) -> tuple[Sample, Figures]:
    """A sample and the figures of it, measured once for all laws."""
    sample = metric.of(situation)
    return sample, metric.figures(sample)


def _refusal(metric: Metric, sample: Sample) -> str | None:
    """None where the metric raises UserError, otherwise what it does; AssertionError for figures that are no numbers."""
    try:
        found = metric.figures(sample)
    except UserError:
        return None
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} instead of UserError: {error}") from error
    for name, figure in found.items():
        _check_figure(name, figure)
    return f"passes for {', '.join(f'{name} = {figure.value:.3g}' for name, figure in found.items()) or 'no figures'}"


def _check_figure(name: str, figure: Figure) -> None:
    claim(all(map(math.isfinite, (figure.value, figure.low, figure.high))), f"{name} is {figure.value} ({figure.low} to {figure.high})")
    claim(figure.low <= figure.value <= figure.high, f"{name} = {figure.value:.4f} lies outside {figure.low:.4f} to {figure.high:.4f}")


def _is_label(value: Tensor) -> bool:
    return value.ndim == 1 and not value.is_floating_point()


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
