"""The annealing figures of VDSM's supplement: what weights and temperature a run really goes through, the released ones behind them."""

from __future__ import annotations

from collections.abc import Iterator

from stillmotion.metrics.exhibits import Curves, Line, Mark
from stillmotion.models.vdsm_config import VDSMConfig
from stillmotion.recipes.vdsm import as_released
from stillmotion.training.schedules import Schedule, constant
from stillmotion.training.settings import Run, Stage

WEIGHTS = {
    "temperature": ("temperature of the experts' shares", "temperature"),
    "static_kl": ("weight of the divergence of s", "lambda_s"),
    "dynamic_kl": ("weight of the divergence of d", "lambda_d"),
    "path_kl": ("weight of the divergence of the poses", "lambda_z"),
}
"""Schedule -> title and name in the paper."""
PLACES = 200
"""Steps of progress at which a stage is drawn."""
NOTES = {
    "temperature": "It multiplies the code before the softmax, and so rises while shares grow more peaked. Paths are learned without it.",
    "static_kl": "The supplement draws it constant in the second stage; the released code lets it rise again.",
    "dynamic_kl": "The first stage has no d.",
    "path_kl": "The text says from 30 to 1; the released spline runs below zero and is cut at 0.005, so that poses are free for a while.",
}
NOTE = " Published: the released code, which has two stages of as many steps in all, with the steps of this run."


def annealing(run: Run) -> tuple[Curves, ...]:
    """Temperature, lambda_s, lambda_d and lambda_z over all steps of a VDSM run, and over those of the same run as released."""
    return tuple(_curves(run, name) for name in WEIGHTS)


def _curves(run: Run, name: str) -> Curves:
    title, symbol = WEIGHTS[name]
    lines = (*_lines(run, name), *_lines(as_released(run), name, published=True))
    marks = tuple(Mark(stage.name, float(begin)) for begin, stage in _begun(run) if begin)
    return Curves(f"annealing_{name}", f"Supplement, figures 1 and 2: {title}", "step", symbol, lines, marks, NOTES[name] + NOTE)


def _lines(run: Run, name: str, *, published: bool = False) -> Iterator[Line]:
    """One for each stage whose loss reads the weight."""
    for begin, stage in _begun(run):
        schedule = _schedule(run, stage, name)
        if schedule is not None:
            places = [place / PLACES for place in range(PLACES + 1)]
            steps = tuple(begin + place * max(stage.steps - 1, 1) for place in places)
            yield Line(stage.name, steps, tuple(schedule(place) for place in places), published=published)


def _schedule(run: Run, stage: Stage, name: str) -> Schedule | None:
    """None where the stage has no such weight. Frames are decoded at the model's own temperature where no schedule says otherwise."""
    if name == "temperature" and stage.objective != "paths" and name not in stage.schedules:
        return constant(VDSMConfig.model_validate(run.model.options).temperature)
    return stage.schedules.get(name)


def _begun(run: Run) -> Iterator[tuple[int, Stage]]:
    """Each stage with the number of steps before it."""
    begin = 0
    for stage in run.stages:
        yield begin, stage
        begin += stage.steps
