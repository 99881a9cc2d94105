"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes says how busy the machine is, and nothing of the code
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: STILLMOTION_TEST_DATA, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("STILLMOTION_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set STILLMOTION_TEST_DATA to run this test")
    return folder
