"""What several commands share."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def warn_without_effect(context: typer.Context, options: Iterable[str], name: str) -> None:
    """Says which of the options for folders of videos were given although `name` is a built-in set."""
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            typer.echo(f"--{option.replace('_', '-')} is for folders of videos and has no effect on {name}.", err=True)
