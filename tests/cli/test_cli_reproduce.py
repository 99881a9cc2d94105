from __future__ import annotations

from pathlib import Path

import pytest
import typer

from oracles import tiny_reproduction as tiny
from oracles.commands import Stillmotion
from oracles.pages import Page
from stillmotion.cli.reproduce import reproduce
from stillmotion.metrics.results import read_results
from stillmotion.recipes.reproduce import REPRODUCTIONS


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(REPRODUCTIONS, "tiny", tiny.PLACE)
    monkeypatch.chdir(tmp_path)
    tiny.calls.clear()
    tiny.stops.clear()


def test_a_reproduction_shows_its_figures_and_writes_its_page(stillmotion: Stillmotion) -> None:
    result = stillmotion("reproduce", "tiny", "--quick")
    assert result.code == 0, result
    lines = [line.split() for line in result.out.splitlines()]
    assert ["figure", "value", "95", "%", "interval", "clips", "published"] in lines
    assert ["imputation_smooth_p50", "0.0123", "0.0100", "–", "0.0200", "9", "0.0075"] in lines
    assert lines[-1] == ["report", "runs/tiny-quick/report.html"]
    page = Page(Path("runs/tiny-quick/report.html").read_text(encoding="utf-8"))
    assert "stillmotion reproduce tiny --quick" in page.words
    assert {path.name for path in Path("runs/tiny-quick/figures").iterdir()} == {"sizes.csv", "curve.csv", "curve.svg", "noise.gif"}


def test_the_stopped_command_is_the_whole_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["stillmotion", "reproduce", "tiny", "-o", "a folder"])
    tiny.stops.append(KeyboardInterrupt)
    with pytest.raises(typer.Exit):
        reproduce("tiny", output=Path("a folder"))
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; go on with  stillmotion reproduce tiny -o 'a folder'"


def test_size_and_output_and_seeds_are_obeyed(stillmotion: Stillmotion) -> None:
    assert stillmotion("reproduce", "tiny", "--size", "paper", "--seeds", 2).code == 0
    results = read_results(Path("runs/tiny-paper"))
    assert (results["size"], results["quick"], results["seeds"]) == ("paper", False, [0, 1])
    assert results["command"] == "stillmotion reproduce tiny --size paper --seeds 2"
    assert stillmotion("reproduce", "tiny", "-o", "elsewhere").code == 0
    assert read_results(Path("elsewhere"))["size"] == "laptop"


def test_a_stopped_one_says_how_to_go_on_and_does(stillmotion: Stillmotion) -> None:
    tiny.stops.append(KeyboardInterrupt)
    stopped = stillmotion("reproduce", "tiny")
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == "stopped; go on with  stillmotion reproduce tiny"
    assert not Path("runs/tiny/report.html").exists()
    assert stillmotion("reproduce", "tiny").code == 0
    assert tiny.calls == ["tiny_0"]
    assert len(read_results(Path("runs/tiny"))["sessions"]) == 2


@pytest.mark.parametrize("arguments", [("--list",), ()])
def test_it_says_what_can_be_reproduced(stillmotion: Stillmotion, arguments: tuple[str, ...]) -> None:
    result = stillmotion("reproduce", *arguments)
    assert result.code == 0
    listed = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert listed.keys() == REPRODUCTIONS.keys()
    assert listed["tiny"] == "Tiny pendula: sizes of networks."


def test_bad_words_are_refused(stillmotion: Stillmotion) -> None:
    stillmotion("reproduce", "tinny").refused("expected one of", "tiny", "got 'tinny'")
    stillmotion("reproduce", "tiny", "--size", "huge").refused("a size of laptop, paper", "'huge'")
    stillmotion("reproduce", "tiny", "--seeds", 0).refused("at least one seed")
    assert not list(Path.cwd().iterdir())


def test_the_page_of_a_reproduction_is_written_anew(stillmotion: Stillmotion) -> None:
    assert stillmotion("reproduce", "tiny").code == 0
    Path("runs/tiny/report.html").unlink()
    result = stillmotion("report", "runs/tiny")
    assert (result.code, result.out) == (0, "runs/tiny/report.html\n")
    assert "Tiny pendula" in Path("runs/tiny/report.html").read_text(encoding="utf-8")
    stillmotion("report", "runs").refused("run.json", "runs")
