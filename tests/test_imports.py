"""Importing does nothing observable, costs little, and never goes in a circle."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
HALF_A_SECOND = 0.5

UNCHANGED = """
import logging, os, random, sys, warnings
def state():
    return random.getstate(), len(logging.root.handlers), logging.root.level, list(warnings.filters), dict(os.environ), sys.excepthook
before = state()
import stillmotion
assert state() == before, "importing stillmotion changed the state of the process"
print(" ".join(sorted({name.split(".")[0] for name in sys.modules})))
"""

WITH_TORCH = """
import torch
def state():
    return torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), \\
        torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), torch.distributed.is_initialized()
before = state()
import stillmotion.core.registry as registry, stillmotion.training.loop, stillmotion.data.base
for name in registry.MODELS:
    registry.resolve(registry.MODELS, name)
assert state() == before, "an import changed PyTorch's state"
print("unchanged")
"""

HELP = """
import sys
from stillmotion.cli.main import main
sys.argv = ["stillmotion", "--help"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
heavy = {"torch", "scipy", "sklearn", "matplotlib", "av", "pyarrow", "PIL", "numpy"} & set(sys.modules)
assert not heavy, f"--help imports {heavy}"
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cpu_seconds(code: str) -> float:
    """What a process costs in processor time: unlike the time on the wall it does not grow with the load of the machine."""
    before = os.times()
    python(code)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def test_importing_the_package_changes_nothing_and_loads_nothing_heavy() -> None:
    assert not {"torch", "numpy", "scipy", "av", "typer"} & set(python(UNCHANGED).split())


def test_importing_models_data_and_training_leaves_torch_as_it_was() -> None:
    assert python(WITH_TORCH).strip() == "unchanged"


def test_help_answers_in_half_a_second_and_without_torch() -> None:
    assert "train" in python(HELP)
    assert statistics.median(cpu_seconds(HELP) for _ in range(3)) < HALF_A_SECOND


# circles


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below `root`; a package is its __init__."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import: not those in functions, nor those that only type checkers see."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from at_import(handler.body)


def needs(path: Path, known: dict[str, Path]) -> set[str]:
    """Names of the known modules that importing the file imports."""
    found = set()
    for node in at_import(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                found.add(deeper if deeper in known else node.module)
    return found & known.keys()


def circle(root: Path) -> list[str]:
    """Modules that import one another in a circle; none where all is well."""
    known = modules(root)
    try:
        TopologicalSorter({name: needs(path, known) - {name} for name, path in known.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_package_has_no_circular_import() -> None:
    assert len(modules(SRC)) > 40
    assert circle(SRC) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from fake.a import x", True),
        ("from fake import a", True),
        ("import fake.a", True),
        ("try:\n    import fake.a\nexcept ImportError:\n    pass", True),
        ("class C:\n    from fake import a", True),
        ("def later():\n    import fake.a", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fake.a", False),
    ],
)
def test_a_circle_is_found_where_there_is_one(tmp_path: Path, line: str, found: bool) -> None:
    package = tmp_path / "fake"
    package.mkdir()
    for name, text in {"__init__": "", "a": "from fake import b\nx = 1", "b": "import fake.c", "c": line}.items():
        (package / f"{name}.py").write_text(text)
    assert bool(circle(tmp_path)) is found


def test_relative_imports_are_not_used_and_so_cannot_hide_a_circle() -> None:
    trees = [ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in modules(SRC).values()]
    assert not [node for tree in trees for node in tree if isinstance(node, ast.ImportFrom) and node.level]
