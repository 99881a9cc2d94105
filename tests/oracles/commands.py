"""The command line as a shell runs it, in this process, with settings that take a fraction of a second."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import yaml

TINY = {
    "model": {
        "static": 3, "pose": 2, "dynamic": 3, "encoder_channels": [4, 4, 6], "decoder_channels": [6, 4], "rnn_layers": 1, "rnn_size": 5,
        "transition_hidden": 4,
    },
    "stages": {name: {"steps": 2, "feed": {"batch": 2}} for name in ("poses", "paths", "sequence")},
    "device": "cpu", "precision": "float32",
}  # fmt: skip
TINY_PENDULA = TINY | {
    "data": {"clips": 28, "validation": 14, "test": 14, "size": 16, "steps": 6}, "model": {**TINY["model"], "size": 16},  # type: ignore[dict-item]
}  # fmt: skip
CLIPS = [word for name, value in TINY_PENDULA["data"].items() for word in ("--data", f"{name}={value}")]  # type: ignore[attr-defined]
TINY_JUDGE = ["--steps", 2, "--channels", "2,2,3,4"]
BROKEN = ("broken/cut.mp4", "broken/empty.gif", "broken/sound.mp4")


class Outcome(NamedTuple):
    """What a command did. notes: its warnings."""

    code: int
    out: str
    err: str
    notes: str

    def refused(self, *words: str) -> None:
        """It ended with 2 and one line on stderr that holds the words."""
        assert self.code == 2, self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("stillmotion: ")
        assert all(word in self.err for word in words), self.err


Stillmotion = Callable[..., Outcome]


def run(*arguments: object) -> Outcome:
    """The command as a shell runs it, in this process."""
    from stillmotion.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    words = ["stillmotion", *(str(argument) for argument in arguments)]
    with (
        patch.object(sys, "argv", words),
        patch.object(warnings, "formatwarning"),
        patch("stillmotion.training.journal.find_spec", return_value=None),  # no TensorBoard, which takes longer than the run
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(record=True) as notes,
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue(), "\n".join(str(note.message) for note in notes))


def write_yaml(path: Path, settings: object) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path
