from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillmotion.core.errors import FileRefused
from stillmotion.metrics.results import by_protocol, read_object, read_results


def write(folder: Path, content: Any) -> Path:
    (folder / "results.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    content = {"recipe": "x", "figures": {"mig": {"value": 1}, "sap": {"value": 0.5, "low": 0.4}}}
    assert read_results(write(tmp_path, content)) == content
    assert read_object(tmp_path / "results.json") == content


@pytest.mark.parametrize("content", ["[1]", "{", {"figures": [1]}, {"figures": {"mig": 1}}, {"figures": {"mig": {"value": None}}}, {}])
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, content: Any) -> None:
    with pytest.raises(FileRefused, match=r"results\.json.*Remove it and run `stillmotion resume"):
        read_results(write(tmp_path, content))


def test_a_folder_without_results_is_refused_with_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"results\.json.*which has none.*stillmotion resume"):
        read_results(tmp_path)


def test_figures_go_to_the_protocol_that_they_name_else_by_their_own_name() -> None:
    figures = {"mig": {"value": 1}, "swap_static_accuracy": {"value": 1, "protocol": "readers"}, "swap_both_accuracy": {"value": 1}}
    judged = by_protocol({"judge": {"sha256": "a"}, "figures": figures})
    assert {protocol: list(found) for protocol, found in judged.items()} == {
        "swap": ["swap_both_accuracy"], "benchmark": ["mig"], "readers": ["swap_static_accuracy"],
    }  # fmt: skip
    alone = by_protocol({"judge": None, "figures": figures})
    assert list(alone) == ["benchmark", "readers"]
    assert list(alone["readers"]) == ["swap_static_accuracy", "swap_both_accuracy"]


def test_a_protocol_of_a_later_version_is_kept_at_the_end() -> None:
    figures = {"new_figure": {"value": 1, "protocol": "later"}, "mig": {"value": 1}, "odd": {"value": 2}}
    assert list(by_protocol({"figures": figures})) == ["benchmark", "other", "later"]
