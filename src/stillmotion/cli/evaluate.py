"""`stillmotion evaluate` and `stillmotion judge`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stillmotion.data.base import Splits
    from stillmotion.recipes.extras import Extras
    from stillmotion.training.settings import Part, Run

WORTH_USING = 0.99
"""A judge that is right less often on real clips than this limits every score that it gives."""

TABLES = "tables.md"
"""In the run folder: every figure that results.json holds, one table per protocol."""

judge = typer.Typer(help="The classifier that says what made clips show.", no_args_is_help=True)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")]
JudgeFolder = Annotated[Path | None, typer.Option("--judge", help="A judge of this data (default: one of our own, trained now if there is "
                                                  "none yet, and kept for the next run).")]  # fmt: skip
NoJudge = Annotated[bool, typer.Option("--no-judge", help="Take only what needs no judge.")]
Moving = Annotated[str | None, typer.Option(help="The labels that tell of movement, for your own videos, e.g. action or action,speed; "
                                            "all others stay.")]  # fmt: skip
Only = Annotated[list[str] | None, typer.Option("--only", help="Take and show one protocol (swap, two_factor, leakage, vdsm, dsa_report, "
                                                "benchmark, frechet_judge, reconstruction, imputation); may be repeated.")]  # fmt: skip
Kinetics = Annotated[Path | None, typer.Option(help="The weight file resnext-101-kinetics.pth, for Fréchet distances on its features.")]
Sha256 = Annotated[str | None, typer.Option("--kinetics-sha256", help="Refuse a weight file of another SHA-256.")]
Pooled = Annotated[bool, typer.Option("--pooled-judge", help="Consistency the released notebooks' way too: a judge trained on real and "
                                      "reconstructed clips of the test set together. For comparison only.")]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Seed of draws, pairs and probes.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write report.html again.")]


def evaluate(
    run: RunFolder, judge: JudgeFolder = None, no_judge: NoJudge = False, moving: Moving = None, only: Only = None,
    kinetics: Kinetics = None, kinetics_sha256: Sha256 = None, pooled_judge: Pooled = False, seed: Seed = 0, no_report: NoReport = False,
) -> None:  # fmt: skip
    """Measure a finished run on clips it never saw: swaps, two factors, leaks, consistency, scores of codes, Fréchet distances.

    Takes what the model's abilities and the data's labels allow, says what it leaves out and why, and writes results.json,
    tables.md and report.html into the run folder. Protocols are never mixed.
    """
    from stillmotion.core.errors import UserError
    from stillmotion.recipes.evaluate import evaluate as measure
    from stillmotion.recipes.extras import Extras

    if judge is not None and no_judge:
        raise UserError("--judge or --no-judge", "both")
    if kinetics_sha256 is not None and kinetics is None:
        raise UserError("--kinetics-sha256 beside --kinetics, whose file it is for", "it alone")
    protocols, moved = tuple(only or ()), _names(moving)
    extras = Extras(kinetics, kinetics_sha256, pooled_judge)
    if judge is None and not no_judge:
        judge = _own_judge(run, protocols, moved, extras)
    with _telling() as say:
        results = measure(run, judge=judge, moving=moved, only=protocols, seed=seed, command=_command(), extras=extras, say=say)
    _tell(run, results, protocols, report=not no_report)


@judge.command("train")
def train_judge(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A run folder (its data and split), or pendula, digits, sprites, mug.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to make (default: where `evaluate` looks; not "
                                                        "with --steps, --channels, --changes, --centred or --seed).")] = None,
    data: Annotated[list[str] | None, typer.Option(help="An option of a built-in set, e.g. version=vdsm; may be repeated.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of 32 clips (default: what is enough for this data).")] = None,
    channels: Annotated[str | None, typer.Option(help="Of the convolutions; 64,128,256,512 are the published ones.")] = None,
    changes: Annotated[list[str] | None, typer.Option(metavar="FACTOR", help="Tell this factor by what changes from frame to frame "
                                                      "alone, not by who is there; may be repeated.")] = None,
    centred: Annotated[bool, typer.Option("--centred", help="See frames through a window about their centre of light: for one thing on "
                                                            "black.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    data_root: Annotated[Path | None, typer.Option(help="Where data sets lie.")] = None,
) -> None:
    """Train a judge on real training clips alone, and say how good it is on test clips.

    One that was stopped goes on where it was.
    """
    from stillmotion.recipes.judge import default_folder, judge_run
    from stillmotion.recipes.judge import train_judge as train

    if output is None:
        _as_usual({"--steps": steps, "--channels": channels, "--changes": changes, "--centred": centred, "--seed": seed})
    part, splits = _source(source, data or [], data_root)
    widths = tuple(_number(width, "channels") for width in channels.split(",")) if channels else None
    run = judge_run(part, splits, channels=widths, steps=steps, changes=tuple(changes or ()), centred=centred, seed=seed, device=device)
    folder = output or default_folder(part)
    _train(run, splits, folder, train)
    show_judge(folder)


def _as_usual(options: dict[str, object]) -> None:
    """Refuses a judge of its own kind in the place where every evaluation of this data looks for one."""
    from stillmotion.core.errors import UserError

    given = [name for name, value in options.items() if value]
    if given:
        remedy = "Name its folder, and give that to `stillmotion evaluate --judge`; the usual place is for a judge trained as usual."
        raise UserError(f"-o FOLDER beside {' and '.join(given)}", "none", remedy)


@judge.command("show")
def show(folder: Annotated[Path, typer.Argument(metavar="JUDGE", help="The folder of a judge.")]) -> None:
    """Show how good a judge is on clips that it never saw."""
    show_judge(folder)


def show_judge(folder: Path) -> None:
    """Prints accuracy and calibration of each factor."""
    from rich.console import Console
    from rich.table import Table

    facts = _facts(folder)
    table = Table("factor", "right", "95 % interval", "calibration error", "nats", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for factor, told in facts["accuracy"].items():
        sure = facts["calibration"][factor]
        interval = f"{100 * told['low']:.2f} to {100 * told['high']:.2f}"
        table.add_row(factor, f"{100 * told['value']:.2f} %", interval, f"{100 * sure['ece']:.2f} %", f"{sure['nll']:.4f}")
    Console().print(table)
    typer.echo(f"{folder}  ({facts['clips']:,} {facts['split']} clips that it never saw, trained in {facts['minutes']:.1f} minutes)")


def _facts(folder: Path) -> dict[str, Any]:
    """What is known of a judge, each factor's accuracy and calibration among it."""
    from stillmotion.core.errors import FileRefused
    from stillmotion.metrics.judge_files import load_judge

    facts = load_judge(folder).facts
    missing = {"accuracy", "calibration", "clips", "split", "minutes"} - facts.keys()
    if missing:
        got = f"{folder}, of which {', '.join(sorted(missing))} is not told"
        raise FileRefused("a judge that was measured on real clips", got, "`stillmotion judge train` makes one.")
    return facts


def _own_judge(run_folder: Path, protocols: tuple[str, ...], moving: tuple[str, ...] | None, extras: Extras) -> Path | None:
    """The judge of the run's data below the user's data root, trained now if need be.

    None where no measure that was asked for needs one, and where the data has nothing to judge.
    """
    from stillmotion.core.errors import UserError
    from stillmotion.models.files import INNER
    from stillmotion.recipes.judge import default_folder, judge_run, train_judge
    from stillmotion.recipes.measures import MEASURES
    from stillmotion.training.runs import load_data, read_run

    run = read_run(run_folder)
    folder = default_folder(run.data)
    if not any(measure.judge for measure in MEASURES.values() if not protocols or measure.protocol in protocols):
        return None
    if (folder / INNER / "config.json").is_file():
        return folder
    splits = load_data(run)
    _check(run_folder, run, splits, protocols, moving, extras)
    try:
        lessons = judge_run(run.data, splits)
    except UserError as error:
        typer.echo(f"no judge: {error}", err=True)
        return None
    typer.echo(f"training a judge of {', '.join(lessons.model.options['classes'])} first; it is kept in {folder}", err=True)
    _train(lessons, splits, folder, train_judge)
    return folder


def _check(
    folder: Path, run: Run, splits: Splits, protocols: tuple[str, ...], moving: tuple[str, ...] | None, extras: Extras
) -> None:
    """Refuses what the evaluation would refuse, before minutes are spent on a judge."""
    from stillmotion.models.files import load
    from stillmotion.recipes.evaluate import check_moving, check_protocols
    from stillmotion.recipes.extras import extra_measures

    check_protocols(protocols, extras)
    load(folder)
    check_moving(moving or (), splits)
    extra_measures(extras, run)


@contextmanager
def _telling() -> Iterator[Callable[[str], object]]:
    """Says what is being measured: on a terminal in one line that changes, elsewhere in a line each."""
    if not sys.stderr.isatty():
        yield lambda name: typer.echo(f"measuring: {name}", err=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("measuring") as status:
        yield lambda name: status.update(f"measuring: {name}")


def _names(text: str | None) -> tuple[str, ...] | None:
    """Names with commas between them; None where there are none."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip()) or None


def _train(run: Run, splits: Splits, folder: Path, train: object) -> None:
    from stillmotion.training.loop import Interrupted

    try:
        train(run, splits, folder, command=_command())  # type: ignore[operator]
    except (Interrupted, KeyboardInterrupt):
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(130) from None


def _source(source: str, options: list[str], root: Path | None) -> tuple[Part, Splits]:
    from stillmotion.core.errors import UserError
    from stillmotion.core.registry import DATA
    from stillmotion.training.runs import RUN_FILE, load_part, read_run
    from stillmotion.training.settings import Part

    if (Path(source) / RUN_FILE).is_file():
        part = read_run(Path(source)).data
        for name, given in (("--data", options), ("--data-root", root)):
            if given:
                typer.echo(f"{name} is for built-in sets and has no effect on the data of a run.", err=True)
    elif source in DATA and source != "videos":
        chosen = dict(_option(text) for text in options)
        part = Part(name=source, options={**chosen, **({"root": str(root)} if root is not None and _reads_files(source) else {})})
    else:
        names = ", ".join(name for name in DATA if name != "videos")
        remedy = "For your own videos train a model first: its run folder says how they are read, labelled and split."
        raise UserError(f"a run folder, or one of {names}", repr(source), remedy)
    return part, load_part(part)


def _reads_files(source: str) -> bool:
    """Whether a built-in set is read from a data root; the others are computed."""
    from inspect import signature

    from stillmotion.core.registry import DATA, resolve

    return "root" in signature(resolve(DATA, source)).parameters


def _option(text: str) -> tuple[str, object]:
    import yaml

    from stillmotion.core.errors import UserError

    name, equals, value = text.partition("=")
    if not equals:
        raise UserError("an option of the data set as name=value", repr(text))
    return name, yaml.safe_load(value)


def _number(text: str, what: str) -> int:
    from stillmotion.core.errors import UserError

    if not text.strip().isdigit() or int(text) < 1:
        raise UserError(f"whole numbers from 1 up, with commas between them, as {what}", repr(text))
    return int(text)


def _tell(folder: Path, results: dict[str, Any], protocols: tuple[str, ...], *, report: bool) -> None:
    """The tables on the terminal, what was left out and what to beware of, and where all is."""
    from stillmotion.cli.compare import show_tables
    from stillmotion.recipes.compare import tables
    from stillmotion.recipes.compare_files import write_tables
    from stillmotion.recipes.measured import read_runs

    found = tables(read_runs([folder]))
    show_tables([table for table in found if not protocols or table.protocol in protocols])
    evaluation = results["evaluation"]
    typer.echo()
    dropped = [f"dropped ({reason}): {', '.join(names)}" for reason, names in (evaluation.get("dropped") or {}).items()]
    for line in (*_left_out(evaluation["skipped"]), *dropped, *_beware(results["judge"])):
        typer.echo(line, err=True)
    typer.echo(f"tables   {write_tables(found, folder / TABLES)}")
    if report:
        from stillmotion.report.page import write_report

        typer.echo(f"report   {write_report(folder)}")
    measured = f"{evaluation['clips']:,} {evaluation['split']} clips, {evaluation['minutes']:.1f} minutes"
    typer.echo(f"results  {folder / 'results.json'}  ({measured})")


def _left_out(skipped: dict[str, str]) -> list[str]:
    """What was not measured, one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        reasons.setdefault(reason, []).append(name)
    return [f"left out ({reason}): {'; '.join(names)}" for reason, names in reasons.items()]


def _beware(judge: dict[str, Any] | None) -> list[str]:
    """What is to be known of a judge that is often wrong, or may have seen what it judged."""
    found = ((judge or {}).get("accuracy") or {}).items()
    poor = [f"{factor} {100 * told['value']:.1f} %" for factor, told in found if told["value"] < WORTH_USING]
    told = [f"beware: of real clips the judge is right on no more than {', '.join(poor)}; its scores of them mean little"] if poor else []
    if (judge or {}).get("other_split"):
        told.append("beware: the judge was trained on other clips or another split, and may have seen those that it judged")
    return told


def _command() -> str:
    return shlex.join(["stillmotion", *sys.argv[1:]])
