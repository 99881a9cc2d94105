from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oracles.finished_runs import PENDULA, finish, model_options, teach
from stillmotion.training.settings import Part


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pendula, trained for a few steps and not yet evaluated."""
    return finish(tmp_path_factory.mktemp("pendula") / "run", Part(name="pendula", options=PENDULA), model_options(16))


@pytest.fixture(scope="session")
def judge(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of its data, trained for a few steps."""
    return teach(finished, tmp_path_factory.mktemp("judge") / "judge")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
