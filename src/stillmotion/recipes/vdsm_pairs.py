"""Which (person, action) pairs of the Weizmann videos are held out, and what is made in their place from the clips that are left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.roots import data_root, find
from stillmotion.data.windows import cut
from stillmotion.training.settings import Part

PATTERN = r"person-(?P<person>\d+)_(?P<action>.+)"
HELD_OUT: dict[str, str] = {
    "0": "bend", "1": "wave-one-hand", "2": "jumping-jack", "3": "wave-two-hands", "4": "bend", "5": "jumping-jack", "6": "wave-one-hand",
    "7": "wave-two-hands", "8": "bend",
}  # fmt: skip
"""Person -> action. Each of the nine persons loses one of four actions and keeps three; three actions are lost by two persons each and
one by three, so that each keeps six or seven. Who dresses otherwise for the jumping jack does not lose that: nobody could know
the clothes of a clip that was never seen."""
CHANGED = (("0", "jumping-jack"), ("1", "jumping-jack"), ("3", "jumping-jack"), ("6", "jumping-jack"))
"""Clips in which a person wears other clothes, or stands in other light, than in the other three."""
LOOKS = rf"(?=(?P<look>{'|'.join('person-{}_{}'.format(*clip) for clip in CHANGED)}|person-\d+)){PATTERN}"
"""PATTERN, and how the person looks: each person is a class of it, and each changed clip one of its own."""
TAIL = 0.1
"""The last part of every other clip, kept for validation."""


class Reel(NamedTuple):
    """A clip as far as a split shows it: `length` frames of the store from `start` on."""

    person: str
    action: str
    start: int
    length: int


class Transfer(NamedTuple):
    """To be made: what `held` shows, from the person of one clip and the action of another."""

    held: Reel
    identity: Reel
    motion: Reel


def footage(pairs: Mapping[str, str], pattern: str = PATTERN) -> Part:
    """The videos as the data of a run, without these pairs, and with the labels that a pattern reads off their names.

    Raises UserError where the data root has no folder of them.
    """
    folder = find(data_root(), "weizmann")
    if folder is None:
        remedy = (
            "They may not be passed on: take them from the Weizmann action data, one clip per person and action, called "
            "person-3_wave-one-hand.mp4 (persons 0 to 8; bend, jumping-jack, wave-one-hand, wave-two-hands), and name the root with "
            "STILLMOTION_DATA."
        )
        raise UserError(f"the Weizmann videos in {data_root() / 'weizmann'}", "no such folder", remedy)
    held = [{"person": person, "action": action} for person, action in pairs.items()]
    return Part(name="videos", options={"folder": str(folder.resolve()), "pattern": pattern, "hold_out": held, "hold_out_tail": TAIL})


def reels(clips: ClipSet) -> list[Reel]:
    """The clips that a set has windows of, each as one stretch of frames, in the order of their names."""
    assert clips.source is not None
    return sorted(_reel(clips, (clips.source == source).nonzero().flatten()) for source in torch.unique(clips.source))


def _reel(clips: ClipSet, windows: Tensor) -> Reel:
    """The stretch that these windows (M,) of one clip cover."""
    names = [clips.classes[factor][int(clips.labels[factor][windows[0]])] for factor in ("person", "action")]
    start, end = int(clips.starts[windows].min()), int((clips.starts + clips.lengths)[windows].max())
    return Reel(names[0], names[1], start, end - start)


def transfers(splits: Splits, pairs: Mapping[str, str], most: int | None = None) -> list[Transfer]:
    """All that can be made in the place of each pair: each usable clip of the person, with each clip of the action by another person.

    Sources are training clips; clips in changed clothes lend no identity. most: motions for each identity, all by default. Raises
    UserError for a pair that is not held out, and where nothing is left to make it from.
    """
    shown, known = reels(splits.test), reels(splits.train)
    found: list[Transfer] = []
    for person, action in pairs.items():
        held = [reel for reel in shown if (reel.person, reel.action) == (person, action)]
        own = [reel for reel in known if reel.person == person and (person, reel.action) not in CHANGED]
        others = [reel for reel in known if reel.action == action and reel.person != person]
        if not (held and own and others):
            raise UserError("a held-out pair, other clips of the person and of the action", f"person {person}, {action}: one is lacking")
        found += [Transfer(held[0], identity, motion) for identity in own for motion in others[:most]]
    return found


def film(clips: ClipSet, reel: Reel) -> Clips:
    """The frames of a clip, as a batch of one."""
    return Clips.of(clips.frames[reel.start : reel.start + reel.length])


def mirrored(clips: ClipSet) -> ClipSet:
    """The same windows, and each once more as in a mirror: who it is and what is done stay the same."""
    assert clips.source is not None
    return ClipSet(
        frames=torch.cat([clips.frames, clips.frames.flip(-1)]),
        starts=torch.cat([clips.starts, clips.starts + len(clips.frames)]),
        lengths=clips.lengths.repeat(2),
        steps=clips.steps,
        labels={factor: labels.repeat(2) for factor, labels in clips.labels.items()},
        classes=clips.classes,
        source=clips.source.repeat(2),
        sources=clips.sources,
        moving=clips.moving,
    )


# Time


def pieces(frames: Tensor, steps: int, hop: int) -> Tensor:
    """A clip (L, C, H, W) in windows (M, steps, C, H, W), every `hop` frames and flush with the end."""
    return torch.stack([frames[start : start + length] for start, length in cut(len(frames), steps, hop)])


def aligned(windows: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Where in a real clip (L, C, H, W) each window (M, T, C, H, W) fits best: mean squared error and first frame, both (M,).

    All stretches of T frames are tried. Time is neither stretched nor turned back. Raises UserError where the real clip is shorter.
    """
    steps = windows.shape[1]
    if len(real) < steps:
        raise UserError(f"a real clip of at least {steps} frames", f"one of {len(real)}", "Use shorter windows.")
    errors = torch.stack([_each_offset(window, real) for window in windows])
    least = errors.min(1)
    return least.values, least.indices


def _each_offset(window: Tensor, real: Tensor) -> Tensor:
    """Mean squared error of a window (T, ...) against every stretch of a clip (L, ...): (L - T + 1,)."""
    steps = len(window)
    apart = _squared(window.flatten(1), real.flatten(1))
    return torch.stack([apart[:, first : first + steps].diagonal().mean() for first in range(len(real) - steps + 1)])


def _squared(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of every frame (T, D) from every other (L, D), (T, L)."""
    found: Tensor = torch.cdist(first.double(), second.double()).square() / first.shape[1]
    return found


def decibel(errors: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of mean squared errors, peak 1."""
    return -10 * errors.clamp(min=1e-10).log10()


def told(reel: Reel) -> str:
    return f"person {reel.person}, {reel.action.replace('-', ' ')}"
