"""The clips that are measured: which they are, which of them belong together, and a hash by which they are known again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.data.base import ClipSet, Splits


class HeldOut(NamedTuple):
    """split: its name."""

    split: str
    clips: ClipSet


def held_out(splits: Splits) -> HeldOut:
    """Test clips, else validation clips."""
    return HeldOut("test", splits.test) if len(splits.test) else HeldOut("validation", splits.validation)


def clusters_of(train: ClipSet, clips: ClipSet, moving: Sequence[str]) -> Tensor | None:
    """Which clips are not independent, (N,): windows of one file, or all clips of one held-out identity; None where each stands alone."""
    if clips.source is not None:
        return clips.source
    static = {factor: labels for factor, labels in clips.labels.items() if factor not in moving}
    return next((labels for factor, labels in static.items() if _apart(train.labels[factor], labels)), None)


def clips_sha256(splits: Splits) -> str:
    """Of the names, places, lengths and labels of the held-out clips: another folder, split or labelling has another.

    Where a clip lies in the store does not count, as that changes with every file before it; where it lies in its file does.
    """
    split, clips = held_out(splits)
    source = [] if clips.source is None else clips.source.tolist()
    told = {
        "split": split, "frames": [clips.steps, *clips.frame_shape], "lengths": clips.lengths.tolist(), "starts": _starts(splits).tolist(),
        "sources": _named(source, clips.sources),
        "labels": {factor: _named(labels.tolist(), clips.classes.get(factor, ())) for factor, labels in clips.labels.items()},
    }  # fmt: skip
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _starts(splits: Splits) -> Tensor:
    """Of the held-out clips: in the file that they come from, as far as any split has windows of it, else in the store."""
    _, clips = held_out(splits)
    if clips.source is None or not len(clips):
        return clips.starts
    sources = torch.cat([part.source for part in splits if part.source is not None])
    starts = torch.cat([part.starts for part in splits if part.source is not None])
    first = torch.zeros(int(sources.max()) + 1, dtype=starts.dtype).scatter_reduce(0, sources, starts, "amin", include_self=False)
    return clips.starts - first[clips.source]


def _named(numbers: Sequence[int], names: Sequence[str]) -> list[str]:
    """The names, which stay when others come before them; the number where there is none."""
    known = dict(enumerate(names))
    return [known.get(number, str(number)) for number in numbers]


def _apart(trained: Tensor, held: Tensor) -> bool:
    """Whether the classes of held-out clips (N,) are several, all known, and none of them a class of training clips."""
    return bool((held >= 0).all()) and len(torch.unique(held)) > 1 and not bool(torch.isin(held, trained).any())
