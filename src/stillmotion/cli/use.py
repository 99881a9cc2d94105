"""What a trained model is for: reconstruct, swap, generate, embed, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.cli.common import Fps, Output, Run, Scale, Start, open_clips, trained_in, write_rows

Clip = Annotated[list[Path], typer.Argument(
    metavar="CLIP...", help="Video files, folders of pictures, npy/npz arrays; with --poses, single pictures too.")]  # fmt: skip
Poses = Annotated[bool, typer.Option("--poses", help="Read the pose of each frame off it alone; a single frame suffices.")]
Frames = Annotated[int | None, typer.Option(help="Frames to use of each clip (default: to the end of the shortest).")]


def reconstruct(clips: Clip, run: Run, output: Output = "reconstructed.gif", poses: Poses = False, start: Start = 0,
                frames: Frames = None, fps: Fps = 12, scale: Scale = 2) -> None:  # fmt: skip
    """Show clips above what the model makes of them."""
    import torch

    from stillmotion.tasks.clips import codes_of
    from stillmotion.tasks.codes import decode

    trained, real = open_clips(run, clips, start, frames, least=1 if poses else 2)
    decoded = [decode(trained.model, codes)[0] for codes in codes_of(trained.model, real, trained.steps, poses=poses)]
    steps = min(clip.shape[0] for clip in decoded)
    rows = [[clip.frames[0, :steps] for clip in real], [clip[:steps] for clip in decoded]]
    error = torch.cat([(a - b).square().flatten() for a, b in zip(*rows, strict=True)]).mean()
    write_rows(rows, output, fps, scale)
    typer.echo(f"{output}  ({steps} frames, PSNR {-10 * float(error.log10()):.1f} dB)")


def swap(clips: Clip, run: Run, output: Output = "swapped.gif", grid: Annotated[bool, typer.Option(
             "--grid", help="Every clip's movement (rows) on every clip's identity (columns).")] = False,
         poses: Poses = False, start: Start = 0, frames: Frames = None, fps: Fps = 12, scale: Scale = 2) -> None:  # fmt: skip
    """Put the movement of clip A on the identity of clip B, and back.

    With --grid, all pairs of any number of clips; with --poses, of single frames too.
    """
    from stillmotion.core.errors import UserError
    from stillmotion.tasks.clips import codes_of, swap_grid

    if len(clips) < 2 or (len(clips) > 2 and not grid):
        raise UserError("two clips, or --grid with two or more", f"{len(clips)}")
    trained, real = open_clips(run, clips, start, frames, least=1 if poses else 2)
    swapped = swap_grid(trained.model, codes_of(trained.model, real, trained.steps, poses=poses))
    steps = swapped.shape[2]
    originals = [clip.frames[0, :steps] for clip in real]
    if grid:
        blank = originals[0] * 0 + 1
        rows = [[blank, *originals], *([clip, *row] for clip, row in zip(originals, swapped, strict=True))]
    else:
        rows = [originals, [swapped[0, 1], swapped[1, 0]]]
    write_rows(rows, output, fps, scale)
    typer.echo(output if grid else f"{output}  (above: A and B; below: A's movement on B, B's movement on A)")


def generate(run: Run, output: Output = "generated.gif", count: Annotated[int, typer.Option(help="Clips.")] = 8,
             frames: Annotated[int, typer.Option(help="Frames in each, any number.")] = 16, seed: Annotated[int, typer.Option(
                 help="Seed of the draws.")] = 0, source: Annotated[str | None, typer.Option("--from", help="aggregate: an identity and "
                 "a movement from what training clips left behind (default, where the model keeps it); prior: the priors alone.")] = None,
             fps: Fps = 12, scale: Scale = 2) -> None:  # fmt: skip
    """Draw new clips, of any length."""
    from stillmotion.models.files import load
    from stillmotion.tasks.clips import generate as draw

    drawn = list(draw(load(run).model, count, frames, seed, source=source))
    width = min(count, 4)
    rows = [drawn[k : k + width] for k in range(0, count, width)]
    rows[-1] += [drawn[0] * 0] * (width - len(rows[-1]))
    write_rows(rows, output, fps, scale)
    typer.echo(output)


def embed(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of videos, searched with its sub-folders.")], run: Run,
          output: Annotated[Path, typer.Option("--output", "-o", help=".parquet or .npz")] = Path("codes.parquet"),
          cache: Annotated[Path | None, typer.Option(help="Where decoded videos are kept.")] = None) -> None:  # fmt: skip
    """Write one row per window of each clip: file, first frame, static code, dynamic code."""
    from stillmotion.data.videos import open_windows
    from stillmotion.tasks.embed import embed as codes_of
    from stillmotion.tasks.embed import write_table

    trained = trained_in(run)
    windows, notes = open_windows(folder, trained.spec, steps=trained.steps, cache=cache)
    table = codes_of(trained.model, windows)
    write_table(table, output)
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(f"{output}  ({len(windows)} windows of {len(set(table['file'].tolist()))} clips)")


def report(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run or of a reproduction.")]) -> None:
    """Write report.html into the folder of a run or of a reproduction: one page with everything in it."""
    from stillmotion.metrics.exhibits import PAGE_FILE
    from stillmotion.report.exhibits import write_exhibits
    from stillmotion.report.page import write_report

    write = write_exhibits if (folder / PAGE_FILE).is_file() else write_report
    typer.echo(str(write(folder)))
