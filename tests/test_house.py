"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from stillmotion.core.registry import DATA, MODELS, resolve

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES, MOST_OF_A_FUNCTION = 450, 80

# Paths of one machine; taken apart so that this file does not hold what it looks for.
FOLDERS = ("ro" + "ot", "wo" + "rk", "ho" + "me/[a-z]+", "Use" + "rs/[A-Za-z]+")
PLACES = re.compile(rf"(?<![A-Za-z0-9_.~-])/(?:{'|'.join(FOLDERS)})\b")
TEXT = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".j2", ".css", ".js", ".json", ""}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """Text files under version control; sources, tests and pages where there is none."""
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        files = [ROOT / name for name in listed]
    except (OSError, subprocess.CalledProcessError):
        files = [*ROOT.glob("*"), *SOURCES, *TESTS, *(ROOT / "docs").rglob("*.md")]
    return [path for path in files if path.is_file() and path.suffix in TEXT]


def function_lengths(source: str) -> dict[str, int]:
    """Name -> lines from `def` to its end, of every function."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {f"{node.name} (line {node.lineno})": (node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes}


@cache
def imported(source: str) -> set[str]:
    """Dotted names of the modules that a file may import, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_file_is_longer_than_450_lines() -> None:
    long = {short(path): count for path in SOURCES + TESTS if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES}
    assert not long


def test_no_function_is_longer_than_80_lines() -> None:
    lengths = {f"{short(path)}: {name}": n for path in SOURCES for name, n in function_lengths(path.read_text(encoding="utf-8")).items()}
    assert len(lengths) > 100
    assert not {name: count for name, count in lengths.items() if count > MOST_OF_A_FUNCTION}


def test_function_lengths_are_counted_right() -> None:
    source = "def one():\n    pass\n\nclass C:\n    async def two(self):\n        a = 1\n        return a\n"
    assert function_lengths(source) == {"one (line 1)": 2, "two (line 5)": 3}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "__init__.py"], ids=short)
def test_every_module_has_a_test_that_imports_it_or_mirrors_its_place(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    mirror = ROOT / "tests" / path.parent.name / f"test_{path.name}"
    texts = [test.read_text(encoding="utf-8") for test in TESTS if test.parent != Path(__file__).parent]
    assert mirror in TESTS or any(name in imported(text) for text in texts), f"no test file imports {name}, nor is there {short(mirror)}"


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_page_that_the_index_links_to(model: str) -> None:
    page = ROOT / "docs" / "models" / f"{model}.md"
    assert len(page.read_text(encoding="utf-8").splitlines()) > 40
    assert f"({model}.md)" in (page.parent / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DATA)
def test_every_data_set_is_told_of_in_the_docs(name: str) -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").lower()
    assert re.search(rf"^## .*\b{name}\b", text, re.MULTILINE)


@pytest.mark.parametrize(("registry", "name"), [(registry, name) for registry in (MODELS, DATA) for name in registry])
def test_every_registered_name_leads_somewhere(registry: dict[str, str], name: str) -> None:
    assert callable(resolve(registry, name))


def test_no_text_names_a_place_on_one_machine() -> None:
    files = tracked()
    assert len(files) > 60
    hits = [
        f"{short(path)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if PLACES.search(line)
    ]
    assert not hits


@pytest.mark.parametrize("bad", ["see /ro" + "ot/x", "'/wo" + "rk'", "cd /ho" + "me/ann/clips", "(/Use" + "rs/ann)"])
def test_a_place_on_one_machine_is_found(bad: str) -> None:
    assert PLACES.search(bad)


@pytest.mark.parametrize("good", ["~/.cache", "src/ro" + "ot/x", "data/wo" + "rk/x", "https://a.org/wo" + "rk/b", "./wo" + "rk/"])
def test_other_paths_are_let_through(good: str) -> None:
    assert not PLACES.search(good)


def test_every_constraint_is_one_exact_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert not [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", pin)]
    names = [re.sub("[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert len(set(names)) == len(names)


def test_tests_mirror_the_packages_of_src() -> None:
    packages = {path.parent.name for path in SOURCES if path.parent.parent.name == "stillmotion"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert folders - {"oracles", "benchmarks"} <= packages
