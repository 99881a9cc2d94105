"""What several commands share."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def warn_without_effect(context: typer.Context, options: Iterable[str], name: str, made_for: str = "folders of videos") -> None:
    """Says which of the options that are for something else were given although `name` takes none of them."""
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            typer.echo(f"--{option.replace('_', '-')} is for {made_for} and has no effect on {name}.", err=True)
