from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oracles.grey_model import GreyModel, grey_clips
from oracles.small_vdsm import small_vdsm
from oracles.tiny_runs import tiny_clips
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.tasks.embed import Table, embed, write_table


def windows() -> ClipSet:
    """Frames 0 to 9 are clip b, in three windows not in order; frames 10 to 12 clip a. Frame k has the level k."""
    frames = torch.arange(13, dtype=torch.uint8).view(13, 1, 1, 1).expand(13, 3, 2, 2).contiguous()
    return ClipSet(
        frames, torch.tensor([4, 10, 0, 6]), torch.tensor([4, 3, 4, 4]), 4, source=torch.tensor([1, 0, 1, 1]), sources=("a.mp4", "b/c.gif"),
    )


def test_a_row_for_every_window_with_its_place_in_its_own_clip() -> None:
    table = embed(GreyModel(), windows())
    assert list(table) == ["file", "start", "frames", "static", "dynamic"]
    assert table["file"].tolist() == ["b/c.gif", "a.mp4", "b/c.gif", "b/c.gif"]
    assert table["start"].tolist() == [4, 0, 0, 6]
    assert table["frames"].tolist() == [4, 3, 4, 4]
    assert (table["dynamic"] * 255).round().tolist() == [[4], [10], [0], [6]]
    assert (table["static"] * 255).tolist() == [pytest.approx([mean], abs=1e-4) for mean in (5.5, 11, 1.5, 7.5)]
    assert table["static"].dtype == table["dynamic"].dtype == np.float32


def test_clips_without_files_are_numbered() -> None:
    table = embed(GreyModel(), replace(windows(), source=None, sources=()))
    assert table["file"].tolist() == ["0", "1", "2", "3"]
    assert table["start"].tolist() == [0, 0, 0, 0]


def test_codes_are_the_posterior_means_of_the_model() -> None:
    model, clips = small_vdsm(), tiny_clips()
    with torch.no_grad():
        codes = model.encode(clips.clips())
    table = embed(model, clips)
    assert codes.static is not None
    assert codes.dynamic is not None
    assert np.allclose(table["static"], codes.static.numpy(), atol=1e-6)
    assert np.allclose(table["dynamic"], codes.dynamic.numpy(), atol=1e-6)


def test_a_code_that_the_model_does_not_have_is_left_out() -> None:
    class Still(GreyModel):
        def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
            return Codes(clips.frames[:, 0, 0, 0], None, clips.frames[:, :, 0, 0], clips.mask)

    assert list(embed(Still(), windows())) == ["file", "start", "frames", "static"]


@pytest.fixture
def table() -> Table:
    return embed(GreyModel(), windows())


def test_npz_round_trip(table: Table, tmp_path: Path) -> None:
    path = write_table(table, tmp_path / "new" / "codes.npz")
    with np.load(path, allow_pickle=False) as read:
        assert sorted(read.files) == sorted(table)
        assert all(np.array_equal(read[name], table[name]) for name in table)
    assert [file.name for file in path.parent.iterdir()] == ["codes.npz"]


def test_parquet_round_trip(table: Table, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    read = pq.read_table(write_table(table, tmp_path / "codes.parquet"))
    assert read.column_names == list(table)
    assert read["file"].to_pylist() == table["file"].tolist()
    assert read["start"].to_pylist() == table["start"].tolist()
    assert str(read.schema.field("static").type) == "list<element: float>"
    assert read["dynamic"].to_pylist() == table["dynamic"].tolist()


def test_other_endings_are_refused(table: Table, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a name ending in \.parquet or \.npz, got .*codes\.csv"):
        write_table(table, tmp_path / "codes.csv")
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_the_remedy_is_told_and_an_older_file_stays(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "codes.parquet"
    path.write_text("older")
    with pytest.raises(UserError, match=r"pyarrow, .*none installed. pip install 'stillmotion\[parquet\]', or write \.npz"):
        write_table(table, path)
    assert path.read_text() == "older"
    assert [file.name for file in tmp_path.iterdir()] == ["codes.parquet"]


def test_a_place_that_cannot_be_written(table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a place to write to, got .*codes.npz"):
        write_table(table, tmp_path / "file" / "codes.npz")


def test_grey_clips_are_what_these_tests_think() -> None:
    clips = grey_clips(2, 3)
    assert (clips.frames[1, :, 0, 0, 0] * 256).tolist() == [1, 2, 3]
    assert clips.frames[0, 2].eq(0).all()
