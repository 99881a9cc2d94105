"""Your own videos: every clip below a folder, decoded once, in windows of equal length, with labels from names where asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.decode import read_frames
from stillmotion.data.fitting import Fit, FrameSpec
from stillmotion.data.labels import Labels, label
from stillmotion.data.progress import Progress
from stillmotion.data.roots import data_root
from stillmotion.data.shards import Prepared, Refusal, Source, prepare
from stillmotion.data.windows import HoldOut, Window, plan

MOST_FRAMES = 20_000
"""Frames of one clip that are taken into memory as floats: at 64 x 64 pixels in colour about 1 GB."""


@dataclass(frozen=True)
class VideoFolder:
    """A folder of videos, read: its splits, and the story of the reading.

    check: how the decoded frames were verified. notes: remarks on how the splits were made.
    """

    splits: Splits
    sources: tuple[Source, ...]
    refused: tuple[Refusal, ...]
    labels: Labels
    spec: FrameSpec
    check: str
    notes: tuple[str, ...]


def load(
    folder: str | Path,
    *,
    size: int = 64,
    steps: int = 16,
    hop: int | None = None,
    fit: Fit = "crop",
    stride: int = 1,
    fps: float | None = None,
    grey: bool = False,
    pattern: str | None = None,
    labels_from: str | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    hold_out_tail: float = 0.0,
    hold_out_clip_per: str | None = None,
    hold_out: Sequence[Mapping[str, str]] = (),
    cache: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Splits:
    """Windows of `steps` frames (`size` x `size` pixels) from all videos below `folder`, decoded once and kept in `cache`.

    size, fit, stride, fps, grey: see FrameSpec. hop: frames from one training window to the next (default 1).
    pattern, labels_from: see labels.label. validation, test, hold_out_tail, hold_out_clip_per, hold_out: see windows.HoldOut.
    Without labels, whole clips are apart: no clip is in two splits. Held-out windows overlap by half.
    Warns of what was refused and of splits that could not be made as asked. Raises UserError where nothing is readable.
    """
    spec = FrameSpec(size, fit, grey, stride, fps)
    rules = HoldOut(validation, test, hold_out_tail, hold_out_clip_per, hold_out)
    opened = open_folder(
        folder, spec, steps=steps, hop=hop, pattern=pattern, labels_from=labels_from, rules=rules, cache=cache, seed=seed, progress=progress
    )
    for note in opened.notes:
        warnings.warn(note, stacklevel=2)
    return opened.splits


def open_folder(
    folder: str | Path,
    spec: FrameSpec | None = None,
    *,
    steps: int = 16,
    hop: int | None = None,
    pattern: str | None = None,
    labels_from: str | None = None,
    rules: HoldOut | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> VideoFolder:
    """As `load`, with what was read, what was refused and why."""
    spec = spec or FrameSpec()
    with Progress(progress, "reading videos") as report:
        prepared = prepare(Path(folder), spec, cache_folder(cache), report)
    labels = label([source.name for source in prepared.sources], pattern, labels_from)
    chosen = plan([source.frames for source in prepared.sources], labels, steps, 1 if hop is None else hop, rules or HoldOut(), seed)
    splits = Splits(*(clip_set(prepared, labels, windows, steps) for windows in (chosen.train, chosen.validation, chosen.test)))
    notes = (*remarks(prepared.sources, prepared.refused, labels), *chosen.notes)
    return VideoFolder(splits, prepared.sources, prepared.refused, labels, spec, prepared.check, notes)


def open_windows(folder: str | Path, spec: FrameSpec, *, steps: int, cache: str | Path | None = None) -> tuple[ClipSet, list[str]]:
    """All clips below `folder` in windows of `steps` frames side by side, nothing held out; and remarks on what was refused."""
    opened = open_folder(folder, spec, steps=steps, hop=steps, rules=HoldOut(validation=0.0, test=0.0), cache=cache)
    return opened.splits.train, list(opened.notes)


def cache_folder(cache: str | Path | None = None, root: str | Path | None = None) -> Path:
    """Where decoded videos are kept: `cache`, or `videos` below the data root."""
    return Path(cache) if cache is not None else data_root(root) / "videos"


def remarks(sources: Sequence[Source], refused: Sequence[Refusal], labels: Labels) -> list[str]:
    """What a user should know of the files that were refused, read with a flaw, or fit no pattern; at most ten of each are named."""
    notes = []
    if refused:
        notes.append(f"{len(refused)} of the files refused: " + "; ".join(f"{bad.name} ({bad.reason})" for bad in refused[:10]))
    odd = [f"{source.name} ({', '.join(source.notes)})" for source in sources if source.notes]
    if odd:
        notes.append(f"{len(odd)} of the files read with a flaw: " + "; ".join(odd[:10]))
    if labels.unmatched:
        notes.append(f"{len(labels.unmatched)} clips do not fit the pattern and have no label, first {labels.unmatched[0]}")
    return notes


def clip_set(prepared: Prepared, labels: Labels, windows: list[Window], steps: int) -> ClipSet:
    """These windows of at most `steps` frames, over the one store of a decoded folder, with the labels of their clips."""
    source = torch.tensor([window.source for window in windows], dtype=torch.int64)
    first = torch.tensor([clip.start for clip in prepared.sources], dtype=torch.int64)
    return ClipSet(
        frames=prepared.frames,
        starts=first[source] + torch.tensor([window.start for window in windows], dtype=torch.int64),
        lengths=torch.tensor([window.length for window in windows], dtype=torch.int64),
        steps=steps,
        labels={factor: torch.tensor(values, dtype=torch.int64)[source] for factor, values in labels.values.items()},
        classes=labels.classes,
        source=source,
        sources=tuple(clip.name for clip in prepared.sources),
    )


def read_clip(
    path: str | Path, spec: FrameSpec | None = None, steps: int | None = None, start: int = 0, *, least: int = 2
) -> Clips:  # fmt: skip
    """One video as a batch of one clip (1, T, C, size, size): `steps` frames from `start` on, fewer where it ends before, or all.

    least: frames there must be; with 1, a single picture is a clip too, enough for the pose of a frame.
    Raises FileRefused for an unreadable file and UserError where fewer frames than that are asked for or lie behind `start`.
    """
    if start < 0 or (steps is not None and steps < least):
        remedy = "Single frames have poses alone: read those (--poses)." if steps == 1 else ""
        raise UserError(f"{least} frames or more from frame 0 or a later one on", f"{steps} frames from frame {start} on", remedy)
    pieces, seen, end = [], 0, None if steps is None else start + steps
    for piece in read_frames(Path(path), spec or FrameSpec(), least=least):
        pieces.append(piece[max(0, start - seen) : None if end is None else max(0, end - seen)])
        seen += len(piece)
        if end is not None and seen >= end:
            break
        if seen - start > MOST_FRAMES:
            remedy = "Use a part of it: --start and --frames."
            raise UserError(f"a clip of at most {MOST_FRAMES:,} frames to hold in memory", f"{path}, which has more", remedy)
    frames = np.concatenate(pieces)
    if len(frames) < least:
        wanted = "two frames or more" if least > 1 else "a frame or more"
        raise UserError(f"{wanted} from frame {start} on", f"{path}, which has {seen} frames", "Start earlier.")
    return Clips.of(torch.from_numpy(frames))
