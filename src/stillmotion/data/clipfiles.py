"""Which files and folders below a folder may be clips."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stillmotion.core.errors import UserError
from stillmotion.data.decode import PICTURES, kind_of, natural, numbered_pictures

# Files with these endings were meant as clips: they are read, or refused by name. Others are looked at, and passed over in
# silence where they are nothing of ours.
MEANT = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif", ".npy", ".npz", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".ogv", ".3gp"}
    | {".mp3", ".wav", ".m4a", ".ogg", ".flac", ".webp"}
)
# Folders of decoded frames, which may lie among the videos.
CACHE_SUFFIX = ".stillmotion"


@dataclass(frozen=True)
class ClipFile:
    """A file, or a folder of pictures, that may be a clip.

    name: path relative to the searched folder, with forward slashes. stamp: changes when the content may have changed.
    """

    path: Path
    name: str
    stamp: str


def find_clips(folder: Path) -> list[ClipFile]:
    """Everything below `folder` that may be a clip, in natural order of names; hidden files and decoded frames are left out.

    Links are followed, each real folder once. Raises UserError where `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UserError("a folder of videos", f"{folder}, which is {'a file' if folder.exists() else 'not there'}", "Check the path.")
    found = [ClipFile(path, _name(path, folder), _stamp(path)) for path in _candidates(folder)]
    return sorted(found, key=lambda clip: natural(clip.name))


def _name(path: Path, folder: Path) -> str:
    # Names of files may hold bytes that are no text; such a name could be neither printed nor stored.
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="replace")


def _candidates(folder: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        here = Path(where)
        if here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        folders[:] = [name for name in folders if not name.startswith(".") and not name.endswith(CACHE_SUFFIX)]
        yield from _in_one(here, [here / name for name in files if not name.startswith(".")])


def _in_one(here: Path, files: list[Path]) -> Iterator[Path]:
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    numbered = set(numbered_pictures(here)) if len(pictures) > 1 else set()
    if len(numbered) > 1:
        yield here
        pictures = [path for path in pictures if path not in numbered]
    yield from pictures
    yield from (path for path in files if path.suffix.lower() in MEANT or _is_clip(path))


def _is_clip(path: Path) -> bool:
    if path.suffix.lower() in PICTURES:
        return False
    try:
        return kind_of(path) in ("mov", "matroska", "avi", "gif", "npy")
    except OSError:
        return False


def _stamp(path: Path) -> str:
    if not path.is_dir():
        return _stamp_of_file(path)
    parts = "\n".join(f"{picture.name} {_stamp_of_file(picture)}" for picture in numbered_pictures(path))
    return hashlib.sha256(os.fsencode(parts)).hexdigest()


def _stamp_of_file(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "gone"
    # A change of permissions leaves size and time as they were, yet makes a refused file readable.
    return f"{status.st_size}-{status.st_mtime_ns}-{int(os.access(path, os.R_OK))}"
