"""The command `stillmotion`. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import sys
import warnings

import typer

from stillmotion.cli import compare, data, doctor, evaluate, impute, reproduce, train, use

app = typer.Typer(
    name="stillmotion", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="What stays and what moves: learn, without labels, to split video clips into identity and movement.",
)
app.add_typer(data.app, name="data")
app.add_typer(evaluate.judge, name="judge")
for command in (
    train.demo, train.train, train.resume, use.reconstruct, use.swap, use.generate, impute.impute, impute.predict, use.embed,
    evaluate.evaluate, compare.compare, reproduce.reproduce, use.report, doctor.doctor,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Runs the command line.

    Exit status 2 for input that the user can mend (one line on stderr), 3 for a loss that is not finite, 130 for an interrupted run.
    """
    warnings.formatwarning = _in_one_line
    try:
        app()
    except (ValueError, ArithmeticError) as error:
        from stillmotion.core.errors import NotFinite, UserError

        if not isinstance(error, UserError | NotFinite):
            raise
        print(f"stillmotion: {error}", file=sys.stderr)
        sys.exit(3 if isinstance(error, NotFinite) else 2)
    except OSError as error:
        # a full disk, a folder that may not be written: the machine's affair, not a fault of the program
        print(f"stillmotion: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""), file=sys.stderr)
        sys.exit(2)


def _in_one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    return f"stillmotion: note: {message}\n"


if __name__ == "__main__":
    main()
