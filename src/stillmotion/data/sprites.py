"""Sprites: little people from the Liberated Pixel Cup sheets, who walk, cast spells and slash, seen from three sides.

What stays is the character (body, trousers, shirt, hair), what moves is the action. Two versions are in use:

* standard (Li & Mandt 2018, and the papers that follow it): six variants of each part, 1,296 characters, published split.
* vdsm (the VDSM paper): 7 bodies, 4 shirts, 8 hair styles, 5 trousers, 1,120 characters, a tenth held out. The script that chose
  them is not released: we take the first sheets of each part. The released judge has 6 hair styles where the paper has 8; we follow
  the paper. The generator that it cites cuts one slash from a row of the bow; we cut all three from the rows of the slash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.roots import data_root, find

PARTS = ("body", "bottomwear", "topwear", "hair")  # the order in which they are put on; the shoes come last
SHOES = "shoes/1.png"
FOLDERS = ("", "lpc-sprites/", "sprites/")

ACTIONS = ("walk", "spellcast", "slash")
DIRECTIONS = ("front", "left", "right")
CELL, COLUMNS, ROWS = 64, 13, 21
STEPS = 8

Bytes = NDArray[np.uint8]
_stores: WeakValueDictionary[tuple[object, ...], Tensor] = WeakValueDictionary()
"""Frames that someone still holds, by their sheets: a store fills a gigabyte, and nobody writes into it."""
Version = Literal["standard", "vdsm"]


class Layout(NamedTuple):
    """variants: sheets of each of PARTS. train: characters that are not held out."""

    variants: tuple[int, int, int, int]
    train: int


LAYOUTS: dict[str, Layout] = {"standard": Layout((6, 6, 6, 6), 1000), "vdsm": Layout((7, 5, 4, 8), 1008)}


class Overlay(NamedTuple):
    """The pixels that a part covers: cell and pixel (P,) of each, its colour (P, 3) and opacity (P, 1), 0 to 255."""

    cell: NDArray[np.int64]
    pixel: NDArray[np.int64]
    colour: NDArray[np.int32]
    opacity: NDArray[np.int32]


def load(*, root: Path | None = None, version: Version = "standard", seed: int = 0, validation: int = 100) -> Splits:
    """All clips of 8 frames, (3, 64, 64), 9 for each character; no character is in two splits. The splits share one store.

    root: data root, see `data_root`; sheets are sought in it and in its folders lpc-sprites and sprites.
    seed: of the draw of characters that are held out in the vdsm version; the standard split is a fixed, published one.
    validation: characters at the end of the training characters that are set aside; 0 leaves the published 9,000 training clips.
    Raises FileRefused for a sheet that is missing or damaged, UserError for an unknown version or too large a validation set.
    """
    if version not in LAYOUTS:
        raise UserError(f"one of {', '.join(LAYOUTS)} as version", repr(version))
    layout = LAYOUTS[version]
    if not 0 <= validation < layout.train:
        raise UserError(f"0 to {layout.train - 1} characters for validation", str(validation))
    everything = compose(_folder(data_root(root)), layout.variants)
    order = _published_order() if version == "standard" else _drawn_order(layout, seed)
    train, held, test = torch.split(order, [layout.train - validation, validation, len(order) - layout.train])
    return Splits(*(everything.subset(_clips_of(characters)) for characters in (train, held, test)))


def compose(folder: Path, variants: tuple[int, int, int, int]) -> ClipSet:
    """The clips of all combinations of the first sheets of each part, by character (the last part varies fastest) and class.

    Those who compose the same sheets share the frames.
    """
    sheets = [[folder / part / f"{k}.png" for k in range(n)] for part, n in zip(PARTS, variants, strict=True)]
    sheets.append([folder / SHOES])
    key = (variants, *(_stamp(path) for layer in sheets for path in layer))
    frames = _stores.get(key)
    if frames is None:
        frames = _stores[key] = _frames(sheets)
    by_clip = frames.view(-1, STEPS, 3, CELL, CELL)
    clips = ClipSet.whole(by_clip, _labels(variants), _classes(variants), moving=("action_direction", "action", "direction"))
    return replace(clips, frames=frames)  # no view of it: it lives as long as this very tensor is held


def _stamp(sheet: Path) -> tuple[object, ...]:
    """Which file it is, and as of when."""
    told = sheet.stat() if sheet.is_file() else None
    return sheet.resolve(), told and (told.st_mtime_ns, told.st_size)


def _frames(sheets: list[list[Path]]) -> Tensor:
    """Bytes (F, 3, CELL, CELL) of all combinations of one sheet of each layer, cell after cell."""
    cells = cell_table().flatten().numpy()
    distinct, place = np.unique(cells, return_inverse=True)
    layers = [[_overlay(path, distinct) for path in layer] for layer in sheets]
    store = np.empty((int(np.prod([len(layer) for layer in layers])), len(cells), 3, CELL * CELL), np.uint8)
    black = np.zeros((len(distinct), 3, CELL * CELL), np.uint8)
    for character, person in enumerate(_dress(black, layers)):
        np.take(person, place, axis=0, out=store[character])
    return torch.from_numpy(store).view(-1, 3, CELL, CELL)


def cell_table() -> Tensor:
    """(9, 8) int64: the cells (row * 13 + column) of each class, 3 * action + direction, in playing order."""
    front, left, right = COLUMNS, 0, 2 * COLUMNS  # from the row of the action's left view on
    walk = torch.tensor([125, *range(118, 125)])  # the published numbering begins with the row's last cell
    spellcast = torch.tensor([*range(13, 19), 17, 19])
    slash = torch.tensor([*range(169, 175), 173, 169])
    return torch.stack([action + offset for action in (walk, spellcast, slash) for offset in (front, left, right)])


# Who is in which split


def _published_order() -> Tensor:
    # The published split was drawn with this legacy generator, which numpy keeps unchanged.
    return torch.from_numpy(np.random.RandomState(423).permutation(1296))


def _drawn_order(layout: Layout, seed: int) -> Tensor:
    return torch.randperm(int(np.prod(layout.variants)), generator=torch.Generator().manual_seed(seed))


def _clips_of(characters: Tensor) -> Tensor:
    """The clips of the characters, nine each."""
    classes = len(ACTIONS) * len(DIRECTIONS)
    return (characters[:, None] * classes + torch.arange(classes)).flatten()


def _labels(variants: tuple[int, ...]) -> dict[str, Tensor]:
    classes = len(ACTIONS) * len(DIRECTIONS)
    characters = torch.arange(int(np.prod(variants)))
    worn = torch.unravel_index(characters, variants)
    labels = {name: value.repeat_interleave(classes) for name, value in zip(PARTS, worn, strict=True)}
    labels["character"] = characters.repeat_interleave(classes)
    labels["action_direction"] = torch.arange(classes).repeat(len(characters))
    labels["action"] = labels["action_direction"] // len(DIRECTIONS)
    labels["direction"] = labels["action_direction"] % len(DIRECTIONS)
    return labels


def _classes(variants: tuple[int, ...]) -> dict[str, tuple[str, ...]]:
    """Parts and characters go by the numbers of their sheets."""
    both = tuple(f"{action} {direction}" for action in ACTIONS for direction in DIRECTIONS)
    names = {part: tuple(map(str, range(count))) for part, count in zip(PARTS, variants, strict=True)}
    names["character"] = tuple("-".join(map(str, worn)) for worn in np.ndindex(*variants))
    return {**names, "action_direction": both, "action": ACTIONS, "direction": DIRECTIONS}


# Sheets and how they are laid over each other


def _dress(below: Bytes, layers: list[list[Overlay]]) -> Iterator[Bytes]:
    """All combinations of one overlay of each layer, laid over `below` in turn; the last layer varies fastest."""
    if not layers:
        yield below
        return
    for overlay in layers[0]:
        yield from _dress(_put_on(below, overlay), layers[1:])


def _put_on(below: Bytes, overlay: Overlay) -> Bytes:
    """Opaque cells (cells, 3, pixels) with the overlay on top: each value is the weighted mean, rounded to the nearest."""
    above = below.copy()
    covered = below[overlay.cell, :, overlay.pixel]
    above[overlay.cell, :, overlay.pixel] = (overlay.colour * overlay.opacity + covered * (255 - overlay.opacity) + 127) // 255
    return above


def _overlay(path: Path, cells: NDArray[np.int64]) -> Overlay:
    """Raises FileRefused for a sheet that is missing, unreadable or of another size."""
    from PIL import Image

    remedy = "Run `stillmotion data prepare sprites`, or name the folder of sheets with --data-root."
    if not path.is_file():
        raise FileRefused(f"the sheet {path}", "no such file", remedy)
    try:
        with Image.open(path) as image:
            sheet = np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError) as error:
        raise FileRefused(f"{path} to be a PNG image", f"{type(error).__name__}: {error}", remedy) from error
    if sheet.shape[:2] != (ROWS * CELL, COLUMNS * CELL):
        raise FileRefused(f"{path} to have {COLUMNS * CELL} x {ROWS * CELL} pixels", f"{sheet.shape[1]} x {sheet.shape[0]}", remedy)
    grid = sheet.reshape(ROWS, CELL, COLUMNS, CELL, 4).swapaxes(1, 2).reshape(ROWS * COLUMNS, CELL * CELL, 4)[cells]
    cell, pixel = grid[..., 3].nonzero()
    there = grid[cell, pixel].astype(np.int32)
    return Overlay(cell, pixel, there[:, :3], there[:, 3:])


def _folder(root: Path) -> Path:
    first = f"{PARTS[0]}/0.png"
    found = find(root, *(folder + first for folder in FOLDERS))
    return found.parent.parent if found else root
