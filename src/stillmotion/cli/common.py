"""What several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from stillmotion.core.abilities import Model
    from stillmotion.core.clips import Clips
    from stillmotion.data.fitting import FrameSpec

Run = Annotated[Path, typer.Option("--run", "-r", help="A run folder or a model folder.")]
# a text: a path would lose the slash that makes it a folder
Output = Annotated[str, typer.Option("--output", "-o", help="What to write: .gif, .mp4, .webm, .png (a film strip), or a new folder/.")]
Fps = Annotated[float, typer.Option(help="Frames per second of what is written.")]
Scale = Annotated[int, typer.Option(help="Each pixel becomes a square of this many.")]
Start = Annotated[int, typer.Option(help="First frame to use of each clip, from 0.")]


class Trained(NamedTuple):
    """A model, how frames are read for it, and how many it was trained on at a time."""

    model: Model
    spec: FrameSpec
    steps: int


def trained_in(run: Path) -> Trained:
    """The model of a run folder or a model folder. Raises FileRefused where it was saved without its facts."""
    from stillmotion.core.errors import FileRefused
    from stillmotion.data.fitting import FrameSpec
    from stillmotion.models.files import load

    model, facts = load(run)
    try:
        return Trained(model, FrameSpec(**facts["frames"]), int(facts["steps"]))
    except (KeyError, TypeError) as error:
        remedy = "Save it with files.save(model, folder, frames={'size': 64}, steps=16)."
        raise FileRefused("a model with the facts frames and steps beside it", f"{run}, which holds {facts}", remedy) from error


def open_clips(run: Path, paths: list[Path], start: int, frames: int | None, least: int = 2) -> tuple[Trained, list[Clips]]:
    """The model of a run, and clips read as it takes them: `frames` frames from `start` on, `least` or more."""
    from stillmotion.data.videos import read_clip

    trained = trained_in(run)
    return trained, [read_clip(path, trained.spec, frames, start, least=least) for path in paths]


def write_rows(rows: list[list[Any]], output: str, fps: float, scale: int) -> None:
    """Writes rows of clips (T, C, H, W) as one picture that moves."""
    from stillmotion.data.write import tile, write_video

    write_video(tile(rows), output, fps, scale)


def warn_without_effect(context: typer.Context, options: Iterable[str], name: str, made_for: str = "folders of videos") -> None:
    """Says which of the options that are for something else were given although `name` takes none of them."""
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            typer.echo(f"--{option.replace('_', '-')} is for {made_for} and has no effect on {name}.", err=True)
