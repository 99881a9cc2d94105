"""What a reproduction shows: tables, curves and pictures on a page, at rest as JSON with one npz file for each grid of pictures."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.write import draft
from stillmotion.training.checkpoints import write_text

PAGE_FILE = "page.json"
PICTURES_FOLDER = "exhibits"
NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
AGAIN = "Run the reproduction once more, which writes it anew."
Numbers: TypeAlias = tuple[float, ...]
Cell: TypeAlias = str | float | None
Thing = TypeVar("Thing", bound=Hashable)


@dataclass(frozen=True)
class Table:
    """Texts, numbers and gaps (None). rows: each as long as head. note: what stands below.

    Raises UserError for rows of other lengths, cells that are none of these and numbers that are not finite.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        for place, row in enumerate(self.rows):
            if len(row) != len(self.head):
                got = f"{len(row)} in row {place} of the table {self.name}"
                raise UserError(f"{len(self.head)} cells in each row, one for each of {', '.join(self.head)}", got, "Use None for a gap.")
            for cell in row:
                _check_cell(cell, f"row {place} of the table {self.name}")


@dataclass(frozen=True)
class Line:
    """Values y at places x, in the order in which they are joined. low, high: the band around y. published: read off a paper, not ours.

    Raises UserError where lengths differ, where numbers are not finite and where there are none.
    """

    label: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    published: bool = False

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise UserError("both ends of a band, or neither", f"one in the line {self.label!r}")
        for name, values in (("x", self.x), ("y", self.y), ("low", self.low), ("high", self.high)):
            if values is not None:
                self._check(name, values)
        if self.low is not None and self.high is not None and any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise UserError("a band whose low end lies below its high end", f"the line {self.label!r}, where they are exchanged")

    def _check(self, name: str, values: Numbers) -> None:
        if len(values) != len(self.x) or not values:
            got = f"{len(values)} for {len(self.x)} in the line {self.label!r}"
            raise UserError(f"one value of {name} for each x, at least one", got, "Leave out the places that were not measured.")
        for value in values:
            _check_number(value, f"{name} of the line {self.label!r}")


@dataclass(frozen=True)
class Mark:
    """A vertical line at x."""

    label: str
    x: float


@dataclass(frozen=True)
class Curves:
    """Lines over one axis. Raises UserError where there are none, and where two of ours, or two published ones, have one label."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not self.lines:
            raise UserError("at least one line", f"none in the curves {self.name}")
        twice = _several((line.label, line.published) for line in self.lines)
        if twice:
            raise UserError("lines that each have a label of their own", f"several called {twice[0][0]!r} in the curves {self.name}")
        for mark in self.marks:
            _check_number(mark.x, f"the mark {mark.label!r} of the curves {self.name}")


@dataclass(frozen=True, eq=False)
class Pictures:
    """A grid, animated where there is more than one frame.

    frames: uint8 (rows, columns, T, C, H, W), C being 1 or 3. scale: each pixel is shown as a square of so many. strip: time goes from
    left to right instead. Raises UserError for other frames, and for labels that are not as many as rows or columns.
    """

    name: str
    title: str
    frames: npt.NDArray[np.uint8]
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    note: str = ""
    scale: int = 2
    strip: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.frames, np.ndarray) or self.frames.dtype != np.uint8:
            got = f"{getattr(self.frames, 'dtype', type(self.frames).__name__)} in the pictures {self.name}"
            raise UserError("frames in a numpy array of uint8", got, "Turn values in [0, 1] to bytes first.")
        if self.frames.ndim != 6 or self.frames.shape[3] not in (1, 3) or not self.frames.size:
            got = f"shape {self.frames.shape} in the pictures {self.name}"
            raise UserError("frames of shape (rows, columns, T, C, H, W) with 1 or 3 channels", got)
        for side, labels, count in (("row", self.row_labels, self.frames.shape[0]), ("column", self.column_labels, self.frames.shape[1])):
            if labels and len(labels) != count:
                raise UserError(f"a label for each of {count} {side}s, or none", f"{len(labels)} in the pictures {self.name}")
        if self.scale < 1:
            raise UserError("a scale of 1 or more", f"{self.scale} in the pictures {self.name}")


Exhibit: TypeAlias = Table | Curves | Pictures


@dataclass(frozen=True)
class Page:
    """Exhibits in the order in which they are shown. Raises UserError where two have one name."""

    title: str
    summary: str
    exhibits: tuple[Exhibit, ...]

    def __post_init__(self) -> None:
        twice = _several(exhibit.name for exhibit in self.exhibits)
        if twice:
            raise UserError("exhibits that each have a name of their own", f"several called {', '.join(twice)}")


KINDS: dict[str, type[Exhibit]] = {"table": Table, "curves": Curves, "pictures": Pictures}


def write_page(page: Page, folder: Path) -> Path:
    """Writes page.json and exhibits/NAME.npz for each grid of pictures; returns the path of page.json.

    Every file is written whole or not at all, page.json last; pictures of an earlier page are removed then. Raises UserError where the
    folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [exhibit for exhibit in page.exhibits if isinstance(exhibit, Pictures)]
    for grid in pictures:
        with draft(_frames_path(folder, grid.name)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, frames=grid.frames)
    whole = {"title": page.title, "summary": page.summary, "exhibits": [_plain(exhibit) for exhibit in page.exhibits]}
    write_text(folder / PAGE_FILE, json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False))
    for path in (folder / PICTURES_FOLDER).glob("*.npz"):
        if path.stem not in {grid.name for grid in pictures}:
            path.unlink()
    return folder / PAGE_FILE


def read_page(folder: Path) -> Page:
    """The page in a folder. Raises FileRefused where there is none, and for files that hold something else."""
    path = folder / PAGE_FILE
    if not path.is_file():
        raise FileRefused(f"a finished reproduction with {PAGE_FILE}", f"{folder}, which has none", "Run `stillmotion reproduce` first.")
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        return Page(str(whole["title"]), str(whole["summary"]), tuple(_exhibit(told, folder) for told in whole["exhibits"]))
    except FileRefused:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileRefused("a page of exhibits", f"{path}, which cannot be read: {error}", AGAIN) from error


def _plain(exhibit: Exhibit) -> dict[str, Any]:
    """What JSON can hold of an exhibit; frames lie beside it."""
    kind = next(kind for kind, known in KINDS.items() if isinstance(exhibit, known))
    fields = {name: value for name, value in vars(exhibit).items() if name not in ("frames", "lines", "marks")}
    if isinstance(exhibit, Curves):
        fields |= {"lines": [asdict(line) for line in exhibit.lines], "marks": [asdict(mark) for mark in exhibit.marks]}
    return {"kind": kind, **fields}


def _exhibit(told: dict[str, Any], folder: Path) -> Exhibit:
    fields = _tuples(told)
    kind = KINDS[fields.pop("kind")]
    if kind is Pictures:
        fields["frames"] = _read_frames(_frames_path(folder, _check_name(fields["name"])))
    if kind is Curves:
        fields |= {"lines": tuple(Line(**line) for line in fields["lines"]), "marks": tuple(Mark(**mark) for mark in fields["marks"])}
    return kind(**fields)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return {name: _tuples(item) for name, item in value.items()} if isinstance(value, dict) else value


def _frames_path(folder: Path, name: str) -> Path:
    return folder / PICTURES_FOLDER / f"{name}.npz"


def _read_frames(path: Path) -> npt.NDArray[np.uint8]:
    from zipfile import BadZipFile

    try:
        with np.load(path, allow_pickle=False) as archive:
            frames: npt.NDArray[np.uint8] = archive["frames"]
            return frames
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, AttributeError) as error:
        raise FileRefused("the frames of pictures", f"{path}, which cannot be read: {error}", AGAIN) from error


def _several(things: Iterable[Thing]) -> list[Thing]:
    """Those that are there more than once."""
    return [thing for thing, count in Counter(things).items() if count > 1]


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UserError("a name of lower-case letters, digits and underscores, as it names a file", repr(name))
    return name


def _check_cell(cell: Cell, where: str) -> None:
    if cell is not None and not isinstance(cell, str):
        _check_number(cell, where)


def _check_number(value: float, where: str) -> None:
    if not isinstance(value, int | float):
        raise UserError("a number", f"{value!r} ({type(value).__name__}) in {where}", "Convert with float(...) or .tolist().")
    if not math.isfinite(value):
        raise UserError("a finite number", f"{value} in {where}", "Leave it out.")
