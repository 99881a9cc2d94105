"""What an evaluation keeps of those before it, drops and says of it, and what is told of each protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles.finished_runs import finish, model_options, quickly, teach, videos, write_videos
from stillmotion.metrics.judge_files import load_judge
from stillmotion.recipes import evaluate as module
from stillmotion.recipes.evaluate import evaluate
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.recipes.record import Circumstances, left_out, records, still_true

NOW = Circumstances(("speed",), ("speed",), "judge", "clips")
NAMES = ("psnr_sequence_test", "swap_speed_accuracy", "mig", "probe_static_colour_mean")
PLACES = ("reconstruction", "swap", "benchmark", "leakage")


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quickly():
        yield


def entry(protocol: str | None, value: float = 0.5) -> dict[str, Any]:
    return {"value": value} | ({} if protocol is None else {"protocol": protocol})


def before(**evaluation: Any) -> dict[str, Any]:
    told = {"moving": ["speed"], "data": {"clips_sha256": "clips"}, **evaluation}
    return {"judge": {"sha256": "judge"}, "evaluation": told, "figures": {n: entry(p) for n, p in zip(NAMES, PLACES, strict=True)}}


# unit by unit


def test_what_was_measured_under_the_same_circumstances_stays() -> None:
    assert still_true(before(), NOW, {}) == (before()["figures"], {})
    assert still_true(before(), NOW._replace(judge=None), {}).dropped == {}


@pytest.mark.parametrize(
    ("changes", "reason", "dropped"),
    [
        ({"judge": "other"}, "seen by another judge", [NAMES[1]]),
        ({"moving": ("colour",)}, "measured when speed was said to move", list(NAMES[1:])),
        ({"clips": "others"}, "measured of other clips", list(NAMES[1:])),
    ],
)
def test_what_depends_on_what_has_changed_goes_with_the_reason(changes: dict[str, Any], reason: str, dropped: list[str]) -> None:
    kept = still_true(before(), NOW._replace(**changes), {})
    assert {why: sorted(names) for why, names in kept.dropped.items()} == {reason: sorted(dropped)}
    assert kept.figures.keys() == set(NAMES) - set(dropped)


def test_what_is_measured_again_is_not_said_to_be_dropped() -> None:
    kept = still_true(before(), NOW._replace(judge="other"), {NAMES[1]: entry("swap", 0.7)})
    assert kept.dropped == {}


def test_of_a_run_that_was_not_evaluated_figures_are_named_by_what_moves_by_nature() -> None:
    plain = {**before(), "evaluation": None}
    assert still_true(plain, NOW, {}).dropped == {}
    (reason,) = still_true(plain, NOW._replace(by_nature=()), {}).dropped
    assert reason == "measured when nothing was said to move"


def test_probes_and_floors_of_old_names_do_not_stand_beside_new_ones() -> None:
    old = before()
    old["figures"] |= {"probe_static_speed_mean": entry(None), "frechet_judge_generation_floor": entry("frechet_judge")}
    assert still_true(old, NOW, {}).dropped == {}
    new = {"leak_static_to_speed_mean": entry("leakage"), "probe_static_colour_mean": entry("leakage"), "frechet_judge_floor": entry("x")}
    dropped = still_true(old, NOW, new).dropped
    assert dropped == {"measured anew under another name": ["probe_static_speed_mean", "frechet_judge_generation_floor"]}


def test_records_stay_as_long_as_a_figure_or_a_reason_does() -> None:
    told = {name: {"seed": 0, "skipped": {}} for name in ("swap", "benchmark")}
    told["dsa_report"] = {"seed": 0, "skipped": {"disagreement": "it needs a judge"}}
    old = before(protocols=told)
    kept = still_true(old, NOW._replace(judge="other"), {})
    found = records(old, kept, {"benchmark": {"seed": 3, "skipped": {"SAP": "why"}}})
    assert {protocol: record["seed"] for protocol, record in found.items()} == {"dsa_report": 0, "benchmark": 3}
    assert left_out(found) == {"disagreement": "it needs a judge", "SAP": "why"}


# in whole evaluations


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_each_protocol_tells_how_it_was_measured(run: Path, judge: Path) -> None:
    evaluate(run, judge=judge, only=("swap", "reconstruction"), seed=3, command="first")
    after = evaluate(run, judge=None, only=("reconstruction",), seed=4, command="second")["evaluation"]
    told = after["protocols"]
    assert {name: (record["seed"], record["command"]) for name, record in told.items()} == {
        "reconstruction": (4, "second"), "swap": (3, "first"),
    }  # fmt: skip
    assert (after["seed"], after["command"]) == (4, "second")
    needed = {"seed", "command", "commit", "minutes", "machine", "precision", "skipped", "extras"}
    assert all(record.keys() == needed for record in told.values())


def test_reasons_of_protocols_that_are_not_asked_for_stay(run: Path, judge: Path) -> None:
    evaluate(run, judge=None, only=("swap", "reconstruction"))
    later = evaluate(run, judge=None, only=("benchmark",))["evaluation"]
    assert later["skipped"] == {"swaps": "it needs a judge", "intervention": "it needs a judge"}
    last = evaluate(run, judge=judge, only=("swap",))["evaluation"]
    assert last["skipped"] == {"intervention": "it needs a judge"}


def test_what_moved_last_moves_still_and_is_said(run: Path, judge: Path) -> None:
    evaluate(run, judge=judge, only=("swap",), moving=("colour",))
    said: list[str] = []
    after = evaluate(run, judge=judge, only=("vdsm",), say=said.append)
    assert after["evaluation"]["moving"] == ["colour"]
    assert said[0] == "what moves is what moved in the last evaluation: colour (--moving names others)"
    assert "swap_both_accuracy" in after["figures"]
    said.clear()
    back = evaluate(run, judge=judge, only=("vdsm",), moving=("speed",), say=said.append)
    assert "swap_both_accuracy" not in back["figures"]
    assert said[-1].startswith("no longer there, as measured when colour was said to move: ")
    assert "swap_both_accuracy" in said[-1]
    assert "swap_both_accuracy" in back["evaluation"]["dropped"]["measured when colour was said to move"]


def test_an_error_of_one_measure_is_told_by_its_kind_and_loses_no_other(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: Exception) -> Measure:
        def take(bench: object) -> Any:
            raise error

        return Measure("benchmark", take)

    errors = {"MIG": np.linalg.LinAlgError("singular"), "DCI": ZeroDivisionError("none"), "modularity": RuntimeError("memory is full")}
    for name, error in errors.items():
        monkeypatch.setitem(MEASURES, name, fails(error))
    found = evaluate(run, judge=None, only=("benchmark",))
    skipped = found["evaluation"]["skipped"]
    assert {name: skipped[name] for name in errors} == {name: f"{type(error).__name__}: {error}" for name, error in errors.items()}
    assert "sap" in found["figures"]
    monkeypatch.setitem(MEASURES, "MIG", fails(TypeError("a fault of ours")))
    with pytest.raises(TypeError, match="a fault of ours"):
        evaluate(run, judge=None, only=("benchmark",))


def test_who_stops_an_evaluation_keeps_the_protocols_that_were_measured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(bench: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(MEASURES, "MIG", Measure("benchmark", stop))
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, judge=None, only=("reconstruction", "leakage", "benchmark"), seed=7)
    kept = results_of(run)
    assert {name: record["seed"] for name, record in kept["evaluation"]["protocols"].items()} == {"reconstruction": 7, "leakage": 7}
    assert {"ssim_sequence_test", "leak_static_to_speed_mean"} <= kept["figures"].keys()
    assert "sap" not in kept["figures"]


def test_figures_of_older_runs_under_other_names_go(run: Path) -> None:
    results = results_of(run)
    results["figures"] |= {"probe_static_speed_mean": entry(None), "probe_path_colour_sample": entry(None)}
    (run / "results.json").write_text(json.dumps(results))
    said: list[str] = []
    after = evaluate(run, judge=None, only=("leakage",), say=said.append)
    assert not {"probe_static_speed_mean", "probe_path_colour_sample"} & after["figures"].keys()
    assert said[-1] == "no longer there, as measured anew under another name: probe_static_speed_mean, probe_path_colour_sample"


def test_one_floor_is_measured_of_all_distances(run: Path, judge: Path) -> None:
    found = evaluate(run, judge=judge, only=("frechet_judge",))["figures"]
    assert [name for name in found if name.endswith("_floor")] == ["frechet_judge_floor"]
    assert "frechet_judge_generation_aggregate" in found


def test_a_folder_that_changed_after_the_training_is_warned_of_and_the_judge_is_of_another_split(tmp_path: Path) -> None:
    clips = write_videos(tmp_path / "clips", size=8)
    data = videos(clips, tmp_path / "cache", size=8, grey=True, hold_out_tail=0.5, validation=0.0, test=0.0)
    run = finish(tmp_path / "run", data, model_options(8, channels=1))
    judge = teach(run, tmp_path / "judge")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("warnings.warn", lambda *said, **how: pytest.fail(str(said)))
        first = evaluate(run, judge=judge, moving=("action",), only=("swap", "reconstruction"))
    assert first["judge"]["other_split"] is False
    assert first["judge"]["data"]["options"]["folder"] == "clips"  # its name, and no path of this machine
    assert first["clips_sha256"] == first["evaluation"]["data"]["clips_sha256"] == load_judge(judge).facts["clips_sha256"]
    np.save(clips / "p2_jump.npy", np.zeros((20, 8, 8, 3), dtype=np.uint8))  # of 12 frames before
    with pytest.warns(UserWarning, match="are not those of its training"):
        after = evaluate(run, judge=judge, only=("reconstruction",))
    assert after["judge"]["other_split"] is True
    assert after["clips_sha256"] == first["clips_sha256"] != after["evaluation"]["data"]["clips_sha256"]
    assert "swap_both_accuracy" in after["evaluation"]["dropped"]["measured of other clips"]


def test_a_damaged_results_file_is_found_before_anything_is_measured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "results.json").write_text("{")
    monkeypatch.setattr(module, "load_data", lambda of: pytest.fail("read clips first"))
    with pytest.raises(ValueError, match=r"a JSON file, got .*results\.json"):
        evaluate(run, judge=None)
