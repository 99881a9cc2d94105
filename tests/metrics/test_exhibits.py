from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.metrics import exhibits
from stillmotion.metrics.exhibits import Curves, Line, Mark, Page, Pictures, Table, read_page, write_page

FRAMES = np.arange(2 * 3 * 4 * 1 * 5 * 6, dtype=np.uint8).reshape(2, 3, 4, 1, 5, 6)
TABLE = Table("table_1", "Bounds", ("model", "nats", "clips"), (("KVAE", 810.08, 500), ("DMM, “best”", None, 500)), "a note")
CURVES = Curves(
    "gap", "A gap", "frames", "errors",
    (Line("ours", (1.0, 3.0), (0.1, 0.2), (0.05, 0.1), (0.2, 0.3)), Line("ours", (1.0,), (0.3,), published=True)),
    (Mark("true", 2.0),),
)  # fmt: skip
PICTURES = Pictures("worlds", "New clips", FRAMES, ("real", "drawn"), ("a", "b", "c"), scale=3, strip=True)
PAGE = Page("A paper", "What it did.", (TABLE, PICTURES, CURVES))


def test_a_page_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert write_page(PAGE, tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "page.json"
    page = read_page(tmp_path / "new" / "folder")
    assert (page.title, page.summary) == ("A paper", "What it did.")
    table, pictures, curves = page.exhibits
    assert table == TABLE
    assert curves == CURVES
    assert isinstance(pictures, Pictures)
    np.testing.assert_array_equal(pictures.frames, FRAMES)
    assert {**vars(pictures), "frames": 0} == {**vars(PICTURES), "frames": 0}


def test_the_files_are_plain_json_and_npz(tmp_path: Path) -> None:
    write_page(PAGE, tmp_path)
    told = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert [one["kind"] for one in told["exhibits"]] == ["table", "pictures", "curves"]
    assert told["exhibits"][0]["rows"][1] == ["DMM, “best”", None, 500]
    with np.load(tmp_path / "exhibits" / "worlds.npz") as archive:
        assert archive.files == ["frames"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["exhibits", "page.json", "worlds.npz"]


def test_pictures_of_an_earlier_page_are_removed(tmp_path: Path) -> None:
    write_page(PAGE, tmp_path)
    write_page(Page("A paper", "", (Pictures("others", "", FRAMES),)), tmp_path)
    assert [path.name for path in (tmp_path / "exhibits").iterdir()] == ["others.npz"]


def test_a_page_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_page(PAGE, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exhibits.np, "savez_compressed", full)
    with pytest.raises(UserError, match="Free some space"):
        write_page(Page("Another", "", (Pictures("worlds", "", FRAMES[:1]),)), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def line(**changes: Any) -> Line:
    return Line(**{"label": "ours", "x": (1.0, 2.0), "y": (3.0, 4.0), **changes})


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Table("t", "", ("a", "b"), (("x", 1.0), ("y",))), "2 cells in each row, one for each of a, b, got 1 in row 1 of the table t"),
    (lambda: Table("t", "", ("a",), ((math.nan,),)), "a finite number, got nan in row 0 of the table t"),
    (lambda: Table("t", "", ("a",), ((np.float32(1),),)), r"a number, got .* \(float32\) in row 0 of the table t"),  # type: ignore[arg-type]
    (lambda: line(y=(3.0,)), "one value of y for each x, at least one, got 1 for 2 in the line 'ours'"),
    (lambda: line(x=(), y=()), "at least one, got 0 for 0"),
    (lambda: line(low=(1.0, 2.0)), "both ends of a band, or neither"),
    (lambda: line(low=(1.0,), high=(5.0, 6.0)), "one value of low for each x"),
    (lambda: line(low=(5.0, 6.0), high=(1.0, 2.0)), "a band whose low end lies below its high end"),
    (lambda: line(y=(3.0, math.inf)), "a finite number, got inf in y of the line 'ours'"),
    (lambda: Curves("c", "", "", "", ()), "at least one line, got none in the curves c"),
    (lambda: Curves("c", "", "", "", (line(), line())), "a label of their own, got several called 'ours' in the curves c"),
    (lambda: Curves("c", "", "", "", (line(),), (Mark("m", math.nan),)), "got nan in the mark 'm' of the curves c"),
    (lambda: Pictures("p", "", FRAMES.astype(np.float32)), "numpy array of uint8, got float32 in the pictures p"),
    (lambda: Pictures("p", "", [1]), "numpy array of uint8, got list"),  # type: ignore[arg-type]
    (lambda: Pictures("p", "", FRAMES[0]), r"\(rows, columns, T, C, H, W\) with 1 or 3 channels, got shape \(3, 4, 1, 5, 6\)"),
    (lambda: Pictures("p", "", FRAMES.repeat(2, 3)), "1 or 3 channels, got shape"),
    (lambda: Pictures("p", "", FRAMES[:0]), "1 or 3 channels, got shape"),
    (lambda: Pictures("p", "", FRAMES, ("one",)), "a label for each of 2 rows, or none, got 1 in the pictures p"),
    (lambda: Pictures("p", "", FRAMES, (), ("one",)), "a label for each of 3 columns"),
    (lambda: Pictures("p", "", FRAMES, scale=0), "a scale of 1 or more, got 0"),
    (lambda: Pictures("../p", "", FRAMES), r"lower-case letters, digits and underscores.*'\.\./p'"),
    (lambda: Page("", "", (TABLE, CURVES, Table("gap", "", ("a",), ()))), "a name of their own, got several called gap"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_a_folder_without_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"page\.json, got .*which has none.*stillmotion reproduce"):
        read_page(tmp_path)


@pytest.mark.parametrize("text", [
    "{", "[]", '{"title": "a", "summary": "b"}', '{"title": "a", "summary": "b", "exhibits": [{"kind": "song"}]}',
    '{"title": "a", "summary": "b", "exhibits": [{"kind": "table", "name": "t", "title": "", "head": ["a"], "rows": [[1, 2]]}]}',
    '{"title": "a", "summary": "b", "exhibits": [{"kind": "table", "name": "t", "title": "", "head": ["a"], "rows": [], "more": 1}]}',
    '{"title": "a", "summary": "b", "exhibits": [{"kind": "pictures", "name": "../../p", "title": ""}]}',
])  # fmt: skip
def test_a_page_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.json").write_text(text)
    with pytest.raises(FileRefused, match=r"a page of exhibits, got .*page\.json.*Run the reproduction once more"):
        read_page(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps(FRAMES)])
def test_frames_that_are_no_archive_are_refused(tmp_path: Path, content: bytes) -> None:
    write_page(PAGE, tmp_path)
    (tmp_path / "exhibits" / "worlds.npz").write_bytes(content)
    with pytest.raises(FileRefused, match=r"worlds\.npz, which cannot be read"):
        read_page(tmp_path)


def test_objects_in_an_archive_are_refused_and_lacking_frames_too(tmp_path: Path) -> None:
    write_page(PAGE, tmp_path)
    path = tmp_path / "exhibits" / "worlds.npz"
    np.savez(path, frames=np.array([{}], dtype=object))
    with pytest.raises(FileRefused, match="allow_pickle=False"):
        read_page(tmp_path)
    path.unlink()
    with pytest.raises(FileRefused, match=r"worlds\.npz"):
        read_page(tmp_path)
