"""What pixels alone say of swapped clips, for models whose codes are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.finished_runs import model_options, write_videos
from oracles.grey_model import GreyModel
from oracles.tiny_runs import tiny_clips, tiny_run
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.data import pendula, videos
from stillmotion.data.base import Splits
from stillmotion.models.files import build
from stillmotion.recipes import readers as module
from stillmotion.recipes.readers import readers
from stillmotion.training.settings import Part, Run


def run_on(name: str) -> Run:
    return tiny_run(data=Part(name=name))


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
    monkeypatch.setattr(module, "SWAPS", 60)
    split, found = readers(run_on("pendula"), Keeps(), data)  # type: ignore[arg-type]
    assert split == "test"
    assert found["swap_static_accuracy"].value == 1.0
    assert found["swap_action_accuracy"].value < 0.8
    assert {figure.clips for figure in found.values()} == {60}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_videos(tmp_path / "clips")


def read(folder: Path, tmp_path: Path, **options: Any) -> Splits:
    pattern = r"p(?P<person>\d)_(?P<action>.+)"
    return videos.load(folder, size=16, steps=8, pattern=pattern, cache=tmp_path / "cache", progress=False, **options)


@pytest.mark.parametrize(("keeps", "share"), [("identity", 1.0), ("motion", 0.0)])
def test_borders_of_swaps_are_told_apart_also_where_clips_are_padded(folder: Path, tmp_path: Path, keeps: str, share: float) -> None:
    class Walls(Keeps):
        def swap(self, identity: Codes, motion: Codes) -> Codes:
            return identity if keeps == "identity" else motion

    data = read(folder, tmp_path, hold_out_tail=0.25, validation=0.0, test=0.0)
    assert (data.validation.lengths == 3).all()  # of 8, the rest is padding
    split, found = readers(run_on("videos"), Walls(), data)  # type: ignore[arg-type]
    assert split == "validation"
    assert found["swap_border_person"].value == share
    assert found["swap_border_person"].clips == 24  # of the thirty ordered pairs of six clips, six show one wall


def test_where_all_test_clips_stand_before_one_wall_validation_clips_are_measured(folder: Path, tmp_path: Path) -> None:
    data = read(folder, tmp_path, hold_out=[{"person": "1"}], hold_out_tail=0.5)
    assert len(data.test)
    split, found = readers(run_on("videos"), Keeps(), data)  # type: ignore[arg-type]
    assert split == "validation"
    assert found["swap_border"].clips == 8  # four clips of two people: of the twelve ordered pairs, four show one wall


def test_pairs_of_a_folder_are_counted_by_clip_and_by_factor(folder: Path, tmp_path: Path) -> None:
    data = read(folder, tmp_path, hold_out_tail=0.25, hold_out_clip_per="person")
    assert set(data.test.source.tolist()).isdisjoint(data.validation.source.tolist())  # type: ignore[union-attr]
    split, found = readers(run_on("videos"), build("vdsm", model_options(16), 0), data)
    assert split == "test"
    assert found["swap_border"].clips == found["swap_border_person"].clips == 6  # ordered pairs of the three clips
    for figure in found.values():
        assert figure.low <= figure.value <= figure.high


def test_clips_before_one_wall_tell_nothing(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("p[12]_*"):
        path.unlink()
    data = read(folder, tmp_path, hold_out_tail=0.5)
    assert readers(run_on("videos"), Keeps(), data) == ("validation", {})  # type: ignore[arg-type]


def test_of_other_data_pixels_tell_nothing() -> None:
    assert readers(run_on("none"), GreyModel(), Splits(*[tiny_clips()] * 3)) == ("test", {})  # type: ignore[arg-type]


def test_the_readers_of_pendula_do_not_ask_for_more_than_the_clips_show() -> None:
    data = pendula.load(clips=14, validation=14, test=28, steps=16, size=16)
    alike = data.test.subset(data.test.labels["colour"] == 0)
    assert readers(run_on("pendula"), Keeps(), Splits(data.train, data.validation, alike)) == ("test", {})  # type: ignore[arg-type]
