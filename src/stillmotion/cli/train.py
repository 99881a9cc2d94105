"""`stillmotion train`, `resume` and `demo`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.cli.common import warn_without_effect

if TYPE_CHECKING:
    from stillmotion.training.settings import Run

EXAMPLE = r"'person-(?P<person>\d+)_(?P<action>.+)'"
reading = partial(typer.Option, rich_help_panel="How a folder of videos is read")
labelling = partial(typer.Option, rich_help_panel="Labels of a folder of videos, and what is held out")
modelling = partial(typer.Option, rich_help_panel="Model")
computing = partial(typer.Option, rich_help_panel="Machine")
FOR_FOLDERS = (
    "frame_size", "frames", "fit", "stride", "fps", "grey", "pattern", "labels_from", "group_by",
    "hold_out_tail", "hold_out_clip_per", "hold_out",
)
FOR_MODELS = ("prior_scale", "decoder_input", "posterior", "likelihood")
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="A folder of videos, or a built-in set: pendula, digits, sprites, mug, "
                                        "box, gravity, polygon, pong, torque.")]  # fmt: skip
ModelName = Annotated[str | None, modelling("--model", help="vdsm, dsa, kvae, dmm, dvbf, ae_rnn, vae_rnn or srnn (default: kvae on balls "
                                            "and torque, else vdsm).")]  # fmt: skip
Output = Annotated[Path, typer.Option("--output", "-o", help="The run folder to make.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
FrameSize = Annotated[int, reading(help="Side of the square frames in pixels: a power of two.")]
Frames = Annotated[int, reading(help="Frames in a clip (a window of a longer video).")]
Fit = Annotated[str, reading(help="crop: the central square; letterbox: all of it, between black bars.")]
Stride = Annotated[int, reading(help="Keep every N-th frame.")]
Fps = Annotated[float | None, reading(help="Keep this many frames per second, the nearest in time (default: all).")]
Grey = Annotated[bool, reading("--grey", help="One grey channel instead of three colours.")]
Pattern = Annotated[str | None, labelling(help=f"Labels from file names, for metrics only: named groups, e.g. {EXAMPLE}.")]
LabelsFrom = Annotated[str | None, labelling(help="folders: each level of sub-folders is a label, for metrics only.")]
GroupBy = Annotated[str | None, labelling(help="Learn from two clips of one class of this label at a time, as of one identity.")]
Tail = Annotated[float, labelling(help="Validate on this last fraction of every clip's frames, not on whole clips.")]
ClipPer = Annotated[str | None, labelling(help="Test on one whole clip of each class of this label.")]
Pairs = Annotated[list[str] | None, labelling(help="Test on the clips with these labels, e.g. person=3,action=bend; may be repeated.")]
Size = Annotated[str, typer.Option(help="quick (does it work?), laptop (2 cores), paper (the published size, for a GPU).")]
Config = Annotated[Path | None, typer.Option(help="YAML with changes to the run: all or some of what --print shows.")]
Released = Annotated[bool, modelling("--as-released", help="With the quirks of the authors' released code.")]
PriorScale = Annotated[str | None, modelling(help="VDSM: variance or deviation, what 1/N_s is of the prior of the static code.")]
DecoderInput = Annotated[str | None, modelling(help="VDSM: mixture or static, what the decoder sees beside the pose.")]
Posterior = Annotated[str | None, modelling(help="VDSM: gaussian or iaf; DSA: factorised or full; see the model's page for others.")]
Likelihood = Annotated[str | None, modelling(help="bernoulli or gaussian pixels.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and noise.")]
Device = Annotated[str, computing(help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[str, computing(help="auto (bfloat16 where the machine has it), float32 or bfloat16.")]
OnNan = Annotated[str, computing(help="stop, or lower-lr: go on from the last checkpoint at half the learning rate.")]
DataRoot = Annotated[Path | None, computing(help="Where data sets lie (default: $STILLMOTION_DATA, else the user's cache).")]
Print = Annotated[bool, typer.Option("--print", help="Show the whole run as YAML, as --config takes it, and stop.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write report.html at the end.")]


def train(
    context: typer.Context, source: Source, output: Output = Path("runs/run"), frame_size: FrameSize = 64, frames: Frames = 16,
    fit: Fit = "crop", stride: Stride = 1, fps: Fps = None, grey: Grey = False, pattern: Pattern = None, labels_from: LabelsFrom = None,
    group_by: GroupBy = None, hold_out_tail: Tail = 0.0, hold_out_clip_per: ClipPer = None, hold_out: Pairs = None, size: Size = "laptop",
    config: Config = None, model: ModelName = None, as_released: Released = False, prior_scale: PriorScale = None,
    decoder_input: DecoderInput = None, posterior: Posterior = None, likelihood: Likelihood = None, seed: Seed = 0,
    device: Device = "auto", precision: Precision = "auto", on_nan: OnNan = "stop", data_root: DataRoot = None, print_: Print = False,
    no_report: NoReport = False,
) -> None:
    """Train a model on a folder of videos or on a built-in data set; then the figures and a report.

    A run that stops half-way (Ctrl-C, a power cut) goes on with `stillmotion resume`.
    """
    from stillmotion.recipes import sources, vdsm
    from stillmotion.recipes.override import override, read_yaml

    if not Path(source).is_dir():
        warn_without_effect(context, FOR_FOLDERS, source)
        warn_without_effect(context, ("data_root",) if source in sources.MADE else (), source, "data that lies in a folder")
    reads = {"size": frame_size, "steps": frames, "fit": fit, "stride": stride, "fps": fps, "grey": grey}
    labels = {"pattern": pattern, "labels_from": labels_from}
    held = {"hold_out_tail": hold_out_tail, "hold_out_clip_per": hold_out_clip_per, "hold_out": _pairs(hold_out)}
    run = sources.run_for(
        source, size, model=model, reading=reads, labels=labels, held=held, root=data_root, group_by=group_by, seed=seed
    )
    if run.model.name == "vdsm":
        run = vdsm.as_released(run) if as_released else run
    else:
        warn_without_effect(context, ("as_released", "group_by"), run.model.name, "VDSM")
    options = {"prior_scale": prior_scale, "decoder_input": decoder_input, "posterior": posterior, "likelihood": likelihood}
    chosen = {name: value for name, value in options.items() if value is not None and name in _settings(run)}
    warn_without_effect(context, [name for name in FOR_MODELS if name not in _settings(run)], run.model.name, "other models")
    run = override(run, {"device": device, "precision": precision, "on_nan": on_nan, "model": chosen})
    run = override(run, read_yaml(config)) if config else run
    if print_:
        _print(run)
        return
    _carry_out(lambda: _start(run, output), output, report=not no_report)


def _settings(run: Run) -> set[str]:
    """The options of the model of a run."""
    from stillmotion.core.registry import MODELS, resolve

    return set(resolve(MODELS, run.model.name).config_type.model_fields)


def resume(run: RunFolder, on_nan: Annotated[str | None, typer.Option(help="stop or lower-lr, from here on.")] = None) -> None:
    """Go on with a stopped run, exactly where its last checkpoint is; then the figures and the report."""
    from stillmotion.recipes.execute import resume as go_on

    _carry_out(lambda: go_on(run, on_nan=on_nan), run, report=True)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")] = Path("demo-out"),
    size: Annotated[str, typer.Option(help="laptop (minutes on 2 cores) or quick (seconds, blurry).")] = "laptop",
    seed: Seed = 0,
) -> None:
    """See it work, without data or a GPU: coloured pendula, a small VDSM, both stages, the report and three animations.

    A demo that was stopped goes on where it was.
    """
    from stillmotion.recipes.execute import resume as go_on
    from stillmotion.recipes.sources import run_for

    if (output / "run.json").exists():
        _carry_out(lambda: go_on(output), output, report=True)
    else:
        run = run_for("pendula", size, seed=seed)
        _carry_out(lambda: _start(run, output), output, report=True)
    from stillmotion.report.page import show_figures, write_animations

    show_figures(output)
    for path in write_animations(output):
        typer.echo(f"animation  {path}")
    typer.echo(f"report     {output / 'report.html'}")


def _start(run: Run, output: Path) -> Path:
    from stillmotion.recipes.execute import start

    return start(run, output, command=shlex.join(["stillmotion", *sys.argv[1:]]))


def _carry_out(work: Callable[[], Path], folder: Path, *, report: bool) -> None:
    """Runs to the end, writes the report and says where things are; says how to go on where the run was interrupted."""
    from stillmotion.training.loop import Interrupted
    from stillmotion.training.machine import is_first

    try:
        work()
    except (Interrupted, KeyboardInterrupt) as stop:
        begun = (folder / "run.json").exists()
        how = "stopped and saved" if isinstance(stop, Interrupted) else "stopped"
        again = f"{how}; go on with  stillmotion resume {shlex.quote(str(folder))}"
        typer.echo(again if begun else "stopped before the training began", err=True)
        raise typer.Exit(130) from None
    if not is_first():
        return
    if report:
        from stillmotion.report.page import write_report

        folder = write_report(folder)
    typer.echo(f"done: {folder}")


def _pairs(texts: list[str] | None) -> list[dict[str, str]]:
    from stillmotion.data.windows import parse_pairs

    return [parse_pairs(text) for text in texts or []]


def _print(run: Run) -> None:
    """The run in the form of the changes that `override` takes, so that it can be edited and given back with --config."""
    import yaml

    whole = run.model_dump(mode="json")
    parts = {part: whole[part]["options"] for part in ("data", "model")}
    stages = {stage.pop("name"): stage for stage in whole["stages"]}
    typer.echo(yaml.safe_dump({**whole, **parts, "stages": stages}, sort_keys=False, allow_unicode=True), nl=False)
