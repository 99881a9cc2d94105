"""`stillmotion reproduce`: the tables and figures of a paper."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stillmotion.recipes.reproduce import Plan

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="What to reproduce; --list says what there is.")]
Size = Annotated[str, typer.Option(help="laptop (2 cores) or paper (the published numbers of clips and steps).")]
Quick = Annotated[bool, typer.Option("--quick", help="See in a few minutes that all of it works; the numbers then say nothing.")]
Seeds = Annotated[int, typer.Option(help="How many seeds, from 0 on; more may be added to a finished reproduction.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The folder to make (default: runs/NAME, with - for /).")]
List = Annotated[bool, typer.Option("--list", help="Say what can be reproduced, and stop.")]


def reproduce(name: Name = None, size: Size = "laptop", quick: Quick = False, seeds: Seeds = 1, output: Output = None,
              list_: List = False) -> None:  # fmt: skip
    """Train and measure what a paper did: its tables and figures with the published numbers beside ours, on one page.

    What was stopped goes on with the same command; what is finished is not done again.
    """
    if list_ or name is None:
        _list()
        return
    from typing import cast

    from stillmotion.recipes.reproduce import Plan
    from stillmotion.recipes.reproduce import Size as Sizes

    plan = Plan(cast(Sizes, size), quick, seeds, command=shlex.join(["stillmotion", *sys.argv[1:]]))
    parts = [name.replace("/", "-"), *(["paper"] if size == "paper" else []), *(["quick"] if quick else [])]
    folder = output or Path("runs") / "-".join(parts)
    _carry_out(name, folder, plan)
    _finish(folder)


def _list() -> None:
    from stillmotion.recipes.reproduce import about

    told = about()
    for name, words in told.items():
        typer.echo(f"{name:<{max(map(len, told)) + 2}}{words}")


def _carry_out(name: str, folder: Path, plan: Plan) -> None:
    """Runs to the end; says how to go on where it was interrupted."""
    from stillmotion.recipes.reproduce import reproduce as run
    from stillmotion.training.loop import Interrupted

    try:
        run(name, folder, plan)
    except (Interrupted, KeyboardInterrupt):
        typer.echo(f"stopped; go on with  {plan.command}", err=True)
        raise typer.Exit(130) from None


def _finish(folder: Path) -> None:
    """Shows the figures and writes the page."""
    from stillmotion.report.exhibits import write_exhibits
    from stillmotion.report.page import show_figures

    show_figures(folder)
    typer.echo(f"report     {write_exhibits(folder)}")
