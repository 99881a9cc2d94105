"""Frames that nobody saw: `stillmotion impute` fills gaps in, `stillmotion predict` goes on behind the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stillmotion.cli.common import Fps, Output, Run, Scale, Start, open_clips, write_rows

if TYPE_CHECKING:
    from torch import Tensor

    from stillmotion.tasks.impute import Told

Clip = Annotated[Path, typer.Argument(metavar="CLIP", help="A video file, a folder of pictures, or an npy/npz array.")]
Frames = Annotated[int | None, typer.Option(min=1, help="Frames to use of the clip (default: to its end).")]
Samples = Annotated[int, typer.Option(min=0, help="Draws beside the mean; from 2 on their spread is shown, too.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
Detail = Annotated[Literal["static", "fade", "none"], typer.Option(help="What is added to the model's picture: static, what it lacks of "
                   "all frames (the median of each pixel); fade, what it lacks of the frames beside the gap; or nothing.")]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one line of JSON.")]
NoTruth = Annotated[bool, typer.Option("--no-truth", help="The file has no good frames in the gaps: show and measure nothing of them.")]
BLANK, BESIDE = 0.8, 1.0
"""Grey of a frame that is missing, and of places where there is nothing to show."""


def impute(
    clip: Clip, run: Run, output: Output = "imputed.gif",
    missing: Annotated[str | None, typer.Option(help="Frames to fill in, from 0: 5-12 or 5-12,20,30- (both ends count).")] = None,
    drop: Annotated[float | None, typer.Option(help="Fill in this share of the frames, drawn at random.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Fill in where this file has a 0: one 0 or 1 for each frame, .txt or .npy.")] = None,
    past_only: Annotated[bool, typer.Option("--filter", help="Fill each gap from the frames before it alone.")] = False,
    samples: Samples = 0, seed: Seed = 0, detail: Detail = "static", no_truth: NoTruth = False, start: Start = 0, frames: Frames = None,
    fps: Fps = 12, scale: Scale = 2, as_json: Json = False,
) -> None:  # fmt: skip
    """Fill in missing frames of a clip. From above: the clip with its gaps, filled in, as it was, and how far samples differ."""
    from dataclasses import replace

    from stillmotion.tasks.impute import cross_fade, last_held
    from stillmotion.tasks.impute import impute as fill

    trained, (whole,) = open_clips(run, [clip], start, frames)
    hidden = _hidden(whole.frames.shape[1], missing, drop, mask, seed)
    kept = replace(whole, frames=whole.frames.masked_fill(hidden[None, :, None, None, None], 0), mask=~hidden[None])
    told = fill(trained.model, kept, trained.steps, samples=samples, seed=seed, past_only=past_only, detail=detail)
    shown = kept.frames[0].masked_fill(hidden[:, None, None, None], BLANK)
    write_rows(_rows(shown, told, None if no_truth else whole.frames[0]), output, fps, scale)
    figures: dict[str, Any] = {"frames": len(hidden), "missing": int(hidden.sum())}
    if not no_truth:
        name, baseline = ("psnr_held", last_held) if past_only else ("psnr_cross_fade", cross_fade)
        figures |= {"psnr": _psnr(told.frames, whole.frames, hidden), name: _psnr(baseline(kept), whole.frames, hidden)}
    _tell(output, figures, told, as_json)


def predict(
    clip: Clip, run: Run, output: Output = "predicted.gif",
    steps: Annotated[int, typer.Option(min=1, help="Frames to predict.")] = 16,
    samples: Samples = 0, seed: Seed = 0, detail: Detail = "static", start: Start = 0, frames: Frames = None,
    fps: Fps = 12, scale: Scale = 2, as_json: Json = False,
) -> None:  # fmt: skip
    """Roll on after the last frame of a clip. Where --frames ends it early, what really comes is shown and measured, too."""
    import torch

    from stillmotion.tasks.codes import clip_part
    from stillmotion.tasks.impute import predict as roll

    trained, (whole,) = open_clips(run, [clip], start, None if frames is None else frames + steps)
    given = whole.frames.shape[1] if frames is None else min(frames, whole.frames.shape[1])
    known = clip_part(whole, 0, given)
    told = roll(trained.model, known, trained.steps, steps, samples=samples, seed=seed, detail=detail)
    blank = torch.full_like(told.frames[0, given:], BLANK)
    real = torch.cat([whole.frames[0], blank])[: given + steps]
    later = whole.frames.shape[1] - given
    write_rows(_rows(torch.cat([known.frames[0], blank]), told, real if later else None), output, fps, scale)
    figures: dict[str, Any] = {"frames": given + steps, "predicted": steps}
    if later:
        ahead = torch.arange(given + later) >= given
        held = known.frames[:, -1:].expand_as(whole.frames)
        figures |= {"psnr": _psnr(told.frames[:, : given + later], whole.frames, ahead), "psnr_held": _psnr(held, whole.frames, ahead)}
    _tell(output, figures, told, as_json)


def _hidden(steps: int, missing: str | None, drop: float | None, mask: Path | None, seed: int) -> Tensor:
    """Which frames to fill in, (steps,) bool."""
    from stillmotion.core.errors import UserError
    from stillmotion.tasks.missing import masked_frames, missing_frames, random_frames

    given = [f"--{name}" for name, value in (("missing", missing), ("drop", drop), ("mask", mask)) if value is not None]
    if len(given) != 1:
        raise UserError("one of --missing, --drop and --mask", " and ".join(given) or "none of them")
    if missing is not None:
        hidden = missing_frames(missing, steps)
    elif drop is not None:
        hidden = random_frames(drop, steps, seed)
    else:
        assert mask is not None
        hidden = masked_frames(mask, steps)
    if not bool(hidden.any()):
        raise UserError("at least one frame to fill in", f"{given[0]} that takes none of the {steps}")
    if bool(hidden.all()):
        raise UserError("at least one frame that is there", f"{given[0]} that takes all {steps}", "Leave some to go by.")
    return hidden


def _rows(shown: Tensor, told: Told, real: Tensor | None) -> list[list[Tensor]]:
    """Rows of one column for the mean and one for each sample: what was shown, what is told, what was there, and the spread."""
    beside = [shown.new_full(shown.shape, BESIDE)] * len(told.samples)
    rows = [[shown, *beside], [told.frames[0], *told.samples]]
    rows += [] if real is None else [[real, *beside]]
    rows += [] if told.spread is None else [[_heat(told.spread), *beside]]
    return [[clip.expand(-1, 3, -1, -1) for clip in row] for row in rows]


def _heat(spread: Tensor) -> Tensor:
    """(T, C, H, W) as colours (T, 3, H, W): black where samples agree, then red and yellow, white where they differ most."""
    import torch

    level = spread.mean(1, keepdim=True) / spread.mean(1).amax().clamp(min=1e-6)
    return torch.cat([3 * level, 3 * level - 1, 3 * level - 2], 1).clamp(0, 1)


def _psnr(frames: Tensor, target: Tensor, counted: Tensor) -> float:
    from stillmotion.metrics.quality import psnr

    return round(float(psnr(frames, target, counted[None])), 3)


def _tell(output: str, figures: dict[str, Any], told: Told, as_json: bool) -> None:
    """The figures as one line, for people or for programs."""
    if told.spread is not None:
        figures["largest_deviation"] = round(float(told.spread.max()), 4)
    if as_json:
        typer.echo(json.dumps({"output": output, **figures}))
        return
    units = {"psnr": "PSNR {} dB", "psnr_cross_fade": "cross-fade {} dB", "psnr_held": "last frame held {} dB"}
    plain = {name: f"{name.replace('_', ' ')} {value}" for name, value in figures.items()}
    words = [units[name].format(f"{value:.1f}") if name in units else plain[name] for name, value in figures.items()]
    typer.echo(f"{output}  ({', '.join(words)})")
