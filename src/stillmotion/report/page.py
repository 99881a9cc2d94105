"""One self-contained HTML page of a finished run: no remote parts, no scripts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillmotion.core.abilities import Encodes
from stillmotion.core.errors import MissingAbility
from stillmotion.data.base import ClipSet
from stillmotion.data.write import draft
from stillmotion.metrics.results import read_results
from stillmotion.report import animations, curves, figures, maps, tables, verdicts
from stillmotion.report.folder import Finished, open_run, spread
from stillmotion.report.template import fill
from stillmotion.tasks.clips import default_source
from stillmotion.tasks.codes import encode

PAGE = "report.html"
MOST_CODES = 400
DATA_WORDS = {"pendula": "coloured pendula", "digits": "moving digits", "sprites": "Sprites characters", "mug": "MUG faces"}


def write_report(folder: Path) -> Path:
    """Writes report.html into a run folder, whole or not at all, and returns its path.

    Raises FileRefused for a folder without a run, an unfinished run, and files in it that cannot be read.
    """
    text = render(open_run(folder))
    with draft(folder / PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    return folder / PAGE


def write_animations(folder: Path) -> list[Path]:
    """Writes reconstruction.gif, swap.gif and generated.gif into a run folder; those that the model cannot make are left out.

    Raises FileRefused as write_report does.
    """
    finished = open_run(folder)
    _, clips = finished.shown
    fps = animations.rate(finished)

    def reconstruction(path: Path) -> Path:
        return animations.write_gif(animations.reconstructions(finished, _there(clips)), path, fps)

    def swap(path: Path) -> Path:
        grid, real = animations.swaps(finished, _there(clips))
        return animations.write_gif(grid, path, fps, header=real, side=real)

    def generated(path: Path) -> Path:
        new = animations.new_clips(finished, animations.NEW_ROWS, finished.steps, default_source(finished.model))
        return animations.write_gif(new, path, fps)

    written = [_or_word(partial(make, folder / f"{make.__name__}.gif")) for make in (reconstruction, swap, generated)]
    return [path for path in written if isinstance(path, Path)]


def show_figures(folder: Path) -> None:
    """Prints the figures of results.json with their 95 % intervals, and the published ones. Raises FileRefused where there are none."""
    from rich.console import Console
    from rich.table import Table

    lines = figures.lines(read_results(folder)["figures"])
    theirs = ["published"] if any(line.paper for line in lines) else []
    table = Table("figure", "value", "95 % interval", "clips", *theirs, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(line.name, line.value, line.interval, line.clips, *([line.paper] if theirs else []))
    Console().print(table)


def render(finished: Finished) -> str:
    """The page as text."""
    return fill("page.html.j2", curves=curves, maps=maps, signs=verdicts.SIGNS, **_content(finished))


def _content(finished: Finished) -> dict[str, Any]:
    split, clips = finished.shown
    found = (finished.results or {}).get("figures", {})
    return {
        "title": f"{finished.model.name.upper()} on {_data_words(finished)}", "summary": _summary(finished),
        "facts": _facts(finished), "grouped_by": _grouped_by(finished),
        "split": split, "data_trouble": finished.data_trouble, "has_results": finished.results is not None,
        "folder": str(finished.folder),
        "cards": figures.cards(found), "probes": figures.probes(found), "lines": figures.lines(found),
        "evaluation": tables.evaluation(finished.results),
        "swap": _or_word(lambda: _swap(finished, _there(clips))),
        "reconstruction": _or_word(lambda: _reconstruction(finished, _there(clips))),
        "generated": _or_word(lambda: _generated(finished)),
        "code_maps": _or_word(lambda: _maps(finished, _there(clips))),
        "panels": curves.panels(finished.rows), "commands": _commands(finished),
        "settings": json.dumps(finished.run.model_dump(mode="json"), indent=2, ensure_ascii=False),
    }


class _NoClips(Exception):
    """There is nothing to show."""


def _there(clips: ClipSet | None) -> ClipSet:
    if clips is None:
        raise _NoClips("The clips of this run could not be read, so there is nothing to show here.")
    return clips


def _or_word(make: Callable[[], Any]) -> Any:
    """What `make` makes, or the sentence that says why it cannot be made."""
    try:
        return make()
    except MissingAbility as error:
        return f"Left out: this model lacks the ability {error.expected.rsplit(' ', 1)[-1]}."
    except _NoClips as error:
        return str(error)


def _swap(finished: Finished, clips: ClipSet) -> dict[str, Any]:
    """The grid, and what the judge saw in it or why that is not known."""
    grid, real = animations.swaps(finished, clips)
    # who evaluates may name the factors that move, where the data does not know
    moving = tuple(((finished.results or {}).get("evaluation") or {}).get("moving") or clips.moving)
    notes: verdicts.Notes | str
    try:
        notes = verdicts.annotate(verdicts.judge_of(finished), replace(spread(clips, animations.GRID), moving=moving), grid)
    except verdicts.NoJudge as error:
        notes = str(error)
    foot = 0 if isinstance(notes, str) else notes.foot
    return {"picture": animations.picture(grid, animations.rate(finished), header=real, side=real, foot=foot), "notes": notes}


def _reconstruction(finished: Finished, clips: ClipSet) -> dict[str, Any]:
    pairs = animations.reconstructions(finished, clips)
    strip = animations.strip_of(pairs)
    fps = animations.rate(finished)
    return {"moving": animations.picture(pairs, fps), "strip": animations.picture(strip, fps), "rows": len(strip)}


def _generated(finished: Finished) -> dict[str, Any]:
    fps = animations.rate(finished)
    source = default_source(finished.model)
    short = animations.new_clips(finished, 1, finished.steps, source)
    steps = short.shape[2]
    shown = {"short": animations.picture(short, fps), "steps": steps, "whole": steps == finished.steps, "long": None, "prior": None}
    if finished.steps < animations.LONG:
        shown["long"] = animations.picture(animations.new_clips(finished, 1, animations.LONG, source), fps)
    if source != "prior":
        shown["prior"] = animations.picture(animations.new_clips(finished, 1, finished.steps, "prior"), fps)
    return shown | {"long_steps": animations.LONG, "source": source}


def _maps(finished: Finished, clips: ClipSet) -> dict[str, Any]:
    if not isinstance(finished.model, Encodes):
        raise MissingAbility(finished.model.name, "Encodes", [])
    clips = clips.spread(MOST_CODES)
    codes = encode(finished.model, clips)
    named: dict[str, Tensor | None] = {"static": codes.static, "dynamic": codes.dynamic}
    there = {name: code for name, code in named.items() if code is not None}
    if len(clips) < 3 or not there:
        raise _NoClips("Left out: a map needs three clips and a model with a code for each of them.")
    return {"count": len(clips), "factors": maps.maps_of(there, clips)}


def _data_words(finished: Finished) -> str:
    data = finished.run.data
    if "folder" in data.options:
        return f"the videos in {Path(str(data.options['folder'])).name}"
    return DATA_WORDS.get(data.name, data.name)


def _summary(finished: Finished) -> str:
    run, data = finished.run, finished.data
    clips = f"{len(data.train):,} clips of {_data_words(finished)}" if data else _data_words(finished)
    stages = [f"{stage.steps:,} steps of stage “{stage.name}”" for stage in run.stages]
    told = " and ".join(part for part in (", ".join(stages[:-1]), stages[-1]) if part)
    return (
        f"A {finished.model.name.upper()} with {_count(_parameters(finished))} parameters learned, {_help(finished)}, "
        f"to tell what stays from what moves in {clips}: {told}{_duration(finished)}."
    )


def _help(finished: Finished) -> str:
    grouped = _grouped_by(finished)
    return f"with no label but the grouping by {grouped}" if grouped else "without labels"


def _grouped_by(finished: Finished) -> str:
    """The labels by which training grouped clips, the only way in which it may see any; which clip a frame is of is no label."""
    factors = (stage.feed.group_by for stage in finished.run.stages)
    return " and ".join(dict.fromkeys(factor for factor in factors if factor and factor != "clip"))


def _duration(finished: Finished) -> str:
    minutes = _minutes(finished)
    if minutes is None:
        return ""
    return f", in {minutes:.0f} minutes" if minutes >= 2 else f", in {60 * minutes:.0f} seconds"


def _minutes(finished: Finished) -> float | None:
    """As results.json says, else as the last row does."""
    value = (finished.results or {}).get("minutes")
    seconds = [row["seconds"] for row in finished.rows if "seconds" in row]
    return value if isinstance(value, int | float) else seconds[-1] / 60 if seconds else None


def _facts(finished: Finished) -> list[tuple[str, str]]:
    """Names and values for the line of facts under the title."""
    run, data = finished.run, finished.data
    channels, height, width = finished.model.frame_shape
    facts = [("frames", f"{finished.steps} of {width} × {height}, {'grey' if channels == 1 else 'colour'}")]
    if data is not None:
        facts.insert(0, ("clips", " / ".join(f"{len(part):,}" for part in data) + " train / validation / test"))
    facts += [("parameters", f"{_parameters(finished):,}"), ("machine", _machine(finished))]
    facts += [("precision", run.precision), ("seed", str(run.seed))]
    return [(name, value) for name, value in facts if value]


def _machine(finished: Finished) -> str:
    found = (finished.results or {}).get("machine") or {}
    cores = f"{found['cores']} CPU cores" if found.get("cores") else ""
    return ", ".join(part for part in (found.get("gpu") if finished.run.device != "cpu" else "", cores) if part)


def _parameters(finished: Finished) -> int:
    return sum(parameter.numel() for parameter in finished.model.parameters())


def _count(number: int) -> str:
    """1.3 million, 840 thousand."""
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number / 1e3:.0f} thousand" if number >= 1e4 else f"{number:,}"


def _commands(finished: Finished) -> list[tuple[str, str]]:
    """What to do next, and the command for it."""
    folder, options = shlex.quote(str(finished.folder)), finished.run.data.options
    _, clips = finished.shown
    names = ["A.mp4", "B.mp4"]
    if clips is not None and clips.source is not None and "folder" in options:
        used = [clips.sources[k] for k in torch.unique(clips.source)[:2].tolist()]
        names = [shlex.quote(str(Path(str(options["folder"])) / name)) for name in used] if len(used) == 2 else names
    swap = [("Swap two clips with this model", f"stillmotion swap {names[0]} {names[1]} --run {folder} -o swapped.gif")]
    new = [("Draw new clips", f"stillmotion generate --run {folder} --frames 60 -o generated.gif")]
    return [*([("Train it again", finished.command)] if finished.command else []), *swap, *new]
