"""The figures of a run that has just been trained, and the file they are written to."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy
import pytest
import scipy
import sklearn
import torch
from torch import Tensor, nn

from oracles.finished_runs import model_options, quickly, write_videos
from oracles.grey_model import GreyModel
from oracles.tiny_runs import tiny_clips, tiny_run
from stillmotion import __version__
from stillmotion.core.abilities import Decodes, Encodes
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import FileRefused
from stillmotion.data import pendula, videos
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.figure import Figure, mean
from stillmotion.metrics.protocols import READERS
from stillmotion.metrics.published import every_row
from stillmotion.metrics.quality import psnr
from stillmotion.models.files import build
from stillmotion.recipes import bench, readers, results
from stillmotion.recipes.results import entries, figures, machine, small, write_results
from stillmotion.tasks.codes import encode
from stillmotion.training.settings import Part, Run

FIELDS = {"value", "low", "high", "clips", "paper", "protocol"}
SIXTEEN, EIGHT = model_options(16), model_options(8)


@pytest.fixture(autouse=True)
def _quick() -> Any:
    with quickly():
        yield


def run_on(name: str) -> Run:
    return tiny_run(data=Part(name=name), model=Part(name="vdsm", options=SIXTEEN))


# figures of built-in clips


@pytest.fixture(scope="module")
def swings() -> Splits:
    return pendula.load(clips=28, validation=14, test=28, steps=8, size=16)


def test_figures_of_pendula(swings: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SWAPS", 20)
    found = figures(run_on("pendula"), build("vdsm", SIXTEEN, 0).eval(), swings)
    ways = ("mean", "sample", "mean_mlp", "sample_mlp")
    probes = {f"probe_{code}_{way}" for code, way in product(("static_colour", "dynamic_speed", "path_speed"), ways)}
    leaks = {f"leak_{code}_{way}" for code, way in product(("static_to_speed", "dynamic_to_colour", "path_to_colour"), ways)}
    psnrs = {f"psnr_{way}_{split}" for way in ("sequence", "poses") for split in ("validation", "test")}
    swaps = {"swap_static_accuracy", "swap_action_accuracy", "swap_frequency_within_5_percent"}
    assert found.keys() == probes | leaks | psnrs | swaps | {"chance_colour", "chance_speed"}
    assert all(figure.keys() == FIELDS for figure in found.values())
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in found.values())
    counts = {"psnr_poses_validation": 14, "psnr_poses_test": 28, "chance_colour": 28, "swap_static_accuracy": 20}
    assert {name: found[name]["clips"] for name in counts} == counts
    assert {found[name]["clips"] for name in probes | leaks} == {28}
    assert found["chance_speed"]["value"] == pytest.approx(0.5)
    protocols = {name: found[name]["protocol"] for name in ("psnr_poses_test", "chance_speed", "swap_static_accuracy")}
    assert [*protocols.values()] == ["reconstruction", "leakage", READERS]


def test_the_peak_signal_to_noise_ratio_is_the_mean_over_clips(swings: Splits) -> None:
    model = build("vdsm", SIXTEEN, 0).eval()
    found = figures(run_on("none"), model, swings)
    clips = swings.test.clips()
    with torch.no_grad():
        for way, codes in (("sequence", model.encode(clips)), ("poses", model.encode_frames(clips))):  # type: ignore[attr-defined]
            values = psnr(model.decode(codes), clips.frames, clips.mask)  # type: ignore[attr-defined]
            assert found[f"psnr_{way}_test"]["value"] == pytest.approx(float(values.mean()), abs=1e-3)


def test_clips_of_one_held_out_identity_are_resampled_together(swings: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven test identities that no training clip shows, four clips each; those of the validation were trained on."""
    who, given = torch.arange(28) // 4, []
    parts = [replace(part, labels={**part.labels, "who": who[: len(part)] + low}) for part, low in zip(swings, (0, 0, 7), strict=True)]

    def spying(values: Tensor, noise: torch.Generator, clusters: Tensor | None) -> Figure:
        given.append(clusters)
        return mean(values, noise, clusters)

    monkeypatch.setattr(results, "mean", spying)
    figures(run_on("none"), build("vdsm", SIXTEEN, 0).eval(), Splits(*parts))
    assert given[:2] == [None, None]
    assert all(torch.equal(clusters, who + 7) for clusters in given[2:])
    assert len(given) == 4


def test_figures_are_of_clips_that_were_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training clips are dark, validation clips brighter, test clips brightest; only probes may see dark ones, to be fitted on."""
    sets = []
    for seed, (low, high) in enumerate(((0, 100), (150, 200), (220, 256))):
        clips = tiny_clips(6, seed=seed)
        frames = torch.randint(low, high, clips.frames.shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
        sets.append(replace(clips, frames=frames, moving=("kind",)))
    asked: dict[str, list[str]] = {"quality": [], "probes": []}

    def spying(what: str) -> Any:
        def spy(model: Any, clips: ClipSet, **options: Any) -> Codes:
            light = float(clips.frames.float().mean())
            asked[what].append("train" if light < 110 else "validation" if light < 210 else "test")
            return encode(model, clips, **options)

        return spy

    monkeypatch.setattr(results, "encode", spying("quality"))
    monkeypatch.setattr(bench, "encode", spying("probes"))
    found = figures(run_on("none"), build("vdsm", EIGHT, 0).eval(), Splits(*sets))
    assert asked["quality"] == ["validation"] * 2 + ["test"] * 2  # each in both ways
    assert asked["probes"] == ["train", "validation", "test"] * 2  # means and samples
    held = sets[2].labels["kind"]
    assert found["chance_kind"]["clips"] == found["leak_static_to_kind_mean"]["clips"] == int((held >= 0).sum()) == 5


def test_classes_that_no_training_clip_has_are_not_asked_for() -> None:
    held, train = tiny_clips(8, seed=1), tiny_clips(8, seed=0)
    held = replace(held, labels={"kind": torch.tensor([0, 1, 5, 6, 7, 0, 1, -1])})
    train = replace(train, labels={"kind": train.labels["kind"].clamp(max=1)})
    train = replace(train, moving=("kind",))
    model = build("vdsm", EIGHT, 0).eval()
    assert figures(run_on("none"), model, Splits(train, held, held))["chance_kind"]["clips"] == 4
    strangers = replace(held, labels={"kind": torch.full((8,), 9)})
    assert "chance_kind" not in figures(run_on("none"), model, Splits(train, strangers, strangers))


def test_without_held_out_clips_there_is_nothing_to_measure() -> None:
    clips = tiny_clips(4)
    empty = clips.subset(torch.zeros(0, dtype=torch.int64))
    assert figures(run_on("none"), GreyModel(), Splits(clips, empty, empty)) == {}  # type: ignore[arg-type]


class Whole(nn.Module, Encodes, Decodes):
    """Encodes whole clips and decodes them; it can read no single frame and swap nothing."""

    name = "whole"

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(()))

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return Codes(None, None, clips.frames.flatten(2), clips.mask)

    def decode(self, codes: Codes) -> Tensor:
        assert codes.path is not None
        return codes.path.unflatten(2, (3, 16, 16))


def test_what_a_model_cannot_do_is_not_measured(swings: Splits) -> None:
    found = figures(run_on("pendula"), Whole(), swings)  # type: ignore[arg-type]
    assert {name for name in found if name.startswith("psnr_")} == {"psnr_sequence_validation", "psnr_sequence_test"}
    assert not [name for name in found if name.startswith("swap_")]
    assert "probe_dynamic_speed_mean" in found


def test_many_clips_are_drawn_from_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_CLIPS", 30)
    clips = tiny_clips(100)
    parts, same, others = (small(Splits(clips, clips, clips.subset(torch.arange(20))), seed) for seed in (0, 0, 1))
    assert [len(part) for part in parts] == [30, 30, 20]
    assert torch.equal(parts.train.starts, same.train.starts)
    assert not torch.equal(parts.train.starts, others.train.starts)
    assert int(parts.train.starts.min()) < 100 < 300 < int(parts.train.starts.max())


# figures of a folder of videos


def test_what_pixels_tell_of_another_split_says_so(tmp_path: Path) -> None:
    """Both test clips are of one person, before one wall."""
    place = write_videos(tmp_path / "clips")
    plain: dict[str, Any] = {"size": 16, "steps": 8, "pattern": r"p(?P<person>\d)_(?P<action>.+)", "progress": False}
    data = videos.load(place, cache=tmp_path / "cache", **plain, hold_out=[{"person": "1"}], hold_out_tail=0.5)
    found = figures(run_on("videos"), build("vdsm", SIXTEEN, 0).eval(), data)
    assert found["swap_border"]["split"] == "validation"
    assert [name for name, figure in found.items() if "split" in figure and not name.startswith("swap_border")] == []


def test_figures_of_a_folder(tmp_path: Path) -> None:
    place = write_videos(tmp_path / "clips")
    held: dict[str, Any] = {"hold_out_tail": 0.25, "hold_out_clip_per": "person"}
    plain: dict[str, Any] = {"size": 16, "steps": 8, "pattern": r"p(?P<person>\d)_(?P<action>.+)", "progress": False}
    data = videos.load(place, cache=tmp_path / "cache", **plain, **held)
    found = figures(run_on("videos"), build("vdsm", SIXTEEN, 0).eval(), data)
    assert found.keys() >= {"psnr_poses_validation", "psnr_sequence_test", "swap_border", "swap_border_person"}
    assert not [name for name in found if name.startswith(("probe_", "leak_", "chance_"))]  # nobody has said what moves
    assert all(figure.keys() == FIELDS for figure in found.values())
    assert found["psnr_poses_validation"]["clips"] == len(data.validation) == 3
    assert found["psnr_poses_test"]["clips"] == len(data.test)
    assert found["swap_border"]["protocol"] == found["swap_border_person"]["protocol"] == READERS


# what is written


def test_an_entry_is_a_figure_with_its_protocol_and_what_was_published_of_the_same() -> None:
    run = tiny_run(data=Part(name="sprites", options={"version": "vdsm"}), model=Part(name="vdsm", options=SIXTEEN))
    found = entries({"psnr_poses_test": Figure(1 / 3, 0.1234567, 0.5, 7)}, run, "reconstruction")
    assert found == {
        "psnr_poses_test": {"value": 0.33333, "low": 0.12346, "high": 0.5, "clips": 7, "paper": None, "protocol": "reconstruction"}
    }
    row = next(row for row in every_row() if row.method.lower() == "vdsm" and not row.differs and row.data.name == "sprites")
    name, value = next(iter(row.figures.items()))
    same = tiny_run(data=Part(name="sprites", options={"version": row.data.version}), model=Part(name="vdsm", options=SIXTEEN))
    figure = {name: Figure(0.5, 0.4, 0.6, 9)}
    assert entries(figure, same, row.protocol)[name]["paper"] == value
    assert entries(figure, same, "other")[name]["paper"] is None
    elsewhere = same.model_copy(update={"data": Part(name="pendula")})
    assert entries(figure, elsewhere, row.protocol)[name]["paper"] is None


def entry(value: float) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "clips": 2, "paper": None, "protocol": "reconstruction"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run whose only figure is 1."""
    monkeypatch.setattr(results, "figures", lambda run, model, data: {"psnr_sequence_test": entry(1.0)})
    (tmp_path / "run.json").write_text(json.dumps({"command": "stillmotion train x", "commit": None}))
    return tmp_path


def write_into(place: Path) -> Any:
    path = write_results(place, tiny_run(seed=4), GreyModel(), Splits(*[tiny_clips()] * 3), 90.0)  # type: ignore[arg-type]
    assert path == place / "results.json"
    return json.loads(path.read_text())


def test_results_are_written_in_the_common_format(place: Path) -> None:
    written = write_into(place)
    assert list(written) == ["recipe", "command", "commit", "minutes", "machine", "seeds", "clips_sha256", "judge", "evaluation", "figures"]
    assert re.fullmatch(r"[0-9a-f]{64}", written["clips_sha256"])
    assert written["commit"] is None
    assert (written["recipe"], written["command"], written["minutes"], written["seeds"]) == ("tiny", "stillmotion train x", 1.5, [4])
    assert written["figures"] == {"psnr_sequence_test": entry(1.0)}
    assert written["judge"] is written["evaluation"] is None


def test_what_was_evaluated_stays_and_what_was_not_is_written_anew(place: Path) -> None:
    before = {"judge": {"sha256": "x"}, "evaluation": {"seed": 3}, "figures": {"psnr_sequence_test": entry(2.0), "mig": entry(3.0)}}
    (place / "results.json").write_text(json.dumps(before))
    written = write_into(place)
    assert {name: written[name] for name in before} == before
    (place / "results.json").write_text(json.dumps({**before, "evaluation": None}))
    assert write_into(place)["figures"] == {"psnr_sequence_test": entry(1.0)}


def test_clips_that_have_changed_since_the_training_are_warned_of_and_its_hash_stays(place: Path) -> None:
    first = write_into(place)["clips_sha256"]
    others = Splits(*[tiny_clips(9)] * 3)
    with pytest.warns(UserWarning, match=r"the held-out clips of .* are not those of its training: their files, lengths or labels"):
        write_results(place, tiny_run(seed=4), GreyModel(), others, 90.0)  # type: ignore[arg-type]
    assert json.loads((place / "results.json").read_text())["clips_sha256"] == first
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_into(place)


def test_a_damaged_file_is_not_written_over(place: Path) -> None:
    (place / "results.json").write_text("{")
    with pytest.raises(FileRefused, match=r"results\.json, which cannot be read.*Remove it and run `stillmotion resume"):
        write_into(place)
    assert (place / "results.json").read_text() == "{"


def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert results.commit() is None


def test_the_machine_is_told_by_cores_gpu_and_versions() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["stillmotion"] == __version__
    others = {"numpy": numpy.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__}
    assert others.items() <= found["versions"].items()
    assert (found["gpu"] is None) == (not torch.cuda.is_available())
    assert json.loads(json.dumps(found)) == found
