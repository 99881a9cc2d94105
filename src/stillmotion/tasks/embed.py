"""A row of numbers for every window of every clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from torch import Tensor, nn

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.data.write import draft
from stillmotion.tasks.codes import encode

Table = dict[str, Any]


def embed(model: nn.Module, clips: ClipSet) -> Table:
    """Columns by name, one row per window: file, first frame and number of frames in it, the static and the dynamic code.

    static and dynamic are (N, S) and (N, D) float32: posterior means. A code that the model does not have is left out.
    """
    codes = encode(model, clips)
    count = len(clips)
    names = [clips.sources[i] for i in clips.source.tolist()] if clips.source is not None else [str(i) for i in range(count)]
    table: Table = {"file": np.array(names), "start": _within(clips), "frames": clips.lengths.numpy()}
    parts: dict[str, Tensor | None] = {"static": codes.static, "dynamic": codes.dynamic}
    return table | {name: value.float().numpy() for name, value in parts.items() if value is not None}


def write_table(table: Table, path: Path) -> Path:
    """Writes the rows as .parquet (codes as lists of floats) or .npz, by the ending of the name, whole or not at all."""
    if path.suffix not in (".parquet", ".npz"):
        raise UserError("a name ending in .parquet or .npz", str(path))
    with draft(path) as partial:
        if path.suffix == ".npz":
            _npz(table, partial)
        else:
            _parquet(table, partial)
    return path


def _npz(table: Table, path: Path) -> None:
    # np.savez takes no column called `file`
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, value in table.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)


def _parquet(table: Table, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("pyarrow, which writes parquet", "none installed", "pip install 'stillmotion[parquet]', or write .npz.") from error
    columns = {name: list(value) if value.ndim > 1 else value for name, value in table.items()}
    pq.write_table(pa.table(columns), path)


def _within(clips: ClipSet) -> Any:
    """Where each window starts in its own clip. Windows of one clip are cut from one stretch of the store."""
    if clips.source is None:
        return np.zeros(len(clips), dtype=np.int64)
    starts, source = clips.starts.numpy(), clips.source.numpy()
    first = np.full(source.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, source, starts)
    return starts - first[source]
