"""The demo's promise, kept in full: some five minutes on two cores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillmotion.recipes.execute import start
from stillmotion.recipes.sources import run_for


@pytest.mark.slow
def test_swapped_pendula_have_the_colour_of_one_and_the_swing_of_the_other(tmp_path: Path) -> None:
    start(run_for("pendula"), tmp_path / "run", command="test", show=False)
    figures = {name: figure["value"] for name, figure in json.loads((tmp_path / "run" / "results.json").read_text())["figures"].items()}
    assert figures["swap_static_accuracy"] >= 0.95
    assert figures["swap_action_accuracy"] >= 0.95
    for way in ("mean", "sample"):
        assert abs(figures[f"leak_static_to_speed_{way}"] - figures["chance_speed"]) <= 0.10
        assert figures[f"leak_dynamic_to_colour_{way}"] - figures["chance_colour"] <= 0.15
