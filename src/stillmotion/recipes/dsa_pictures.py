"""Figures 6 to 14 of the report on DSA, of test clips: codes mixed, drawn anew, and a path that derails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from stillmotion.core.abilities import Generates, Model, Predicts, Remembers, Swaps, require
from stillmotion.core.codes import Codes
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Curves, Line, Mark, Pictures
from stillmotion.recipes.gallery import WORDS, crossed, drawn, names_of, pictures, showcase, sources
from stillmotion.tasks.clips import reconstruct, swap
from stillmotion.tasks.codes import decode, encode

DRAWS = 3
BAD_FRAME = 3
"""The state that is drawn badly; frames are counted from 0."""
FARTHER = {1.0: "as drawn", 2.0: "twice as far", 4.0: "four times as far"}
"""From the mean of the dynamics, by how much the bad draw lies farther than an ordinary one."""
ROLLED = 64
"""Clips over which the curve of derailed paths is taken."""


def mixing(name: str, title: str, model: Model, clips: ClipSet, count: int = 5) -> Pictures:
    """Figure 6: every f with every path, beside and below the clips that they are drawn from."""
    shown = showcase(clips, count)
    whole = crossed(model, _drawn(model, shown), shown.clips().frames)
    names = names_of(shown)
    note = "Row: whose f. Column: whose path. The first row and the first column are test clips; on the diagonal each meets itself."
    return pictures(name, title, whole, ("movement of", *names), ("identity of", *names), note)


def direction(model: Model, clips: ClipSet) -> Pictures:
    """Figure 7: f of a clip in one direction, the path of one in another."""
    shown = showcase(clips)
    codes, frames = _drawn(model, shown), shown.clips().frames
    other = torch.arange(len(shown)).roll(-1)
    rows = torch.stack([frames, frames[other], swap(model, codes, codes[other])])
    note = "Where the mixed clip looks as that of f does, the direction is in f: it stays the same throughout a clip."
    title = "Figure 7: which way to look is found in the static code"
    return pictures("figure_7", title, rows, ("f from", "path from", "mixed"), (), note)


def new_static(name: str, title: str, model: Model, clips: ClipSet) -> Pictures:
    """Figures 8 and 14: the path of a clip is kept, f is drawn from its prior, several times."""
    shown = showcase(clips)
    kept = _drawn(model, shown)
    rows = [shown.clips().frames, *(swap(model, _new(model, len(shown), shown.steps, draw, "prior"), kept) for draw in range(DRAWS))]
    return pictures(name, title, torch.stack(rows), ("path from", *[f"f drawn, {draw + 1}" for draw in range(DRAWS)]), names_of(shown))


def from_priors(model: Model, steps: int) -> Pictures:
    """Figure 9: f and the path both drawn, from the priors and from what the model remembers of training clips."""
    note = "Aggregate posterior: f and path of training clips, drawn independently of one another."
    return drawn("figure_9", "Figure 9: both codes drawn", model, steps, note)


@torch.inference_mode()
def derailed(model: Model, clips: ClipSet) -> tuple[Pictures, Curves]:
    """Figure 10: f of a clip, a path from the dynamics, and the same noise with one draw farther out; and how far frames then differ."""
    shown = showcase(clips, 4)
    frames = {label: decode(model, _one_bad(model, _rolled(model, shown), shown.steps, far)) for far, label in FARTHER.items()}
    rows = torch.stack([shown.clips().frames, *frames.values()])
    note = f"Of the path the state of frame {BAD_FRAME + 1} is drawn farther from the mean than it was; all other noise is the same."
    title = "Figure 10: one badly drawn state"
    strips = pictures("figure_10", title, rows, ("f from", *frames), names_of(shown), note, strip=True)
    return strips, _off_the_rails(model, clips.spread(ROLLED))


def _off_the_rails(model: Model, clips: ClipSet) -> Curves:
    """Root mean squared difference of pixels between ordinary paths and derailed ones, frame by frame."""
    rolled = _rolled(model, clips)
    plain = decode(model, _one_bad(model, rolled, clips.steps, 1.0))
    others = {label: decode(model, _one_bad(model, rolled, clips.steps, far)) for far, label in FARTHER.items() if far != 1}
    others["another draw from there on"] = decode(model, _one_bad(model, rolled, clips.steps, 1.0, noise="another"))
    places = tuple(float(t + 1) for t in range(clips.steps))
    lines = [Line(label, places, tuple((frames - plain).square().mean((0, 2, 3, 4)).sqrt().tolist())) for label, frames in others.items()]
    note = f"Over {len(clips)} clips. Where the first two lines stay at the third, a path that went astray does not come back."
    mark = Mark("bad draw", float(BAD_FRAME + 1))
    title = "Figure 10: what follows one badly drawn state"
    return Curves("derailed", title, "frame", "difference of pixels", tuple(lines), (mark,), note)


def sizes_of_static(models: Mapping[str, Model], clips: ClipSet) -> Pictures:
    """Figure 11: f drawn for kept paths, by models whose f has different sizes."""
    shown = showcase(clips)
    rows, labels = [shown.clips().frames], ["path from"]
    for label, model in models.items():
        for source in sources(model):
            rows.append(swap(model, _new(model, len(shown), shown.steps, 0, source), _drawn(model, shown)))
            labels.append(f"{label}, {WORDS[source]}")
    return pictures("figure_11", "Figure 11: how many numbers f has", torch.stack(rows), labels, names_of(shown))


def reconstructions(models: Mapping[str, Model], clips: ClipSet) -> Pictures:
    """Figure 12: clips through the means of their posteriors, by models of different beta."""
    shown = showcase(clips)
    rows = torch.stack([shown.clips().frames, *(reconstruct(model, shown) for model in models.values())])
    note = "A model whose posteriors are the priors shows the same for every clip."
    return pictures("figure_12", "Figure 12: reconstructions at each beta", rows, ("test clip", *models), names_of(shown), note)


# Codes


def _drawn(model: Model, clips: ClipSet) -> Codes:
    """Codes as the report takes them: draws from the posteriors."""
    return encode(model, clips, generator=_noise(model, "codes"))


def _new(model: Model, count: int, steps: int, draw: int, source: str) -> Codes:
    able = require(model, Generates).generate if source == "prior" else require(model, Remembers).recombine
    with torch.inference_mode():
        return able(count, steps, _noise(model, f"new {draw}")).to("cpu")


@torch.inference_mode()
def _rolled(model: Model, clips: ClipSet) -> Codes:
    """f of the clips, paths from the dynamics."""
    return require(model, Swaps).swap(_drawn(model, clips), _new(model, len(clips), clips.steps, 0, "prior"))


def _one_bad(model: Model, codes: Codes, steps: int, far: float, noise: str = "one") -> Codes:
    """The paths up to BAD_FRAME, then a draw `far` times as far from the mean of the dynamics, then the dynamics on."""
    able, begun = require(model, Predicts), codes.to(_device(model))
    assert begun.path is not None
    begun = replace(begun, path=begun.path[:, :BAD_FRAME], mask=None, path_posterior=None)
    mean, draw = (able.predict(begun, BAD_FRAME + 1, source).path for source in (None, _noise(model, f"{noise}, bad draw")))
    assert mean is not None
    assert draw is not None
    bad = mean + far * (draw - mean)
    return able.predict(replace(begun, path=bad), steps, _noise(model, f"{noise}, rest")).to("cpu")


def _noise(model: Model, name: str) -> torch.Generator:
    return torch.Generator(_device(model)).manual_seed(seed_of("pictures", name))


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device
