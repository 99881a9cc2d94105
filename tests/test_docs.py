"""What the pages say can be done: every command parses, every target and link is there, every snippet runs."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class DoesNotParse(Exception):
    """A command line that the application would refuse."""


def short(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Arguments of each call of `program` in shell lines; continued lines are joined, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = list(dropwhile(lambda word: "=" in word, shlex.split(line, comments=True)))
        if words and Path(words[0]).name == program:
            yield words[1:]


COMMANDS = [(page, args) for page in PAGES for body in blocks(page, "sh", "bash", "console") for args in commands(body, "stillmotion")]


def application() -> Any:
    import typer

    from stillmotion.cli import main

    return typer.main.get_command(main.app)


def parse(command: Any, args: list[str]) -> dict[str, Any]:
    """Options and arguments as the application reads them, nothing run. Raises DoesNotParse where it would refuse them."""
    while hasattr(command, "commands") and args and args[0] != "--help":
        if args[0] not in command.commands:
            raise DoesNotParse(f"no command {args[0]!r}")
        command, args = command.commands[args[0]], args[1:]
    try:
        values: dict[str, Any] = command.make_context(command.name, list(args)).params
    except Exception as error:
        raise DoesNotParse(str(error)) from error
    return values


@pytest.mark.parametrize(("page", "args"), COMMANDS, ids=[f"{short(page)}: {' '.join(args)}" for page, args in COMMANDS])
def test_every_command_in_the_pages_parses(page: Path, args: list[str]) -> None:
    parse(application(), args)


def test_the_pages_hold_commands() -> None:
    found = {" ".join(args[:1]) for _, args in COMMANDS}
    assert found >= {"demo", "train", "resume", "reconstruct", "embed", "swap", "generate", "report", "doctor", "data"}


@pytest.mark.parametrize(
    "line",
    ["trian clips/", "train", "train clips/ -o run --no-such", "train clips/ -o run --frames many", "train clips/ -o", "doctor a b c"],
)
def test_a_command_that_would_be_refused_does_not_parse(line: str) -> None:
    with pytest.raises(DoesNotParse):
        parse(application(), line.split())


def test_commands_are_read_from_shell_lines() -> None:
    text = "make demo\n$ .venv/bin/python x\nstillmotion train \\\n  'my clips' -o run  # the run\n"
    text += "A=1 .venv/bin/stillmotion doctor\ngit clone x stillmotion\n"
    assert list(commands(text, "stillmotion")) == [["train", "my clips", "-o", "run"], ["doctor"]]
    assert list(commands(text, "make")) == [["demo"]]


def test_every_command_has_a_heading_on_its_page() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    names = [name for name, command in application().commands.items() if not command.hidden]
    assert not [name for name in names if f"\n## {name}\n" not in page]


def test_every_option_of_train_is_on_the_page_of_commands() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    section = page.split("\n## train\n")[1].split("\n## ")[0]
    options = [option for parameter in application().commands["train"].params for option in parameter.opts if option.startswith("--")]
    assert len(options) > 10
    assert not [option for option in options if option != "--help" and f"`{option}" not in section]


def test_every_make_target_in_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {args[0] for page in PAGES for body in blocks(page, "sh", "bash", "console") for args in commands(body, "make") if args}
    named |= {name for page in PAGES for name in re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf-8"))}
    assert named >= {"demo", "test", "check"}
    assert named <= targets


def test_every_link_to_a_file_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                broken.append(f"{short(page)}: {target}")
    assert not broken


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=short)
def test_python_on_the_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for body in blocks(page, "python"):
        exec(compile(body, short(page), "exec"), names)
    assert len(names) > 2


def test_yaml_on_the_pages_changes_a_run() -> None:
    import yaml

    from stillmotion.recipes.override import override
    from stillmotion.recipes.sources import run_for

    bodies = [body for page in PAGES for body in blocks(page, "yaml")]
    assert bodies
    for body in bodies:
        told = re.match(r"# stillmotion train (\w+)", body)
        run = run_for(told[1] if told else "pendula")
        assert override(run, yaml.safe_load(body)) != run, body


def test_the_tables_of_abilities_are_those_of_the_classes() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "abilities.py"))
    for page, prefix in script["PAGES"].items():
        text = page.read_text(encoding="utf-8")
        assert script["renewed"](text, prefix) == text, f"run: python docs/abilities.py (it renews {short(page)})"


def test_every_departure_of_vdsm_has_its_row_and_every_mark_in_the_code_too() -> None:
    page = (ROOT / "docs" / "models" / "vdsm.md").read_text(encoding="utf-8")
    rows = [int(number) for number in re.findall(r"^\| D(\d+) \|", page, re.MULTILINE)]
    assert rows == list(range(1, 27))
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert {int(number) for number in re.findall(r"\bD(\d+)\b", sources)} <= set(rows)


def test_the_changelog_has_its_fixed_sections_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    fixed = ["Breaking changes", "New", "Bug fixes", "Numbers", "Documentation", "Other"]
    for release in text.split("\n## ")[1:]:
        assert re.findall(r"^### (.+)$", release, re.MULTILINE) == fixed


def test_every_picture_is_shown_on_a_page_and_small() -> None:
    folder = ROOT / "docs" / "results" / "pictures"
    there = {path.relative_to(ROOT) for path in folder.iterdir()}
    shown = set()
    for page in PAGES:
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            shown.add((page.parent / target).resolve().relative_to(ROOT))
    assert there
    assert there == shown, "each has a page, and words for those who cannot see it"
    assert sum((ROOT / path).stat().st_size for path in there) < 4_000_000
    assert not [path for path in there if "weizmann" in path.name.lower()], "these may not be passed on"
