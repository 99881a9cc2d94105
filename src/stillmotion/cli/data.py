"""`stillmotion data`: what data there is, reading it, checking it, looking at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillmotion.cli.common import warn_without_effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stillmotion.data.base import Splits
    from stillmotion.data.fitting import FrameSpec
    from stillmotion.data.shards import Refusal, Source

app = typer.Typer(help="Data sets and folders of videos: list, prepare, check, show.", no_args_is_help=True)

What = Annotated[str, typer.Argument(metavar="NAME_OR_FOLDER", help="A data set from `list`, or a folder of videos.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of videos, searched with its sub-folders.")]
Root = Annotated[Path | None, typer.Option("--data-root", help="Where data sets lie (default: $STILLMOTION_DATA, else the user's cache).")]
Cache = Annotated[Path | None, typer.Option(help="Where decoded videos are kept (default: videos/ below the data root).")]
Size = Annotated[int, typer.Option(help="Side of the square frames, in pixels.")]
FitOption = Annotated[str, typer.Option("--fit", help="crop: the central square; letterbox: all of it, between black bars.")]
Grey = Annotated[bool, typer.Option("--grey", help="One grey channel instead of three colours.")]
Stride = Annotated[int, typer.Option(help="Keep every N-th frame.")]
Fps = Annotated[float | None, typer.Option(help="Keep this many frames per second, the nearest in time (default: all).")]
Steps = Annotated[int, typer.Option(help="Frames in a window.")]
Hop = Annotated[int, typer.Option(help="Frames from one training window to the next.")]
EXAMPLE = r"'person-(?P<person>\d+)_(?P<action>.+)'"
Pattern = Annotated[str | None, typer.Option(help=f"Labels from file names: a regular expression with named groups, e.g. {EXAMPLE}.")]
LabelsFrom = Annotated[str | None, typer.Option(help="folders: each level of sub-folders is a label.")]
Validation = Annotated[float, typer.Option(help="Fraction of the clips to validate on.")]
Test = Annotated[float, typer.Option(help="Fraction of the clips to test on.")]
Tail = Annotated[float, typer.Option(help="Validate on this last fraction of every training clip, instead of on whole clips.")]
ClipPer = Annotated[str | None, typer.Option(help="Test on one clip of each class of this label.")]
Pairs = Annotated[list[str] | None, typer.Option(help="Test on the clips with these labels, e.g. person=3,action=bend; may be repeated.")]
Seed = Annotated[int, typer.Option(help="Seed of the choice of clips that are held out.")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")]
Rows = Annotated[int, typer.Option(help="Clips on the sheet.")]
Columns = Annotated[int, typer.Option(help="Frames of each clip.")]

MOST_LINES = 40
FOR_FOLDERS = ("cache", "size", "fit", "grey", "stride", "fps", "steps", "pattern", "labels_from")


@app.command("list")
def list_sets(data_root: Root = None) -> None:
    """List the data sets, where each would be looked for, and whether it is there."""
    from stillmotion.core.registry import DATA

    for name, target in DATA.items():
        typer.echo(f"{name:<9} {_summary(target)}")
        typer.echo(f"{'':<9} {_whereabouts(name, data_root)}")


@app.command()
def prepare(
    what: What, data_root: Root = None, cache: Cache = None, size: Size = 64, fit: FitOption = "crop", grey: Grey = False,
    stride: Stride = 1, fps: Fps = None,
) -> None:  # fmt: skip
    """Download a data set, or decode a folder of videos once for all later runs.

    Prints what was read, what was refused and why. Files that have not changed are not decoded again.
    """
    if not Path(what).exists():
        _download(what, data_root)
        return
    from stillmotion.data import shards
    from stillmotion.data.progress import Progress
    from stillmotion.data.videos import cache_folder

    with Progress(True, "reading videos") as report:
        done = shards.prepare(Path(what), _spec(size, fit, grey, stride, fps), cache_folder(cache, data_root), report)
    _print_files(done.sources, done.refused)
    typer.echo(f"{done.decoded} files decoded this time; frames in {done.place}, {done.check}.")


@app.command()
def check(
    folder: Folder, size: Size = 64, fit: FitOption = "crop", grey: Grey = False, stride: Stride = 1, fps: Fps = None, steps: Steps = 16,
    hop: Hop = 1, pattern: Pattern = None, labels_from: LabelsFrom = None, validation: Validation = 0.1, test: Test = 0.1,
    hold_out_tail: Tail = 0.0, hold_out_clip_per: ClipPer = None, hold_out: Pairs = None, seed: Seed = 0,
) -> None:  # fmt: skip
    """Try a folder of videos without writing anything: what can be read, labels, windows, splits.

    Exits with 1 only where nothing can be read.
    """
    from stillmotion.data import labels as naming
    from stillmotion.data import shards, windows
    from stillmotion.data.progress import Progress

    rules = windows.HoldOut(validation, test, hold_out_tail, hold_out_clip_per, [windows.parse_pairs(text) for text in hold_out or []])
    with Progress(True, "trying videos") as report:
        sources, refused = shards.scan(folder, _spec(size, fit, grey, stride, fps), report)
    if not sources:
        raise shards.nothing_readable(folder, refused)
    _print_files(sources, refused)
    labels = naming.label([source.name for source in sources], pattern, labels_from)
    _print_labels(labels)
    plan = windows.plan([source.frames for source in sources], labels, steps, hop, rules, seed)
    _print_plan(plan, sources, steps)


@app.command()
def show(
    context: typer.Context, what: What, output: Output = Path("sheet.png"), split: Split = "train", rows: Rows = 8,
    columns: Columns = 8, data_root: Root = None, cache: Cache = None, size: Size = 64,
    fit: FitOption = "crop", grey: Grey = False, stride: Stride = 1, fps: Fps = None, steps: Steps = 16, pattern: Pattern = None,
    labels_from: LabelsFrom = None,
) -> None:  # fmt: skip
    """Write a contact sheet: clips of a data set or folder as rows of frames, with their labels."""
    from stillmotion.core.errors import UserError
    from stillmotion.data.sheet import contact_sheet

    if split not in ("train", "validation", "test"):
        raise UserError("a split called train, validation or test", repr(split))
    if Path(what).exists():
        from stillmotion.data.videos import cache_folder, open_folder

        spec = _spec(size, fit, grey, stride, fps)
        splits = open_folder(
            what, spec, steps=steps, pattern=pattern, labels_from=labels_from, cache=cache_folder(cache, data_root)
        ).splits  # fmt: skip
    else:
        warn_without_effect(context, FOR_FOLDERS, what)
        splits = _load(what, data_root)
    clips = getattr(splits, split)
    title = f"{Path(what).name or what}: {len(clips):,} {split} clips of {clips.steps} frames"
    typer.echo(f"{contact_sheet(clips, output, rows, columns, title)}")


def _spec(size: int, fit: Any, grey: bool, stride: int, fps: float | None) -> FrameSpec:
    from stillmotion.data.fitting import FrameSpec

    return FrameSpec(size, fit, grey, stride, fps)


def _load(name: str, root: Path | None) -> Splits:
    from inspect import signature

    from stillmotion.core.registry import DATA, resolve

    if name == "videos" or name not in DATA:
        raise _no_such(name)
    load = resolve(DATA, name)
    splits: Splits = load(root=root) if "root" in signature(load).parameters else load()
    return splits


def _no_such(what: str) -> Exception:
    from stillmotion.core.errors import UserError
    from stillmotion.core.registry import DATA

    if what == "videos":
        return UserError("a folder of videos", "the word videos", "Give the folder itself, for example: stillmotion data prepare clips/")
    names = ", ".join(name for name in DATA if name != "videos")
    return UserError("a data set or a folder", f"{what!r}, which is neither", f"Data sets are {names}; or check the path.")


def _download(name: str, root: Path | None) -> None:
    from stillmotion.core.registry import DATA
    from stillmotion.data import download
    from stillmotion.data.progress import Progress
    from stillmotion.data.sources import MNIST, SPRITES

    fetchers = {"sprites": download.prepare_sprites, "digits": download.prepare_mnist, "mnist": download.prepare_mnist}
    if name in fetchers:
        typer.echo((SPRITES if name == "sprites" else MNIST).licence)
        with Progress(True, f"fetching {name} (bytes)") as report:
            folder = fetchers[name](root, lambda done, total: report(done, total, ""))
        typer.echo(f"{name} is in {folder}.")
    elif name == "mug":  # nothing to fetch without its licence: the crops that are there are decoded
        for split, clips in _load(name, root)._asdict().items():
            typer.echo(f"{split}: {len(clips):,} clips of {clips.steps} frames from {len(clips.source.unique())} videos")
    elif name in DATA and name != "videos":
        typer.echo(f"{name} is computed and needs no data.")
    else:
        raise _no_such(name)


def _summary(target: str) -> str:
    """The first line of what a module says of itself; of the function, where a module has several sets and none is its `load`."""
    from importlib import import_module

    module, function = target.split(":")
    about: Any = import_module(module)
    return str((about if function == "load" else getattr(about, function)).__doc__).strip().splitlines()[0]


def _whereabouts(name: str, root: Path | None) -> str:
    from stillmotion.data import mug
    from stillmotion.data.roots import data_root, find
    from stillmotion.data.sources import MNIST, SPRITES

    place = data_root(root)
    if name == "mug":
        return f"there, in {place}" if mug.is_there(place) else f"not there: looked in {place}. It needs a licence and is not downloaded"
    wanted = {"digits": (MNIST, "t10k-images-idx3-ubyte.gz"), "sprites": (SPRITES, "body/0.png")}
    if name not in wanted:
        return "a folder of your own" if name == "videos" else "computed, needs no data"
    collection, file = wanted[name]
    found = find(place, file, *(f"{folder}/{file}" for folder in (collection.folder, "lpc-sprites")))
    if found:
        return f"there, in {place}"
    without = "; without it, small digits from scikit-learn are used" if name == "digits" else ""
    return f"not there: looked in {place}. Get it with: stillmotion data prepare {name}{without}"


def _print_files(sources: Sequence[Source], refused: Sequence[Refusal]) -> None:
    for source in sources[:MOST_LINES]:
        notes = f"  ({'; '.join(source.notes)})" if source.notes else ""
        typer.echo(f"read     {source.name}  {source.frames} frames{notes}")
    if len(sources) > MOST_LINES:
        typer.echo(f"read     and {len(sources) - MOST_LINES} more")
    for bad in refused:
        typer.echo(f"refused  {bad.name}  {bad.reason}. {bad.remedy}")
    typer.echo(f"{len(sources)} clips read, {sum(source.frames for source in sources):,} frames; {len(refused)} refused.")


def _print_labels(labels: Any) -> None:
    for factor, names in labels.classes.items():
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        typer.echo(f"label {factor}: {len(names)} classes ({shown})")
    if labels.unmatched:
        typer.echo(f"{len(labels.unmatched)} clips do not fit the pattern, first {labels.unmatched[0]}")


def _print_plan(plan: Any, sources: Sequence[Source], steps: int) -> None:
    for note in plan.notes:
        typer.echo(f"note: {note}")
    for name in ("train", "validation", "test"):
        windows = getattr(plan, name)
        clips = {window.source for window in windows}
        short = sum(window.length < steps for window in windows)
        padded = f", {short} of them shorter and padded" if short else ""
        typer.echo(f"{name}: {len(windows):,} windows of {steps} frames from {len(clips)} clips{padded}")
        if name == "test" and 0 < len(clips) <= MOST_LINES:
            typer.echo(f"test clips: {', '.join(sources[index].name for index in sorted(clips))}")
