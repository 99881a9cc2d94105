"""What pixels alone say of swapped clips: of pendula by readers that know how they are drawn, of videos by the borders of their frames."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from stillmotion.core.abilities import Model
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.borders import border_colour, nearer_to_first
from stillmotion.metrics.figure import Figure, Figures
from stillmotion.metrics.swaps import share_of_pairs
from stillmotion.recipes.held_out import held_out
from stillmotion.tasks.clips import swap
from stillmotion.tasks.codes import encode
from stillmotion.training.settings import Run

SWAPS = 500
BORDERS_DIFFER = 0.04


def readers(run: Run, model: Model, data: Splits) -> tuple[str, Figures]:
    """Swaps of pendula by their readers, of videos by the borders of their frames; nothing for other data. With the split measured.

    Where the test clips of videos all stand before one wall, as those of one held-out person do, validation clips are measured.
    """
    read = {"pendula": _pendula, "videos": _borders}.get(run.data.name)
    split, held = held_out(data)
    found = dict(read(model, held, run.seed)) if read else {}
    if found or read is not _borders or split == "validation" or not len(data.validation):
        return split, found
    return "validation", dict(_borders(model, data.validation, run.seed))


def _pendula(model: Model, clips: ClipSet, seed: int) -> Iterator[tuple[str, Figure]]:
    """Swapped pairs that differ in both factors, judged from pixels: the colour must be the identity's, the frequency the motion's."""
    from stillmotion.data.pendula import read_colour, read_frequency, read_speed

    colour, speed = clips.labels["colour"], clips.labels["speed"]
    differ = ((colour[:, None] != colour) & (speed[:, None] != speed)).nonzero()
    if not len(differ):
        return
    pick = torch.randint(len(differ), (SWAPS,), generator=torch.Generator().manual_seed(seed))
    identity, motion = differ[pick].unbind(1)
    codes, noise = encode(model, clips), torch.Generator().manual_seed(seed)
    swapped = swap(model, codes[identity], codes[motion])
    truth = read_frequency(clips.clips(motion).frames)
    yield "swap_static_accuracy", share_of_pairs(read_colour(swapped) == colour[identity], differ[pick], noise)
    yield "swap_action_accuracy", share_of_pairs(read_speed(swapped) == speed[motion], differ[pick], noise)
    near = (read_frequency(swapped) / truth - 1).abs() < 0.05
    yield "swap_frequency_within_5_percent", share_of_pairs(near, differ[pick], noise)


def _borders(model: Model, clips: ClipSet, seed: int) -> Iterator[tuple[str, Figure]]:
    """Ordered pairs of clips whose borders differ: is the border of the swapped clip nearer to the identity's?

    One window of each clip. `swap_border`: all pairs of clips; `swap_border_<factor>`: pairs that differ in the factor.
    """
    assert clips.source is not None
    firsts = torch.tensor([int((clips.source == source).nonzero()[0]) for source in torch.unique(clips.source)])
    chosen = clips.subset(firsts)
    real, codes = chosen.clips(), encode(model, chosen)
    colours = border_colour(real.frames, real.mask)
    apart = (colours[:, None] - colours[None]).norm(dim=2) > BORDERS_DIFFER
    pairs = apart.nonzero()
    if not len(pairs):
        return
    hits = []
    for part in pairs.split(64):
        identity, motion = part.unbind(1)
        swapped = border_colour(swap(model, codes[identity], codes[motion]), real.mask[motion])
        hits.append(nearer_to_first(swapped, colours[identity], colours[motion]))
    hit = torch.cat(hits)
    noise, between = torch.Generator().manual_seed(seed), torch.unique(clips.source)[pairs]
    yield "swap_border", share_of_pairs(hit, between, noise)
    for factor, labels in chosen.labels.items():
        differ = (labels[pairs[:, 0]] != labels[pairs[:, 1]]) & (labels[pairs] >= 0).all(1)
        if differ.any():
            yield f"swap_border_{factor}", share_of_pairs(hit[differ], between[differ], noise)
