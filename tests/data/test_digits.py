"""Moving digits: paths against step-by-step reflection, frames against a plain loop, idx files against what was written."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.data import digits


def write_idx(path: Path, array: np.ndarray) -> Path:
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def fake_mnist(folder: Path, part: str = "train", count: int = 40, ending: str = ".gz") -> np.ndarray:
    """Images that tell their own number: pixel (0, 0) is the index, so that they can be known again in a clip."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.full((count, 28, 28), 200)
    images[:, 14, 14] = np.arange(count) + 1
    write_idx(folder / f"{part}-images-idx3-ubyte{ending}", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", np.arange(count) % 10)
    return images


def bounce(place: float, velocity: float, width: float, steps: int) -> list[float]:
    """The same path in a thousand small steps per frame, turned round at the borders."""
    path = [place]
    for _ in range(steps - 1):
        for _ in range(1000):
            place += velocity / 1000
            if place > width:
                place, velocity = 2 * width - place, -velocity
            if place < 0:
                place, velocity = -place, -velocity
        path.append(place)
    return path


@pytest.mark.parametrize(("place", "velocity"), [(3.0, 4.7), (30.0, -5.0), (36.0, 2.5), (0.0, -3.3), (18.0, 36.0), (10.0, 100.0)])
def test_paths_are_those_of_a_ball_bounced_step_by_step(place: float, velocity: float):
    start, speed = (torch.tensor([[value, 0]], dtype=torch.float64) for value in (place, velocity))
    ours = digits.paths(start, speed, 36.0, 30)[0, :, 0]
    np.testing.assert_allclose(ours.numpy(), bounce(place, velocity, 36.0, 30), atol=1e-6)


@given(st.floats(-1e4, 1e4), st.floats(1, 100))
def test_a_folded_place_is_inside_and_folding_again_changes_nothing(place: float, width: float):
    folded = digits.fold(torch.tensor(place).double(), width)
    assert -1e-9 <= folded <= width + 1e-9
    assert digits.fold(folded.clamp(0, width), width) == pytest.approx(folded.item(), abs=1e-9)


def test_drawn_frames_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digits, "CHUNK", 2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (5, 7, 7), generator=generator).byte()
    places = torch.randint(0, 20 - 7 + 1, (5, 4, 2), generator=generator)
    expected = np.zeros((5, 4, 20, 20), np.uint8)
    for n in range(5):
        for t in range(4):
            x, y = places[n, t].tolist()
            expected[n, t, y : y + 7, x : x + 7] = images[n]
    np.testing.assert_array_equal(digits.draw(images, places, 20).numpy(), expected)


def whole(frames: Tensor) -> Tensor:
    return frames[:, 0].flatten(1).long()


def test_the_whole_digit_is_in_every_frame_and_moves(tmp_path: Path):
    fake_mnist(tmp_path)
    for part in digits.load(root=tmp_path, clips=30, validation=4, test=6, source="mnist"):
        assert ((whole(part.frames) > 0).sum(1) == 28 * 28).all()
        frames = part.frames.view(len(part), 16, 3, 64, 64)
        moved = (frames[:, 1:] != frames[:, :-1]).flatten(2).any(2)
        assert moved.double().mean() > 0.97  # a bounce may end where it began


def test_no_image_is_in_two_splits(tmp_path: Path):
    images = fake_mnist(tmp_path / "mnist")
    splits = digits.load(root=tmp_path, clips=28, validation=4, test=8, source="mnist")
    seen = []
    for part in splits:
        number = [int(frame[frame != 0][14 * 28 + 14]) - 1 for frame in part.frames[part.starts, 0]]
        assert number == part.labels["image"].tolist()
        assert [n % 10 for n in number] == part.labels["digit"].tolist()
        seen.append(set(number))
    assert [len(s) for s in seen] == [28, 4, 8]
    assert set.union(*seen) == set(range(len(images)))


def test_few_images_are_shared_out_and_used_evenly(tmp_path: Path):
    fake_mnist(tmp_path, count=10)
    splits = digits.load(root=tmp_path, clips=80, validation=10, test=10, steps=2, source="mnist")
    used = [part.labels["image"].unique(return_counts=True) for part in splits]
    assert sorted(torch.cat([images for images, _ in used]).tolist()) == list(range(10))
    assert [counts.tolist() for _, counts in used] == [[10] * 8, [10], [10]]


def test_direction_is_where_the_digit_sets_out_to(tmp_path: Path):
    fake_mnist(tmp_path)
    part = digits.load(root=tmp_path, clips=60, validation=1, test=1, steps=2).train
    seen = part.frames[:, 0].view(60, 2, 64, 64) > 0
    left, top = (seen.any(axis).int().argmax(2) for axis in (2, 3))
    free = ((left > 5) & (left < 31) & (top > 5) & (top < 31)).all(1)  # no bounce on the way
    free &= (left[:, 0] != left[:, 1]) & (top[:, 0] != top[:, 1])
    assert free.sum() >= 15
    direction = (left[:, 1] > left[:, 0]) + 2 * (top[:, 1] > top[:, 0]).long()
    assert torch.equal(direction[free], part.labels["direction"][free])
    assert part.classes["direction"][3] == "right and down"


def test_the_direction_moves_and_the_digit_stays(tmp_path: Path):
    fake_mnist(tmp_path)
    splits = digits.load(root=tmp_path, clips=80, validation=4, test=4, steps=2)
    assert [part.moving for part in splits] == [("direction",)] * 3
    images, train = splits.train.labels["image"], splits.train.labels
    varies = {name for name, value in train.items() if any(len(value[images == one].unique()) > 1 for one in images.unique())}
    assert varies == {"direction"}, "what differs between the clips of one picture"


def test_headings_and_digits_are_spread():
    part = digits.load(clips=400, validation=1, test=1, steps=1, source="sklearn").train
    assert part.labels["direction"].bincount().min() > 70
    assert part.labels["digit"].bincount().min() > 20


def test_grey_has_one_channel_and_colour_three_equal_ones():
    grey, colour = (digits.load(clips=5, validation=1, test=1, grey=grey, source="sklearn").train for grey in (True, False))
    assert grey.frame_shape == (1, 64, 64)
    assert torch.equal(colour.frames, grey.frames.repeat(1, 3, 1, 1))
    assert colour.frames.untyped_storage().nbytes() == grey.frames.untyped_storage().nbytes()
    assert colour.clips().frames.shape == (5, 16, 3, 64, 64)


def test_the_same_seed_gives_the_same_clips_and_another_others():
    once, again, other = (digits.load(clips=5, validation=1, test=1, seed=seed, source="sklearn").train.frames for seed in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_size_scales_digit_and_path():
    frames = digits.load(clips=20, validation=1, test=1, size=32, source="sklearn").train.frames[:, 0]
    assert frames.shape[1:] == (32, 32)
    rows = (frames > 0).any(2).sum(1)
    assert 10 < rows.float().mean() <= 14
    assert rows.max() <= 14


def test_enlarged_digits_keep_their_light():
    images, _ = digits._sklearn()
    large = digits._resize(images[:200], 28)
    assert large.float().mean().item() == pytest.approx(images[:200].float().mean().item(), rel=0.05)


def test_training_images_come_before_test_images(tmp_path: Path):
    fake_mnist(tmp_path, "t10k", count=20)
    assert digits.load(root=tmp_path, clips=20, validation=4, test=4, steps=1).train.labels["image"].max() < 20
    fake_mnist(tmp_path, "train", count=100, ending="")
    assert digits.load(root=tmp_path, clips=90, validation=5, test=5, steps=1).train.labels["image"].max() > 80


def test_auto_falls_back_to_the_bundled_digits_and_mnist_does_not(tmp_path: Path):
    fallback = digits.load(root=tmp_path, clips=2, validation=1, test=1, steps=1)
    bundled = digits.load(root=tmp_path, clips=2, validation=1, test=1, steps=1, source="sklearn")
    assert torch.equal(fallback.train.frames, bundled.train.frames)
    with pytest.raises(FileRefused, match=r"train-images-idx3-ubyte.gz .*data prepare mnist"):
        digits.load(root=tmp_path, source="mnist")


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 4), (2, 1, 3, 2)])
def test_idx_files_read_as_written(tmp_path: Path, shape: tuple[int, ...], ending: str):
    array = np.arange(math.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(digits.read_idx(write_idx(tmp_path / f"x{ending}", array)), array)


@pytest.mark.parametrize(("data", "message"), [
    (b"", "magic number .* got nothing"),
    (b"\x89PNG____", "magic number .* got 89504e47"),
    (b"\0\0\x0d\x01\0\0\0\1\0\0\0\0", "magic number .* got 00000d01"),
    (b"\0\0\x08\x03\0\0\0\1", "as long as its header says, got 8 bytes"),
    (b"\0\0\x08\x01\0\0\0\4abc", "got 11 bytes where its header says 12"),
    (b"\0\0\x08\x01\0\0\0\2abc", "got 11 bytes where its header says 10"),
    (b"\0\0\x08\x03" + b"\xff" * 12, "got 16 bytes where its header says"),
    (gzip.compress(b"\0\0\x08\x01\0\0\0\1a", mtime=0)[:-6], "readable idx file, got EOFError"),
    (b"\x1f\x8bjunk", "readable idx file"),
])  # fmt: skip
def test_damaged_idx_files_are_refused_by_name(tmp_path: Path, data: bytes, message: str):
    path = tmp_path / "broken-ubyte"
    path.write_bytes(data)
    with pytest.raises(FileRefused, match=message) as refused:
        digits.read_idx(path)
    assert str(path) in str(refused.value)
    assert "data prepare mnist" in str(refused.value)


def test_labels_of_other_images_and_other_arrays_are_refused(tmp_path: Path):
    fake_mnist(tmp_path, count=12)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(11) % 10)
    with pytest.raises(FileRefused, match=r"12 labels from 0 to 9 in .*train-labels-idx1-ubyte.gz"):
        digits.load(root=tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.full(12, 10))
    with pytest.raises(FileRefused, match="labels up to 10"):
        digits.load(root=tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((12, 4, 5)))
    with pytest.raises(FileRefused, match=r"square images \(N, S, S\)"):
        digits.load(root=tmp_path)


@pytest.mark.parametrize("bad", [{"clips": 0}, {"test": 0}, {"steps": 0}, {"size": 8}])
def test_numbers_too_small_are_refused(bad: dict[str, int]):
    with pytest.raises(UserError, match="at least 1 clip of 1 frame"):
        digits.load(source="sklearn", **bad)


@pytest.mark.data
def test_real_mnist_digits_move(real_data: Path):
    splits = digits.load(root=real_data, clips=200, validation=20, test=40, source="mnist")
    pixels = np.frombuffer(gzip.decompress((real_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = gzip.decompress((real_data / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    light = pixels.reshape(10000, -1).sum(1, dtype=np.int64)
    for part in splits:
        image = part.labels["image"]
        assert part.labels["digit"].tolist() == [labels[n] for n in image.tolist()]
        assert torch.equal(whole(part.frames).sum(1).view(-1, 16), torch.from_numpy(light)[image][:, None].expand(-1, 16))
