"""Sprites: every pixel against a plain loop of Pillow's alpha_composite over whole sheets."""

from __future__ import annotations

import gc
import shutil
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data import sprites
from stillmotion.data.base import ClipSet, Splits

# The cells of each class in playing order, written out by hand from the description of the benchmark.
CELLS = [
    [138, 131, 132, 133, 134, 135, 136, 137], [125, 118, 119, 120, 121, 122, 123, 124], [151, 144, 145, 146, 147, 148, 149, 150],
    [26, 27, 28, 29, 30, 31, 30, 32], [13, 14, 15, 16, 17, 18, 17, 19], [39, 40, 41, 42, 43, 44, 43, 45],
    [182, 183, 184, 185, 186, 187, 186, 182], [169, 170, 171, 172, 173, 174, 173, 169], [195, 196, 197, 198, 199, 200, 199, 195],
]  # fmt: skip


@cache
def dressed(folder: Path, worn: tuple[int, ...]) -> Image.Image:
    """The whole sheet of a character."""
    figure = Image.new("RGBA", (832, 1344), "black")
    sheets = [f"{part}/{variant}.png" for part, variant in zip(("body", "bottomwear", "topwear", "hair"), worn, strict=True)]
    for sheet in [*sheets, "shoes/1.png"]:
        figure = Image.alpha_composite(figure, Image.open(folder / sheet).convert("RGBA"))
    return figure


def naive(folder: Path, worn: tuple[int, ...], cells: list[int]) -> np.ndarray:
    """Frames (8, 3, 64, 64) of one clip."""
    figure = dressed(folder, worn)
    boxes = [(cell % 13 * 64, cell // 13 * 64) for cell in cells]
    frames = [np.asarray(figure.crop((x, y, x + 64, y + 64)).convert("RGB")) for x, y in boxes]
    return np.stack(frames).transpose(0, 3, 1, 2)


def write_sheets(folder: Path, variants: tuple[int, ...]) -> Path:
    """Sheets of random patches: in every cell its own colours and opacities, from clear to opaque."""
    rng = np.random.default_rng(0)
    parts = [(part, range(count)) for part, count in zip(sprites.PARTS, variants, strict=True)]
    for part, numbers in [*parts, ("shoes", [1])]:
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            sheet = rng.integers(0, 256, (21, 8, 13, 8, 4), dtype=np.uint8)
            sheet[..., 3] *= rng.random(sheet.shape[:-1]) < 0.4
            large = sheet.repeat(8, 1).repeat(8, 3).reshape(21 * 64, 13 * 64, 4)
            Image.fromarray(large).save(folder / part / f"{number}.png", compress_level=0)
    return folder


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sheets(tmp_path_factory.mktemp("sheets"), (2, 2, 1, 2))


def clip(clips: ClipSet, index: int) -> np.ndarray:
    start = int(clips.starts[index])
    return clips.frames[start : start + 8].numpy()


def test_the_cells_are_the_published_ones():
    assert sprites.cell_table().tolist() == CELLS


def test_all_clips_are_those_of_a_plain_composition(sheets: Path):
    clips = sprites.compose(sheets, (2, 2, 1, 2))
    assert len(clips) == 8 * 9
    for character, worn in enumerate(np.ndindex(2, 2, 1, 2)):
        for number, cells in enumerate(CELLS):
            np.testing.assert_array_equal(clip(clips, character * 9 + number), naive(sheets, worn, cells))


def test_labels_name_what_is_worn_and_done(sheets: Path):
    clips = sprites.compose(sheets, (2, 2, 1, 2))
    row = 5 * 9 + 3 * 2 + 1
    seen = {name: clips.classes[name][int(value[row])] for name, value in clips.labels.items()}
    assert seen == {
        "body": "1", "bottomwear": "0", "topwear": "0", "hair": "1", "character": "1-0-0-1",
        "action_direction": "slash left", "action": "slash", "direction": "left",
    }  # fmt: skip
    for name, value in clips.labels.items():
        assert value.unique().tolist() == list(range(len(clips.classes[name])))


def test_what_moves_is_what_differs_between_the_clips_of_one_character(sheets: Path):
    clips = sprites.compose(sheets, (2, 2, 1, 2))
    who = clips.labels["character"]
    varies = {name for name, value in clips.labels.items() if any(len(value[who == one].unique()) > 1 for one in who.unique())}
    assert set(clips.moving) == varies == {"action_direction", "action", "direction"}


def test_blending_rounds_as_pillow_does_for_every_opacity():
    opacity, colour = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for ground in (0, 1, 100, 254, 255):
        above = Image.fromarray(np.stack([colour, colour, colour, opacity], 2))
        mixed = np.asarray(Image.alpha_composite(Image.new("RGBA", (256, 256), (ground, ground, ground, 255)), above))
        below = np.full((1, 3, 256 * 256), ground, np.uint8)
        layer = sprites.Overlay(
            np.zeros(256 * 256, np.int64), np.arange(256 * 256), colour.reshape(-1, 1).repeat(3, 1).astype(np.int32),
            opacity.reshape(-1, 1).astype(np.int32),
        )  # fmt: skip
        np.testing.assert_array_equal(sprites._put_on(below, layer)[0].T.reshape(256, 256, 3), mixed[..., :3])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = sprites.Layout((2, 2, 1, 2), 6)
    monkeypatch.setattr(sprites, "LAYOUTS", {"vdsm": layout})


def characters(splits: Splits) -> list[set[int]]:
    return [set(part.labels["character"].tolist()) for part in splits]


@pytest.mark.usefixtures("small")
def test_splits_are_apart_by_character_and_share_one_store(sheets: Path):
    splits = sprites.load(root=sheets, version="vdsm", validation=2)
    assert [len(part) for part in splits] == [4 * 9, 2 * 9, 2 * 9]
    assert [len(seen) for seen in characters(splits)] == [4, 2, 2]
    assert set.union(*characters(splits)) == set(range(8))
    assert splits.train.frames.data_ptr() == splits.validation.frames.data_ptr() == splits.test.frames.data_ptr()
    whole = sprites.compose(sheets, (2, 2, 1, 2))
    row = int(splits.test.labels["character"][4]) * 9 + int(splits.test.labels["action_direction"][4])
    np.testing.assert_array_equal(clip(splits.test, 4), clip(whole, row))


def test_who_composes_the_same_sheets_shares_the_frames_as_long_as_someone_holds_them(tmp_path: Path):
    folder = write_sheets(tmp_path, (1, 1, 1, 2))
    one = sprites.compose(folder, (1, 1, 1, 2))
    part = one.subset(torch.arange(9))
    del one
    assert sprites.compose(folder, (1, 1, 1, 2)).frames is part.frames
    assert sprites.compose(folder, (1, 1, 1, 1)).frames is not part.frames
    # changed sheets are composed anew
    shutil.copy(folder / "hair" / "0.png", folder / "hair" / "1.png")
    again = sprites.compose(folder, (1, 1, 1, 2))
    assert again.frames is not part.frames
    np.testing.assert_array_equal(clip(again, 9), clip(again, 0))
    known = len(sprites._stores)
    del part, again
    gc.collect()
    assert len(sprites._stores) == known - 2


@pytest.mark.usefixtures("small")
def test_the_seed_draws_who_is_held_out_and_validation_comes_from_training(sheets: Path):
    once, again, without = (sprites.load(root=sheets, version="vdsm", validation=count) for count in (2, 2, 0))
    assert characters(once) == characters(again)
    assert characters(without)[0] == characters(once)[0] | characters(once)[1]
    assert len(without.validation) == 0
    held = {frozenset(characters(sprites.load(root=sheets, version="vdsm", validation=1, seed=seed))[2]) for seed in range(5)}
    assert len(held) > 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("folder", ["", "lpc-sprites", "sprites"])
def test_sheets_are_found_in_and_below_the_root(sheets: Path, tmp_path: Path, folder: str):
    (tmp_path / folder).parent.mkdir(exist_ok=True)
    shutil.copytree(sheets, tmp_path / folder, dirs_exist_ok=True)
    assert len(sprites.load(root=tmp_path, version="vdsm", validation=1).train) == 5 * 9


@pytest.mark.usefixtures("small")
def test_missing_and_damaged_sheets_are_refused_by_name(sheets: Path, tmp_path: Path):
    with pytest.raises(FileRefused, match=r"body/0.png, got no such file.*data prepare sprites.*--data-root"):
        sprites.load(root=tmp_path, version="vdsm", validation=1)
    shutil.copytree(sheets, tmp_path / "sprites")
    bad = tmp_path / "sprites" / "hair" / "1.png"
    whole = bad.read_bytes()
    for content, message in ((b"no image", "to be a PNG image"), (whole[:5000], "to be a PNG image")):
        bad.write_bytes(content)
        with pytest.raises(FileRefused, match=rf"sprites/hair/1.png {message}"):
            sprites.load(root=tmp_path, version="vdsm", validation=1)
    Image.new("RGBA", (64, 128)).save(bad)
    with pytest.raises(FileRefused, match=r"hair/1.png to have 832 x 1344 pixels, got 64 x 128"):
        sprites.load(root=tmp_path, version="vdsm", validation=1)
    bad.unlink()
    with pytest.raises(FileRefused, match=r"hair/1.png, got no such file"):
        sprites.load(root=tmp_path, version="vdsm", validation=1)


def test_wrong_options_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"one of standard, vdsm as version, got 'large'"):
        sprites.load(root=tmp_path, version="large")  # type: ignore[arg-type]
    for count in (-1, 1000):
        with pytest.raises(UserError, match=rf"0 to 999 characters for validation, got {count}"):
            sprites.load(root=tmp_path, validation=count)


@pytest.fixture(scope="module")
def standard(real_data: Path) -> tuple[Splits, float]:
    began = time.perf_counter()
    return sprites.load(root=real_data, validation=0), time.perf_counter() - began


@pytest.mark.data
def test_real_sheets_make_the_published_split_in_seconds(standard: tuple[Splits, float]):
    splits, seconds = standard
    assert seconds < 20
    assert [len(part) for part in splits] == [9000, 0, 2664]
    np.random.seed(423)  # noqa: NPY002, the published split is drawn so
    order = np.random.permutation(1296)  # noqa: NPY002
    assert splits.train.labels["character"][::9].tolist() == order[:1000].tolist()
    assert splits.test.labels["character"][::9].tolist() == order[1000:].tolist()
    for part in sprites.PARTS:
        assert splits.train.labels[part].unique().tolist() == list(range(6))


@pytest.mark.data
def test_real_clips_are_those_of_a_plain_composition(standard: tuple[Splits, float], real_data: Path):
    for part in (standard[0].train, standard[0].test):
        for index in torch.randint(len(part), (4,), generator=torch.Generator().manual_seed(0)).tolist():
            worn = tuple(int(part.labels[name][index]) for name in sprites.PARTS)
            cells = CELLS[int(part.labels["action_direction"][index])]
            np.testing.assert_array_equal(clip(part, index), naive(real_data / "lpc-sprites", worn, cells))


@pytest.mark.data
def test_the_vdsm_version_holds_out_a_tenth_of_1120_characters(real_data: Path):
    splits = sprites.load(root=real_data, version="vdsm")
    assert [len(part) for part in splits] == [908 * 9, 100 * 9, 112 * 9]
    seen = characters(splits)
    assert not seen[0] & seen[2]
    assert not seen[0] & seen[1]
    assert len(set.union(*seen)) == 1120
    assert [len(splits.train.classes[part]) for part in sprites.PARTS] == [7, 5, 4, 8]
