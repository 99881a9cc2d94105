from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oracles.grey_model import GreyModel
from oracles.tiny_runs import tiny_clips, tiny_run
from stillmotion import __version__
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.data import pendula, videos
from stillmotion.data.base import ClipSet, Splits
from stillmotion.models.files import build
from stillmotion.recipes import results
from stillmotion.recipes.results import average, figures, machine, proportion, write_results
from stillmotion.training.settings import Part, Run

FIELDS = {"value", "low", "high", "clips", "paper"}
TINY: dict[str, Any] = {
    "size": 16, "static": 3, "pose": 2, "dynamic": 3, "encoder_channels": (4, 4, 6), "decoder_channels": (6, 4), "rnn_layers": 1,
    "rnn_size": 5, "transition_hidden": 4,
}


def run_on(name: str) -> Run:
    return tiny_run(data=Part(name=name), model=Part(name="vdsm", options=TINY))


# intervals


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Wilson (1927) at 95 %, from published tables and worked examples
    [(95, 100, 0.8882, 0.9785), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (1, 2, 0.0945, 0.9055)],
)
def test_proportions_have_wilson_intervals(hits: int, count: int, low: float, high: float) -> None:
    figure = proportion(torch.arange(count) < hits)
    assert figure == {
        "value": round(hits / count, 5), "low": pytest.approx(low, abs=2e-4), "high": pytest.approx(high, abs=2e-4), "clips": count,
        "paper": None,
    }  # fmt: skip


@pytest.mark.parametrize("hits", [3, 40, 57])
def test_the_ends_of_the_interval_are_where_the_score_test_turns(hits: int) -> None:
    figure = proportion(torch.arange(60) < hits)
    for end in (figure["low"], figure["high"]):
        assert abs(hits / 60 - end) / (end * (1 - end) / 60) ** 0.5 == pytest.approx(1.96, abs=2e-3)


def test_averages_have_normal_intervals() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    spread = 1.96 * float(np.std([1, 2, 3, 6], ddof=1)) / 2
    figure = average(values)
    assert (figure["value"], figure["clips"], figure["paper"]) == (3.0, 4, None)
    assert (figure["low"], figure["high"]) == pytest.approx((3 - spread, 3 + spread), abs=1e-4)
    assert average(torch.tensor([7.0])) == {"value": 7.0, "low": 7.0, "high": 7.0, "clips": 1, "paper": None}


# figures of built-in clips


@pytest.fixture(scope="module")
def swings() -> Splits:
    return pendula.load(clips=28, validation=14, test=28, steps=8, size=16)


def test_figures_of_pendula(swings: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "SWAPS", 20)
    found = figures(run_on("pendula"), build("vdsm", TINY, 0), swings)
    probes = {f"probe_{'_'.join(words)}" for words in product(("static", "dynamic"), ("colour", "speed"), ("mean", "sample"))}
    psnrs = {f"psnr_{way}_{split}" for way in ("sequence", "poses") for split in ("validation", "test")}
    swaps = {"swap_static_accuracy", "swap_action_accuracy", "swap_frequency_within_5_percent"}
    assert found.keys() >= probes | psnrs | swaps | {"chance_colour", "chance_speed"}
    assert all(figure.keys() == FIELDS for figure in found.values())
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in found.values())
    counts = {"psnr_poses_validation": 14, "psnr_poses_test": 28, "chance_colour": 28, "swap_static_accuracy": 20}
    assert {name: found[name]["clips"] for name in counts} == counts
    assert {found[name]["clips"] for name in probes} == {28}
    assert found["chance_speed"]["value"] == pytest.approx(0.5)


class Keeps(GreyModel):
    """Codes that hold the whole clip: static the first label-free copy of the frames, path nothing but their numbers."""

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        count, steps = clips.mask.shape
        numbers = torch.arange(steps, dtype=torch.float32).view(1, steps, 1).repeat(count, 1, 1)
        return Codes(clips.frames.flatten(1), None, numbers, clips.mask)

    encode_frames = encode

    def decode(self, codes: Codes) -> Tensor:
        assert codes.static is not None
        return codes.static.view(len(codes.static), -1, 3, 16, 16)


def test_a_model_whose_static_code_holds_all_keeps_colour_and_fails_at_movement(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pendula.load(clips=14, validation=14, test=28, steps=16, size=16)
    monkeypatch.setattr(results, "SWAPS", 60)
    found = figures(run_on("pendula"), Keeps(), data)  # type: ignore[arg-type]
    assert found["swap_static_accuracy"]["value"] == 1.0
    assert found["swap_action_accuracy"]["value"] < 0.8
    assert found["psnr_sequence_test"]["value"] == pytest.approx(100.0)


def test_figures_are_of_clips_that_were_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training clips are dark, the others bright: only the probes may see dark ones, to be fitted on."""
    sets = []
    for seed, (low, high) in enumerate(((0, 100), (150, 200), (220, 256))):
        clips = tiny_clips(6, seed=seed)
        frames = torch.randint(low, high, clips.frames.shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
        sets.append(ClipSet(frames, clips.starts, clips.lengths, clips.steps, clips.labels, clips.classes))
    asked: list[float] = []
    original = results.encode

    def spy(model: Any, clips: ClipSet, **options: Any) -> Codes:
        asked.append(float(clips.frames.float().mean()))
        return original(model, clips, **options)

    monkeypatch.setattr(results, "encode", spy)
    model = build("vdsm", {**TINY, "size": 8, "encoder_channels": (4, 6), "decoder_channels": (5,)}, 0)
    found = figures(run_on("none"), model, Splits(*sets))
    assert sum(value < 110 for value in asked) == 1  # the fit of the probes
    assert sum(value > 140 for value in asked) == 5  # two ways of two splits, and the judging of the probes
    held = sets[2].labels["kind"]
    assert found["chance_kind"]["clips"] == found["probe_static_kind_mean"]["clips"] == int((held >= 0).sum()) == 5


def test_classes_that_no_training_clip_has_are_not_asked_for() -> None:
    train, held = tiny_clips(8, seed=0), tiny_clips(8, seed=1)
    held.labels["kind"][:] = torch.tensor([0, 1, 5, 6, 7, 0, 1, -1])  # type: ignore[index]
    train = ClipSet(train.frames, train.starts, train.lengths, train.steps, {"kind": train.labels["kind"].clamp(max=1)})
    model = build("vdsm", {**TINY, "size": 8, "encoder_channels": (4, 6), "decoder_channels": (5,)}, 0)
    assert figures(run_on("none"), model, Splits(train, held, held))["chance_kind"]["clips"] == 4
    strangers = ClipSet(held.frames, held.starts, held.lengths, held.steps, {"kind": torch.full((8,), 9)})
    assert "chance_kind" not in figures(run_on("none"), model, Splits(train, strangers, strangers))


def test_without_held_out_clips_there_is_nothing_to_measure() -> None:
    clips = tiny_clips(4)
    empty = clips.subset(torch.zeros(0, dtype=torch.int64))
    assert figures(run_on("none"), GreyModel(), Splits(clips, empty, empty)) == {}  # type: ignore[arg-type]


# figures of a folder of videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three people, each before a wall of another grey, in two actions of 12 frames; the inside is noise."""
    place = tmp_path / "clips"
    place.mkdir()
    rng = np.random.default_rng(0)
    for person, wall in enumerate((40, 120, 220)):
        for action in ("bend", "jump"):
            frames = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
            for edge in (np.s_[:, :1], np.s_[:, -1:], np.s_[:, :, :1], np.s_[:, :, -1:]):
                frames[edge] = wall
            np.save(place / f"p{person}_{action}.npy", frames)
    return place


def read(folder: Path, tmp_path: Path, **options: Any) -> Splits:
    pattern = r"p(?P<person>\d)_(?P<action>.+)"
    return videos.load(folder, size=16, steps=8, pattern=pattern, cache=tmp_path / "cache", progress=False, **options)


def test_figures_of_a_folder(folder: Path, tmp_path: Path) -> None:
    data = read(folder, tmp_path, hold_out_tail=0.25, hold_out_clip_per="person")
    found = figures(run_on("videos"), build("vdsm", TINY, 0), data)
    assert found.keys() >= {"psnr_poses_validation", "psnr_sequence_test", "chance_person", "swap_border", "swap_border_person"}
    assert all(figure.keys() == FIELDS for figure in found.values())
    assert found["psnr_poses_validation"]["clips"] == len(data.validation) == 3
    assert found["psnr_poses_test"]["clips"] == len(data.test)
    assert found["swap_border"]["clips"] == found["swap_border_person"]["clips"] == 6  # ordered pairs of the three clips


@pytest.mark.parametrize(("keeps", "share"), [("identity", 1.0), ("motion", 0.0)])
def test_borders_of_swaps_are_told_apart_also_where_clips_are_padded(folder: Path, tmp_path: Path, keeps: str, share: float) -> None:
    class Walls(Keeps):
        def swap(self, identity: Codes, motion: Codes) -> Codes:
            return identity if keeps == "identity" else motion

    data = read(folder, tmp_path, hold_out_tail=0.25, hold_out_clip_per="person")
    assert (data.validation.lengths == 3).all()  # of 8, the rest is padding
    found = figures(run_on("videos"), Walls(), data)  # type: ignore[arg-type]
    assert found["swap_border_person"]["value"] == share
    assert found["swap_border_person"]["clips"] == 6


def test_pairs_before_the_same_wall_are_not_counted(folder: Path, tmp_path: Path) -> None:
    data = read(folder, tmp_path, hold_out=[{"person": "1"}], hold_out_tail=0.5)
    found = figures(run_on("videos"), Keeps(), data)  # type: ignore[arg-type]
    assert found["swap_border"]["clips"] == 8  # four clips of two people: of the twelve ordered pairs, four show one wall


# what is written


def test_results_are_written_in_the_common_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "figures", lambda run, model, data: {"psnr": average(torch.ones(2))})
    (tmp_path / "run.json").write_text(json.dumps({"command": "stillmotion train x", "commit": None}))
    path = write_results(tmp_path, tiny_run(seed=4), GreyModel(), Splits(*[tiny_clips()] * 3), 90.0)  # type: ignore[arg-type]
    assert path == tmp_path / "results.json"
    written = json.loads(path.read_text())
    assert list(written) == ["recipe", "command", "commit", "minutes", "machine", "seeds", "judge", "figures"]
    assert written["commit"] is None or len(written["commit"]) == 40
    assert (written["recipe"], written["command"], written["minutes"], written["seeds"]) == ("tiny", "stillmotion train x", 1.5, [4])
    assert written["figures"] == {"psnr": {"value": 1.0, "low": 1.0, "high": 1.0, "clips": 2, "paper": None}}
    assert written["judge"] is None


def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert results.commit() is None


def test_the_machine_is_told_by_cores_gpu_and_versions() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["stillmotion"] == __version__
    assert (found["gpu"] is None) == (not torch.cuda.is_available())
    assert json.loads(json.dumps(found)) == found
