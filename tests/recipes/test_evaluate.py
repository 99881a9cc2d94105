"""A finished run measured: what results.json then holds, what stays in it, and what is refused."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.finished_runs import PENDULA, finish, model_options, quickly, teach, videos, write_videos
from stillmotion.core.abilities import Decodes, Encodes, Model
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.judge import Judge
from stillmotion.metrics.judge_files import load_judge
from stillmotion.metrics.protocols import READERS, protocol_of
from stillmotion.models import files
from stillmotion.recipes import bench, execute
from stillmotion.recipes import evaluate as module
from stillmotion.recipes.evaluate import evaluate
from stillmotion.recipes.measures import MEASURES, Measure
from stillmotion.testing.references import Nothing

AGGREGATE = "two factors, aggregate posterior"
TOLD = {
    "command", "commit", "minutes", "seed", "machine", "precision", "split", "clips", "moving", "extras", "data", "skipped", "tables",
    "protocols", "dropped",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quickly():
        yield


@pytest.fixture(scope="module")
def measured(finished: Path, judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that was evaluated with the judge."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(finished, folder)
    with quickly():
        evaluate(folder, judge=judge, command="stillmotion evaluate RUN")
    return folder


@pytest.fixture
def again(measured: Path, tmp_path: Path) -> Path:
    """A copy of the evaluated run."""
    return Path(shutil.copytree(measured, tmp_path / "again"))


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on grey videos of 8 x 8 pixels and unequal lengths, some windows of which are padded."""
    place = tmp_path_factory.mktemp("videos")
    clips = write_videos(place / "clips", size=8, lengths=(20, 24, 17, 30, 26, 22))
    data = videos(clips, place / "cache", size=8, grey=True, hold_out_tail=0.2, validation=0.0, test=0.0)
    return finish(place / "run", data, model_options(8, channels=1))


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def values(results: dict[str, Any], protocol: str) -> dict[str, Any]:
    return {name: figure for name, figure in results["figures"].items() if figure["protocol"] == protocol}


# what is written


def test_results_have_the_shared_format(measured: Path, judge: Path) -> None:
    results = results_of(measured)
    about = {"recipe", "command", "commit", "minutes", "machine", "seeds", "clips_sha256"}
    assert results.keys() == about | {"judge", "evaluation", "figures"}
    assert (results["recipe"], results["command"], results["seeds"]) == ("tiny", "stillmotion train", [0])
    told = results["evaluation"]
    assert told.keys() == TOLD
    assert (told["command"], told["seed"], told["split"], told["clips"]) == ("stillmotion evaluate RUN", 0, "test", 28)
    assert (told["moving"], told["precision"] in ("float32", "bfloat16")) == (["speed"], True)
    assert told["commit"] is None or re.fullmatch(r"[0-9a-f]{40}", told["commit"])
    assert told["data"] == {"name": "pendula", "options": PENDULA, "clips_sha256": results["clips_sha256"]}
    assert told["extras"] == {"kinetics": None, "pooled_judge": False}
    for name, figure in results["figures"].items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert figure.keys() == {"value", "low", "high", "clips", "paper", "protocol"}, name
        assert all(math.isfinite(figure[key]) for key in ("value", "low", "high")), name
        assert figure["low"] <= figure["value"] <= figure["high"], name
        assert protocol_of(name, judged=figure["protocol"] != READERS) == figure["protocol"], name
    protocols = {figure["protocol"] for figure in results["figures"].values()}
    judged = {"swap", "two_factor", "leakage", "vdsm", "dsa_report", "benchmark", "frechet_judge"}
    assert protocols == {"reconstruction", "imputation", READERS} | judged


def test_the_judge_is_told_with_how_good_it_is(measured: Path, judge: Path) -> None:
    told, loaded = results_of(measured)["judge"], load_judge(judge)
    assert (told["folder"], told["sha256"], told["other_split"]) == (str(judge), loaded.sha256, False)
    assert told["accuracy"] == loaded.facts["accuracy"]
    assert told["accuracy"].keys() == told["calibration"].keys() == {"colour", "speed"}
    assert told["data"] == {"name": "pendula", "options": PENDULA}
    assert told["clips_sha256"] == results_of(measured)["clips_sha256"]


def test_every_measure_is_taken_or_told_as_left_out(measured: Path) -> None:
    """A run that was carried out remembers training clips, so there is nothing that this model and these data do not allow."""
    assert results_of(measured)["evaluation"]["skipped"] == {}


def test_tables_tell_swaps_class_by_class(measured: Path) -> None:
    tables = results_of(measured)["evaluation"]["tables"]
    assert {"swap_colour", "swap_speed"} <= tables.keys()
    assert len(tables["swap_colour"]["accuracy"]) == len(tables["swap_colour"]["classes"]) == 7


def test_what_is_returned_is_what_is_written(run: Path, judge: Path) -> None:
    found = evaluate(run, judge=judge, only=("reconstruction",))
    assert json.loads(json.dumps(found)) == results_of(run)


def test_each_measure_is_said_as_it_begins(run: Path) -> None:
    said: list[object] = []
    evaluate(run, judge=None, only=("reconstruction", "swap"), say=said.append)
    assert said == ["reconstruction", "reconstruction by poses"]


# what stays


def test_figures_of_training_stay(finished: Path, measured: Path) -> None:
    before, after = results_of(finished), results_of(measured)
    kept = {name: figure for name, figure in before["figures"].items() if name.endswith("_validation")}
    assert len(kept) == 2
    assert kept.items() <= after["figures"].items()
    same = {"recipe", "command", "commit", "minutes", "machine", "seeds"}
    assert {name: before[name] for name in same} == {name: after[name] for name in same}
    assert before["figures"].keys() <= after["figures"].keys()


def test_a_judge_does_not_overwrite_what_pixels_tell(finished: Path, measured: Path) -> None:
    read, kept = values(results_of(finished), READERS), values(results_of(measured), READERS)
    assert read.keys() == {"swap_static_accuracy", "swap_action_accuracy", "swap_frequency_within_5_percent"}
    assert kept == read
    assert "swap_colour_accuracy" in values(results_of(measured), "swap")


def test_resuming_a_finished_run_keeps_what_was_evaluated(again: Path) -> None:
    before = results_of(again)
    execute.resume(again, show=False)
    after = results_of(again)
    assert after["figures"] == before["figures"]
    assert (after["evaluation"], after["judge"]) == (before["evaluation"], before["judge"])


def test_resuming_a_run_that_was_not_evaluated_writes_its_figures_anew(run: Path) -> None:
    results = results_of(run)
    true = results["figures"]["psnr_sequence_test"]["value"]
    results["figures"]["psnr_sequence_test"]["value"] = 77.0
    (run / "results.json").write_text(json.dumps(results))
    execute.resume(run, show=False)
    assert results_of(run)["figures"]["psnr_sequence_test"]["value"] == true


def test_the_same_seed_gives_the_same_figures_to_the_last_bit(measured: Path, run: Path, judge: Path) -> None:
    evaluate(run, judge=judge)
    assert results_of(run)["figures"] == results_of(measured)["figures"]


def test_another_seed_draws_others_and_replaces_all_of_the_last_evaluation(again: Path, judge: Path) -> None:
    before = results_of(again)
    evaluate(again, judge=judge, seed=1)
    after = results_of(again)
    assert after["evaluation"]["seed"] == 1
    assert after["figures"].keys() == before["figures"].keys()
    changed = {name for name, figure in after["figures"].items() if figure["value"] != before["figures"][name]["value"]}
    assert changed & {"frechet_judge_generation", "disagreement_kl_colour", "generation_entropy"}
    assert "psnr_sequence_test" not in changed
    assert after["figures"]["psnr_sequence_test"]["low"] != before["figures"]["psnr_sequence_test"]["low"]


def test_one_protocol_is_measured_and_the_others_stay(again: Path, judge: Path) -> None:
    before = results_of(again)
    evaluate(again, judge=judge, only=("swap",), seed=5)
    after = results_of(again)
    changed = {name for name, figure in after["figures"].items() if figure != before["figures"][name]}
    assert changed
    assert {after["figures"][name]["protocol"] for name in changed} == {"swap"}
    assert after["figures"].keys() == before["figures"].keys()


def test_tables_of_swaps_that_are_not_measured_again_stay(again: Path, judge: Path) -> None:
    before = results_of(again)["evaluation"]["tables"]
    assert evaluate(again, judge=judge, only=("vdsm",))["evaluation"]["tables"] == before


def test_without_a_judge_the_figures_of_the_last_one_stay(again: Path) -> None:
    before = results_of(again)
    after = evaluate(again, judge=None, only=("reconstruction",))
    assert after["judge"] == before["judge"]
    assert after["figures"].keys() == before["figures"].keys()


def test_figures_of_two_judges_never_stand_in_one_file(finished: Path, again: Path, tmp_path: Path) -> None:
    other = teach(finished, tmp_path / "other", seed=9)
    after = evaluate(again, judge=other, only=("two_factor",))
    assert after["judge"]["sha256"] == load_judge(other).sha256
    assert not values(after, "swap")
    assert not values(after, "frechet_judge")
    assert values(after, "two_factor")
    assert values(after, "vdsm")
    assert all(name.startswith("embedding_") for name in values(after, "vdsm"))
    assert not {name for name in values(after, "leakage") if name.startswith("resampled_")}
    assert {"mig", "sap", "leak_static_to_speed_mean"} <= after["figures"].keys()
    assert after["evaluation"]["tables"] == {}
    assert values(after, READERS)


def test_where_other_factors_move_what_was_named_by_the_old_ones_goes(again: Path) -> None:
    after = evaluate(again, judge=None, moving=("colour",), only=("leakage",))
    names = values(after, "leakage").keys()
    assert "leak_static_to_colour_mean" in names
    assert not {"leak_static_to_speed_mean", "probe_static_colour_mean"} & names
    assert not values(after, "two_factor")
    assert after["evaluation"]["moving"] == ["colour"]
    assert values(after, "reconstruction")
    assert values(after, READERS)


def test_figures_from_before_there_were_protocols_are_sorted(run: Path, judge: Path) -> None:
    results = results_of(run)
    for figure in results["figures"].values():
        del figure["protocol"]
    del results["evaluation"]
    (run / "results.json").write_text(json.dumps(results))
    after = evaluate(run, judge=judge, only=("swap",))
    assert after["figures"]["swap_static_accuracy"] == {**results["figures"]["swap_static_accuracy"], "protocol": READERS}
    assert all("protocol" in figure for figure in after["figures"].values())


def test_a_run_without_figures_gets_them(run: Path) -> None:
    (run / "results.json").unlink()
    after = evaluate(run, judge=None, only=("reconstruction",))
    assert after["figures"].keys() == {f"{kind}_{way}_test" for kind in ("psnr", "ssim") for way in ("sequence", "poses")}
    assert (after["recipe"], after["command"], after["judge"]) == ("tiny", "stillmotion train", None)


# honesty


def test_measured_clips_are_never_fitted_on(run: Path, judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training clips are dark, validation clips grey, test clips bright: what is encoded and judged can be told by its light."""
    plain = module.load_data

    def lit(of: Any) -> Splits:
        parts = []
        for part, low in zip(plain(of), (0, 100, 200), strict=True):
            dimmed = part.frames // 8 + low
            parts.append(replace(part, frames=dimmed))
        return Splits(*parts)

    encoded: list[str] = []
    judged: list[str] = []
    encode, read = bench.encode, Judge.read

    def light(frames: Tensor) -> str:
        return ("dark", "grey", "bright")[int(frames.amin() > 0.3) + int(frames.amin() > 0.7)]

    def encoding(model: Any, clips: ClipSet, **options: Any) -> Codes:
        encoded.append(light(clips.clips().frames))
        return encode(model, clips, **options)

    def reading(self: Judge, clips: Clips) -> Any:
        judged.extend([light(clips.frames)] * len(clips))
        return read(self, clips)

    monkeypatch.setattr(module, "load_data", lit)
    monkeypatch.setattr(bench, "encode", encoding)
    with monkeypatch.context() as patched:
        patched.setattr(Judge, "read", reading)
        found = evaluate(run, judge=judge, only=("vdsm", "leakage"))
    assert found["evaluation"]["clips"] == 28
    assert sorted(encoded) == ["bright", "bright", "dark", "dark", "grey", "grey"]  # means and samples, once each
    assert judged.count("bright") == 28  # the real clips; what the untrained model makes of codes is darker
    assert found["figures"]["embedding_static_colour"]["clips"] == 28


def test_a_judge_that_was_trained_on_another_split_is_told(run: Path, judge: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(judge, tmp_path / "other"))
    config = json.loads((other / "model" / "config.json").read_text())
    clips = config["facts"]["clips_sha256"]
    config["facts"]["clips_sha256"] = "0" * 64
    (other / "model" / "config.json").write_text(json.dumps(config))
    assert evaluate(run, judge=other, only=("swap",))["judge"]["other_split"] is True
    config["facts"]["clips_sha256"] = clips
    config["facts"]["data"]["options"]["seed"] = 3
    (other / "model" / "config.json").write_text(json.dumps(config))
    assert evaluate(run, judge=other, only=("swap",))["judge"]["other_split"] is True
    config["facts"]["data"]["options"]["seed"] = 0  # which it is by default
    config["facts"]["clips_sha256"] = None
    (other / "model" / "config.json").write_text(json.dumps(config))
    assert evaluate(run, judge=other, only=("swap",))["judge"]["other_split"] is False
    config["facts"]["clips_sha256"] = clips
    (other / "model" / "config.json").write_text(json.dumps(config))
    assert evaluate(run, judge=other, only=("swap",))["judge"]["other_split"] is False


def test_a_measure_that_cannot_be_taken_is_told_and_keeps_no_other_from_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(bench: object) -> Any:
        raise UserError("at least four clips", "two")

    monkeypatch.setitem(MEASURES, "MIG", Measure("benchmark", refuse))
    found = evaluate(run, judge=None, only=("benchmark",))
    assert found["evaluation"]["skipped"]["MIG"] == "expected at least four clips, got two"
    assert "sap" in found["figures"]
    assert "mig" not in found["figures"]


# other data


def test_grey_clips_of_unequal_length_and_eight_pixels(folder_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder_run, tmp_path / "run"))
    judge = teach(run, tmp_path / "judge")
    plain = evaluate(run, judge=judge, only=("swap", "two_factor", "reconstruction"))
    assert plain["evaluation"]["moving"] == []
    assert plain["evaluation"]["split"] == "validation"
    skipped = plain["evaluation"]["skipped"]
    assert skipped["swaps"] == skipped["two factors"] == "name the factors that move with --moving"
    assert {figure["protocol"] for figure in plain["figures"].values()} == {"reconstruction", READERS}
    assert not [name for name in plain["figures"] if name.startswith("ssim_")]
    found = evaluate(run, judge=judge, moving=("action",))
    assert {"two_factor_accuracy_action", "two_factor_accuracy_person", "swap_both_accuracy"} <= found["figures"].keys()
    assert {"leak_static_to_action_mean", "leak_dynamic_to_person_mean", "probe_static_person_sample"} <= found["figures"].keys()
    assert not {"probe_static_action_mean", "leak_dynamic_to_action_mean"} & found["figures"].keys()  # as they were named after training
    assert {"swap_border", "swap_border_person"} <= values(found, READERS).keys()
    assert found["figures"]["psnr_sequence_validation"]["clips"] == found["evaluation"]["clips"]


@pytest.mark.filterwarnings("ignore:the held-out clips")
def test_clips_without_labels_are_measured_by_their_frames(run: Path, judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.load_data
    monkeypatch.setattr(module, "load_data", lambda of: Splits(*(replace(p, labels={}, classes={}, moving=()) for p in plain(of))))
    found = evaluate(run, judge=None)
    skipped = found["evaluation"]["skipped"]
    codes = [name for name, measure in MEASURES.items() if measure.labels]
    assert len(codes) == 9
    assert [name for name, reason in skipped.items() if reason == "the clips have no labels"] == codes
    assert skipped["swaps"] == "it needs a judge"
    assert "ssim_sequence_test" in found["figures"]
    with pytest.raises(UserError, match=r"a judge of factors of this data, got a judge of colour, speed and clips labelled with nothing"):
        evaluate(run, judge=judge)
    remedy = r"What remains: reconstruction, imputation\."
    with pytest.raises(UserError, match=rf"got none under swap or leakage: it needs a judge.*no labels\. {remedy}"):
        evaluate(run, judge=None, only=("swap", "leakage"))


class Copier(Model, Encodes, Decodes):
    """Its code is the clip; it cannot swap, generate or read a single frame."""

    name = "copier"
    config_type = Nothing
    schedules = ()

    def __init__(self) -> None:
        super().__init__()
        self.config, self.frame_shape = Nothing(), (3, 16, 16)
        self.idle = torch.nn.Parameter(torch.zeros(()))

    def loss(self, clips: Clips, weights: Any, generator: torch.Generator | None) -> Terms:
        return Terms({})

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return Codes(clips.frames.mean((1, 3, 4)), None, clips.frames.flatten(2), clips.mask)

    def decode(self, codes: Codes) -> Tensor:
        assert codes.path is not None
        return codes.path.unflatten(2, (3, 16, 16))


def test_of_a_model_that_cannot_swap_the_rest_is_measured(run: Path, judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "results.json").unlink()
    monkeypatch.setattr(files, "load", lambda folder: files.Loaded(Copier(), {}))
    found = evaluate(run, judge=judge, only=("reconstruction", "swap", "two_factor", "vdsm", "frechet_judge", "dsa_report"))
    lacks = "the model copier lacks the ability "
    skipped = found["evaluation"]["skipped"]
    assert skipped["swaps"] == lacks + "Swaps"
    assert skipped["two factors"] == lacks + "Generates and Swaps"
    assert skipped[AGGREGATE] == lacks + "Remembers and Swaps"
    assert skipped["reconstruction by poses"] == lacks + "EncodesFrames"
    assert set(values(found, "vdsm")) >= {"consistency_mean", "embedding_static_colour"}
    assert {figure["protocol"] for figure in found["figures"].values()} == {"reconstruction", "vdsm", "frechet_judge"}
    assert found["figures"]["psnr_sequence_test"]["value"] == 100
    with pytest.raises(UserError, match=r"got none under swap: the model copier lacks the ability Swaps\. What remains: .*leakage.*vdsm"):
        evaluate(run, judge=judge, only=("swap",))
