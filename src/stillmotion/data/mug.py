"""MUG facial expressions: 52 people who make six faces each, cropped and aligned by OpenFace, for whoever holds the licence.

Crops lie below the data root, or in its folder `mug`, as <person>/<expression>/<take>/ with numbered bmp, png or jpg pictures; the name
of a take may end in _aligned, as OpenFace writes it. docs/data.md has the command that makes them. What stays is the `identity`, what
moves is the `action`; both are named as in the published tables.

Nothing is as in the released code of VDSM where that is at fault: no test video is trained on, labels are never changed, all six
expressions stay, and crops are not padded.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.base import Splits
from stillmotion.data.clipfiles import ClipFile, find_clips
from stillmotion.data.decode import PICTURES, natural
from stillmotion.data.fitting import FrameSpec
from stillmotion.data.labels import Labels
from stillmotion.data.progress import Progress
from stillmotion.data.roots import data_root
from stillmotion.data.shards import Source, prepare
from stillmotion.data.videos import cache_folder, clip_set, remarks
from stillmotion.data.windows import HoldOut, Window, cut

EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
NEUTRAL = "neutral"
LAYOUT = f"<person>/<expression>/<take>/ with numbered pictures, expressions being {', '.join(EXPRESSIONS)}"
REMEDY = "See docs/data.md for how the crops are made, and name their folder with --data-root."
ALIGNED = "_aligned"


class Video(NamedTuple):
    """The names of a video's three folders, without what OpenFace puts behind the last."""

    identity: str
    action: str
    take: str


def load(
    *, root: Path | str | None = None, stride: int = 2, steps: int = 20, size: int = 64, validation: float = 0.05, test: float = 0.15,
    seed: int = 0, cache: Path | str | None = None, progress: bool = True,
) -> Splits:  # fmt: skip
    """Windows of `steps` frames, (3, size, size), of every `stride`-th frame: 20 of about 8 per second, as published.

    root: data root, see `data_root`. validation, test: shares of the videos that are held out; published are 15 % to test on, and none
    to validate on. Which those are is drawn for each video from its own name and `seed`: other videos may come and go. Training windows
    start at every frame, held-out ones overlap by half. A shorter video is one window, padded in time and masked. cache: folder for the
    decoded frames. Warns of what was refused or left out, and of videos that are shorter than a window.
    Raises FileRefused for another layout and where nothing is left to train on, UserError for options out of range.
    """
    if steps < 2:
        raise UserError("clips of 2 frames or more", f"{steps}", "A clip of one frame has no movement.")
    rules, spec, place = HoldOut(validation, test), FrameSpec(size, stride=stride), folder_of(data_root(root))
    videos = _videos(place)
    with Progress(progress, "reading MUG") as report:
        prepared = prepare(place, spec, cache_folder(cache, root), report)
    kept = {number: source for number, source in enumerate(prepared.sources) if videos[source.name].action != NEUTRAL}
    windows = _windows(kept, videos, steps, rules, seed)
    if not windows["train"]:
        raise FileRefused("videos to train on", f"{place}, of whose {len(kept)} videos none is left", "Hold out fewer.")
    labels = _labels([videos[source.name] for source in prepared.sources])
    notes = [*remarks(prepared.sources, prepared.refused, labels), *_of_length(list(kept.values()), steps)]
    if neutral := len(prepared.sources) - len(kept):
        notes.append(f"{neutral} videos of neutral faces are left out")
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Splits(*(replace(clip_set(prepared, labels, part, steps), moving=("action",)) for part in windows.values()))


def folder_of(root: Path) -> Path:
    """Where the people's folders lie: in `mug` below the data root, or else in the root itself."""
    return root / "mug" if (root / "mug").is_dir() else root


def is_there(root: Path) -> bool:
    """Whether there is a folder of an expression where crops are looked for."""
    return any(path.name.lower() in EXPRESSIONS for path in folder_of(root).glob("*/*"))


def split_of(video: Video, rules: HoldOut, seed: int) -> str:
    """The split of a video by its name alone: train, validation or test."""
    digest = sha256(f"{seed} {'/'.join(video)}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < rules.test:
        return "test"
    return "validation" if share < rules.test + rules.validation else "train"


def _windows(kept: Mapping[int, Source], videos: Mapping[str, Video], steps: int, rules: HoldOut, seed: int) -> dict[str, list[Window]]:
    """By split; every frame of a video that is kept is in a window of its split, and in none of another."""
    windows: dict[str, list[Window]] = {split: [] for split in Splits._fields}
    for number, source in kept.items():
        split = split_of(videos[source.name], rules, seed)
        hop = 1 if split == "train" else max(1, steps // 2)
        windows[split].extend(Window(number, *window) for window in cut(source.frames, steps, hop))
    return windows


def _videos(folder: Path) -> dict[str, Video]:
    """The videos below a folder by the names of their clips. Raises FileRefused where anything there is no video, or one is there twice."""
    found = [(clip.name, _video(clip)) for clip in (find_clips(folder) if folder.is_dir() else [])]
    strays = [name for name, video in found if video is None]
    if strays or not found:
        got = f"{len(strays)} others, first {', '.join(strays[:3])}" if found else "nothing that could be a clip"
        raise FileRefused(f"{LAYOUT}", f"{folder}, which holds {got}", REMEDY)
    videos = {name: video for name, video in found if video is not None}
    folders: dict[Video, set[PurePosixPath]] = {}
    for name, video in videos.items():
        folders.setdefault(video, set()).add(_take(name))
    twice = next((sorted(map(str, places)) for places in folders.values() if len(places) > 1), None)
    if twice:
        remedy = "Keep the aligned ones in a folder of their own."
        raise FileRefused("each video once", f"{folder}, which holds {' and '.join(twice)}", remedy)
    return videos


def _video(clip: ClipFile) -> Video | None:
    """What a clip is by its place. A picture alone in the folder of a take is a video too, which is refused when it is read."""
    parts = _take(clip.name).parts
    pictures = clip.path.is_dir() or clip.path.suffix.lower() in PICTURES
    if not pictures or len(parts) != 3 or parts[1].lower() not in (*EXPRESSIONS, NEUTRAL):
        return None
    return Video(parts[0], parts[1].lower(), parts[2].removesuffix(ALIGNED))


def _take(name: str) -> PurePosixPath:
    """The folder that a clip is, or that it lies in where it is a picture."""
    path = PurePosixPath(name)
    return path.parent if path.suffix.lower() in PICTURES else path


def _labels(videos: Sequence[Video]) -> Labels:
    """Neutral faces have no action; the classes of actions are always all six."""
    people = tuple(sorted({video.identity for video in videos}, key=natural))
    identity = tuple(people.index(video.identity) for video in videos)
    action = tuple(-1 if video.action == NEUTRAL else EXPRESSIONS.index(video.action) for video in videos)
    return Labels({"identity": identity, "action": action}, {"identity": people, "action": EXPRESSIONS})


def _of_length(sources: Sequence[Source], steps: int) -> list[str]:
    short = sum(source.frames < steps for source in sources)
    return [f"{short} of {len(sources)} videos are shorter than {steps} frames: one window each, padded and masked"] if short else []
