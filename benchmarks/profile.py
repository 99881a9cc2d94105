"""Where the time of a VDSM step goes: the profiler's operations, gathered by the part of the model that they belong to.

An operation of the forward pass belongs to the part that called it; one of the backward pass to the part of the forward operation
that recorded it, which the profiler tells by a number common to both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from stillmotion.models.vdsm import VDSM

GROUPS = ("encoder", "blend", "decoder", "recurrent", "losses", "optimiser", "other")
MARK = "part: "
OPERATIONS = {"Blend": "blend"}
BACKWARD = "autograd::engine::evaluate_function"


def profile(model: VDSM, step: Callable[[], object]) -> dict[str, float]:
    """The share of each group in the time of one step, in per cent."""
    with parts(model), torch_profile(activities=[ProfilerActivity.CPU]) as record:
        step()
    events = [event for event in record.events() or [] if event.self_cpu_time_total > 0 or event.sequence_nr >= 0]
    recorded = {event.sequence_nr: _part(event) for event in sorted(events, key=_start) if event.sequence_nr >= 0 and not _backward(event)}
    totals = dict.fromkeys(GROUPS, 0.0)
    for event in events:
        node = _backward(event)
        totals[recorded.get(node.sequence_nr, "other") if node else _part(event)] += event.self_cpu_time_total
    whole = sum(totals.values()) or 1.0
    return {name: round(100 * total / whole, 1) for name, total in totals.items()}


@contextmanager
def parts(model: VDSM) -> Iterator[None]:
    """Within it, the profiler sees which part of the model an operation of the forward pass belongs to."""
    marked: list[tuple[Any, str, str]] = [(model, "forward", "losses"), (model.encoder, "forward", "encoder")]
    marked += [(model.decoder, "forward", "decoder"), (model, "_dynamic", "recurrent"), (model, "_path", "recurrent")]
    with ExitStack() as stack:
        for owner, method, name in marked:
            setattr(owner, method, _marked(getattr(owner, method), name))
            stack.callback(delattr, owner, method)
        yield


def _marked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        with record_function(MARK + name):
            return function(*arguments, **options)

    return call


def _start(event: FunctionEvent) -> float:
    return float(event.time_range.start)


def _line(event: FunctionEvent | None) -> Iterator[FunctionEvent]:
    """The event and what called it, from the inside out."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _backward(event: FunctionEvent) -> FunctionEvent | None:
    return next((caller for caller in _line(event) if caller.name.startswith(BACKWARD)), None)


def _part(event: FunctionEvent) -> str:
    for caller in _line(event):
        if caller.name in OPERATIONS:
            return OPERATIONS[caller.name]
        if caller.name.startswith(MARK):
            return caller.name.removeprefix(MARK)
        if caller.name.startswith("Optimizer.step"):
            return "optimiser"
    return "other"
