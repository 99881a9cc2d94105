from __future__ import annotations

import io
import sys

import pytest

from stillmotion.data import progress
from stillmotion.data.progress import Progress


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 6.0, 6.0, 7.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress(True, "reading") as report:
        for done in range(3):
            report(done, 3, f"{done}.mp4")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "reading: 1 of 3 1.mp4\n"


def test_silence_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    with Progress(False, "reading") as report:
        report(1, 2, "x")
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(True, "reading") as report:
        report(1, 2, "name[odd].mp4")
        report.bar.refresh()
    assert "name[odd].mp4" in terminal.getvalue()
    assert "50%" in terminal.getvalue()
