"""A folder of videos, decoded once into one flat file of uint8 frames that is memory-mapped ever after."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.clipfiles import CACHE_SUFFIX, ClipFile, find_clips
from stillmotion.data.decode import UNDERSTOOD, read_frames
from stillmotion.data.fitting import FrameSpec, Pixels

LAYOUT = 1
FULL_CHECK_BYTES = 2 * 10**9
BLOCK = 2**20
Report = Callable[[int, int, str], None]
Pieces = Callable[[ClipFile, list[str]], Iterator[Pixels]]


@dataclass(frozen=True)
class Source:
    """A clip that was read: frames[start : start + frames] of the store; `notes` says what was odd about it."""

    name: str
    stamp: str
    start: int
    frames: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A file that was not read, why, and what to do about it."""

    name: str
    stamp: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Prepared:
    """A decoded folder.

    frames: (F, C, H, W) uint8, memory-mapped. decoded: how many files were decoded this time. check: how the store was verified.
    """

    frames: Tensor
    sources: tuple[Source, ...]
    refused: tuple[Refusal, ...]
    spec: FrameSpec
    place: Path
    decoded: int
    check: str


def prepare(folder: Path, spec: FrameSpec, cache: Path, report: Report = lambda done, total, name: None) -> Prepared:
    """The frames of all clips below `folder`; only what is new or changed since the last time is decoded.

    cache: folder for the decoded frames, which get a subfolder for each pair of folder and spec.
    report: called with (files done, files in all, name) as the work goes on.
    Raises UserError where nothing is readable and where the disk is full. One bad file never ends a run.
    """
    found = find_clips(folder)
    place = cache / (_key(folder, spec) + CACHE_SUFFIX)
    prepared = _load(place, spec)
    if prepared is None or _stamps(prepared) != {clip.name: clip.stamp for clip in found}:
        prepared = _write(found, spec, place, prepared, report)
    if not prepared.sources:
        raise nothing_readable(folder, prepared.refused)
    return prepared


def scan(folder: Path, spec: FrameSpec, report: Report = lambda done, total, name: None) -> tuple[list[Source], list[Refusal]]:
    """What `prepare` would read and refuse, found out by decoding everything and keeping nothing."""
    return _read_all(find_clips(folder), lambda clip, notes: read_frames(clip.path, spec, notes), None, spec, report)


def nothing_readable(folder: Path, refused: Sequence[Refusal]) -> UserError:
    """The error for a folder without a single readable clip; it lists up to ten refusals."""
    listed = "".join(f"\n  {bad.name}: {bad.reason}. {bad.remedy}" for bad in refused[:10])
    more = f"\n  and {len(refused) - 10} more" if len(refused) > 10 else ""
    got = f"{folder}, where none of {len(refused)} files can be read" if refused else f"{folder}, which holds none"
    return UserError("a folder with readable videos", got, f"Understood are {UNDERSTOOD}.{listed}{more}")


def _key(folder: Path, spec: FrameSpec) -> str:
    text = json.dumps([str(folder.resolve()), asdict(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamps(prepared: Prepared) -> dict[str, str]:
    return {clip.name: clip.stamp for clip in prepared.sources} | {bad.name: bad.stamp for bad in prepared.refused}


def _decoder() -> str | None:
    """The version of the video decoder: another one may read what this one refused."""
    try:
        import av
    except ImportError:
        return None
    return str(av.__version__)


# -- reading ---------------------------------------------------------------------------------------------------------------


def _read_all(
    found: Sequence[ClipFile], pieces: Pieces, store: BinaryIO | None, spec: FrameSpec, report: Report
) -> tuple[list[Source], list[Refusal]]:
    """Reads the clips one after the other into `store` (None: nowhere); of a clip refused half-way nothing stays."""
    sources: list[Source] = []
    refused: list[Refusal] = []
    start = 0
    for index, clip in enumerate(found):
        report(index, len(found), clip.name)
        notes: list[str] = []
        try:
            frames = sum(_keep(store, piece) for piece in pieces(clip, notes))
        except FileRefused as error:
            _cut(store, start * math.prod(spec.frame_shape))
            refused.append(Refusal(clip.name, clip.stamp, error.got.removeprefix(f"{clip.path}: "), error.remedy))
        else:
            sources.append(Source(clip.name, clip.stamp, start, frames, tuple(notes)))
            start += frames
    report(len(found), len(found), "")
    return sources, refused


def _keep(store: BinaryIO | None, piece: Pixels) -> int:
    if store is not None:
        store.write(piece.tobytes())
    return len(piece)


def _cut(store: BinaryIO | None, size: int) -> None:
    if store is not None:
        store.seek(size)
        store.truncate()


# -- writing ---------------------------------------------------------------------------------------------------------------


def _write(found: list[ClipFile], spec: FrameSpec, place: Path, old: Prepared | None, report: Report) -> Prepared:
    """Decodes what is new into a fresh store, copies what is unchanged from the old one, and puts it in the old one's place."""
    known = {source.name: source for source in old.sources} if old else {}
    fresh: list[str] = []

    def pieces(clip: ClipFile, notes: list[str]) -> Iterator[Pixels]:
        source = known.get(clip.name)
        if old is not None and source is not None and source.stamp == clip.stamp:
            notes.extend(source.notes)
            return iter(old.frames[source.start : source.start + source.frames].numpy().reshape(-1, 1, *spec.frame_shape))
        fresh.append(clip.name)
        return read_frames(clip.path, spec, notes)

    try:
        place.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        with _temporary(place) as (path, file):
            sources, refused = _read_all(found, pieces, file, spec, report)
            file.flush()
            os.fsync(file.fileno())
            _publish(path, place, spec, sources, refused)
    except OSError as error:
        raise _cannot_write(place, error) from error
    return _open(place, spec, sources, refused, len(fresh), "written now")


class _temporary:
    """A file under a temporary name in `place`, gone at the end unless it was renamed."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __enter__(self) -> tuple[Path, BinaryIO]:
        handle, name = tempfile.mkstemp(suffix=".tmp", dir=self.place)
        self.path, self.file = Path(name), os.fdopen(handle, "wb")
        return self.path, self.file

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self.file.close()
        self.path.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    """Removes what a killed run left behind; a file written to within the hour may belong to a live one."""
    for path in place.glob("*.tmp"):
        if time.time() - path.stat().st_mtime > 3600:
            path.unlink(missing_ok=True)


def _publish(path: Path, place: Path, spec: FrameSpec, sources: list[Source], refused: list[Refusal]) -> None:
    digest = _digest(path)
    store = place / f"frames-{digest[:16]}.u8"
    os.replace(path, store)
    index = {
        "layout": LAYOUT, "decoder": _decoder(), "spec": asdict(spec), "store": store.name, "bytes": store.stat().st_size,
        "sha256": digest, "sampled": _sampled(store),
        "sources": [asdict(source) for source in sources], "refused": [asdict(bad) for bad in refused],
    }  # fmt: skip
    with _temporary(place) as (draft, file):
        file.write(json.dumps(index, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
        os.replace(draft, place / "index.json")
    for stale in place.glob("frames-*.u8"):
        if stale != store:
            stale.unlink(missing_ok=True)


def _cannot_write(place: Path, error: OSError) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError("room on the disk for the decoded frames", f"a full disk at {place}", "Free some space, or choose another cache.")
    return UserError("a cache folder that can be written", f"{place} ({error.strerror})", "Choose another cache folder.")


# -- opening ---------------------------------------------------------------------------------------------------------------


def _load(place: Path, spec: FrameSpec) -> Prepared | None:
    """The store of an earlier run, verified; None where there is none, or none to be trusted."""
    try:
        index: dict[str, Any] = json.loads((place / "index.json").read_text())
        if index["layout"] != LAYOUT or index["decoder"] != _decoder():
            return None
        check = _verify(place / index["store"], index)
        sources = [Source(**{**source, "notes": tuple(source["notes"])}) for source in index["sources"]]
        refused = [Refusal(**bad) for bad in index["refused"]]
        return _open(place, spec, sources, refused, 0, check) if check else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _verify(store: Path, index: dict[str, Any]) -> str:
    """How the store was verified, or "" where it is not what was written."""
    if store.stat().st_size != index["bytes"]:
        return ""
    if index["bytes"] < FULL_CHECK_BYTES:
        return "verified in full (SHA-256)" if _digest(store) == index["sha256"] else ""
    return "verified by size and 64 sampled blocks" if _sampled(store) == index["sampled"] else ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sampled(path: Path) -> str:
    """SHA-256 of 64 blocks of one MiB, evenly spread."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        for number in range(64):
            file.seek(max(0, size - BLOCK) * number // 63)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _open(place: Path, spec: FrameSpec, sources: list[Source], refused: list[Refusal], decoded: int, check: str) -> Prepared:
    frames = torch.empty((0, *spec.frame_shape), dtype=torch.uint8)
    if sources:
        index = json.loads((place / "index.json").read_text())
        # Copy-on-write: torch wants writable memory, and the file must stay as it is.
        flat = np.memmap(place / index["store"], dtype=np.uint8, mode="c")
        frames = torch.from_numpy(flat.reshape(-1, *spec.frame_shape))
    return Prepared(frames, tuple(sources), tuple(refused), spec, place, decoded, check)
