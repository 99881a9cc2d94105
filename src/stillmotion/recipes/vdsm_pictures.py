"""Figures 1 and 5 to 8 of the VDSM paper, of clips that no model has seen: actions transferred, clips drawn, poses swapped."""

from __future__ import annotations

import torch

from stillmotion.core.abilities import Model
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Pictures
from stillmotion.recipes.gallery import class_of, crossed, drawn, names_of, pictures, showcase
from stillmotion.recipes.judged_lab import identity_of
from stillmotion.tasks.clips import reconstruct, swap
from stillmotion.tasks.codes import clip_part, encode

STRIPS = 4
"""Clips whose frames stand side by side."""
CROSSED = 5
CROSSED_NOTE = "Row: whose identity. Column: whose {}. First row and first column are test clips; on the diagonal each meets itself."
FACES = " In the paper this figure shows faces (MUG)."


def reconstructions(model: Model, clips: ClipSet) -> Pictures:
    """Clips, their reconstructions through the sequence model, and those of each frame by its own pose."""
    shown = showcase(clips, STRIPS)
    rows = torch.stack([shown.clips().frames, reconstruct(model, shown), reconstruct(model, shown, poses=True)])
    labels = ("test clip", "through the sequence model", "each frame by its own pose")
    return pictures("reconstructions", "Test clips and their reconstructions", rows, labels, names_of(shown), strip=True)


def transfers(model: Model, clips: ClipSet) -> Pictures:
    """Figure 1: the action of one clip in the person of another."""
    shown = showcase(clips, STRIPS)
    codes, frames = encode(model, shown), shown.clips().frames
    other = torch.arange(len(shown)).roll(-1)
    rows = torch.stack([frames[other], frames, swap(model, codes, codes[other])])
    labels = ("target action", "source identity", "transferred")
    return pictures("figure_1", "Figure 1: action transfer", rows, labels, (), strip=True)


def transfer_grid(model: Model, clips: ClipSet) -> Pictures:
    """Figure 5: every identity in every movement."""
    shown = showcase(clips, CROSSED)
    frames = crossed(model, encode(model, shown), shown.clips().frames)
    names, note = names_of(shown), CROSSED_NOTE.format("movement")
    return pictures("figure_5", "Figure 5: identities and actions", frames, ("action of", *names), ("identity of", *names), note)


def new_clips(model: Model, steps: int) -> Pictures:
    """Figure 6: clips drawn from the priors, and from what the model remembers of training clips."""
    note = "Aggregate posterior: s and d of training clips, drawn independently of one another." + FACES
    return drawn("figure_6", "Figure 6: new clips", model, steps, note)


def all_actions(model: Model, clips: ClipSet) -> Pictures:
    """Figure 7: people in all actions that one other is seen at: of those who are seen at most, the one in the middle."""
    seen, done = clips.labels[identity_of(clips)], clips.labels[class_of(clips)]
    people = torch.unique(seen)
    actions = [torch.unique(done[seen == one]) for one in people]
    busy = [k for k, each in enumerate(actions) if len(each) == max(map(len, actions))]
    teacher = busy[len(busy) // 2]
    of_each = (seen == people[teacher]) & (done == actions[teacher][:, None])
    lessons, shown = clips.subset(of_each.int().argmax(1)), showcase(clips.subset(seen != people[teacher]), CROSSED)
    motions, identities = encode(model, lessons), encode(model, shown)
    taught, own = lessons.clips().frames, shown.clips().frames
    rows = [torch.cat([torch.zeros_like(own[:1]), taught])]
    for k in range(len(shown)):
        rows.append(torch.cat([own[k : k + 1], swap(model, identities[torch.full((len(lessons),), k)], motions)]))
    labels = ("action of", *names_of(shown)), ("identity of", *names_of(lessons))
    note = "Row: whose identity. Column: which action, all of one person." + FACES
    return pictures("figure_7", "Figure 7: all actions of another", torch.stack(rows), *labels, note)


def pose_swaps(model: Model, clips: ClipSet) -> Pictures:
    """Figure 8: single frames, the pose of one in the identity of another, by the networks of stage one alone."""
    shown = showcase(clips, CROSSED)
    middle = clips.steps // 2
    still = clip_part(shown.clips(), middle, middle + 1)
    frames = crossed(model, encode(model, still, poses=True), still.frames)
    names, note = names_of(shown), CROSSED_NOTE.format("pose").replace("clips", "frames") + FACES
    title = "Figure 8: identities and poses of single frames"
    return pictures("figure_8", title, frames, ("pose of", *names), ("identity of", *names), note)
