"""What a run says: rows that survive a crash, lines without a terminal, silence where it is asked for."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from stillmotion.training import journal
from stillmotion.training.journal import Journal


@pytest.fixture(autouse=True)
def _no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_board", lambda folder: None)


def row(step: int, split: str = "train") -> dict[str, Any]:
    return {"step": step, "stage": "poses", "split": split, "terms": {"total": 1.5 * step}, "weights": {}}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_rows_are_written_in_order_and_added_to_by_a_later_journal(tmp_path: Path) -> None:
    for steps in ((1, 2), (3,)):
        one = Journal(tmp_path, 3, show=False)
        for step in steps:
            one.write(row(step))
        one.close()
    assert rows(tmp_path) == [row(1), row(2), row(3)]


def test_rewinding_drops_later_rows_and_torn_ones(tmp_path: Path) -> None:
    one = Journal(tmp_path, 9, show=False)
    for step in (1, 2, 3):
        one.write(row(step))
        one.write(row(step, "validation"))
    with one.path.open("a") as file:
        file.write('5\n{"no": "step"}\n{"step": null}\n[]\n{"step": 1, "sta')
    one.rewind(2)
    assert rows(tmp_path) == [row(1), row(1, "validation"), row(2), row(2, "validation")]
    one.write(row(3))
    assert rows(tmp_path)[-1] == row(3)
    one.rewind(0)
    assert rows(tmp_path) == []


def test_rewinding_without_rows_makes_no_file(tmp_path: Path) -> None:
    Journal(tmp_path, 9, show=False).rewind(3)
    assert not list(tmp_path.iterdir())


def test_a_crash_while_rewinding_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Journal(tmp_path, 9, show=False)
    one.write(row(1))

    def power_cut(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", power_cut)
    with pytest.raises(KeyboardInterrupt):
        one.rewind(1)
    assert rows(tmp_path) == [row(1)]


def test_a_silent_journal_writes_and_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.jsonl").write_text("not mine\n")
    one = Journal(tmp_path, 1, silent=True)
    one.rewind(0)
    one.write(row(1))
    one.advance(1, "poses", {"total": 1.0})
    one.say("something")
    one.close()
    assert (tmp_path / "metrics.jsonl").read_text() == "not mine\n"
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_are_plain_lines_now_and_then_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one = Journal(tmp_path, 40)
    for step in range(1, 41):
        now += 1.0
        one.advance(step, "poses", {"total": 2.25, "path_kl": 1.0})
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0] == "step 1/40  stage poses  total 2.2 path_kl 1.0"
    assert [line.split()[1] for line in shown.err.splitlines()] == ["1/40", "17/40", "33/40", "40/40"]


def test_on_a_terminal_a_bar_follows_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    one = Journal(tmp_path, 8)
    bar = one._bar
    assert isinstance(bar, Progress)
    try:
        one.advance(6, "sequence", {"total": 3.0})
        one.say("a remark")
        assert (bar.tasks[0].completed, bar.tasks[0].total, bar.tasks[0].description) == (6, 8, "stage sequence")
        assert bar.tasks[0].fields["figures"] == "total 3.0"
    finally:
        one.close()
    assert not bar.live.is_started


def test_terms_go_to_tensorboard_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []

    class Board:
        def add_scalar(self, *arguments: Any) -> None:
            said.append(arguments)

        def close(self) -> None:
            said.append("closed")

    monkeypatch.setattr(journal, "_board", lambda folder: Board())
    one = Journal(tmp_path, 1, show=False)
    one.write(row(2, "validation"))
    one.close()
    assert said == [("validation/total", 3.0, 2), "closed"]
