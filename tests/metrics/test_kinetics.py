from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.metrics.kinetics import MEAN, KineticsFeatures, middle, prepare
from stillmotion.nn.resnext3d import ResNeXt3d, ResNeXt3dShape

TINY = ResNeXt3dShape(stem=4, widths=(4, 8), blocks=(1, 1), cardinality=2)


def trained(seed: int = 0) -> ResNeXt3d:
    """A tiny network in which every entry, running statistics too, has a value of its own."""
    g = torch.Generator().manual_seed(seed)
    network = ResNeXt3d(TINY)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=g) + (0.1 if "var" in name else -0.4))
    return network.eval()


def published(network: ResNeXt3d) -> dict[str, object]:
    """Entries as in the authors' file: the prefix of DataParallel, a classifier, no counters of batches, the optimiser's state."""
    weights = {f"module.{name}": value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    weights |= {"module.fc.weight": torch.zeros(400, TINY.features), "module.fc.bias": torch.zeros(400)}
    momentum = {"state": {140: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "nesterov": False, "params": [140]}]}
    return {"epoch": 1, "arch": "resnext-101", "state_dict": weights, "optimizer": momentum}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "resnext-101-kinetics.pth"
    torch.save(published(trained()), path)
    return path


def some(count: int = 3, steps: int = 20, size: int = 24, colours: int = 3) -> Clips:
    return Clips.of(torch.rand(count, steps, colours, size, size, generator=torch.Generator().manual_seed(1)))


class Old:
    """A tensor that pickles as PyTorch wrote it in 2017."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        storage = torch.storage.TypedStorage(wrap_storage=self.value.untyped_storage(), dtype=self.value.dtype, _internal=True)
        return torch._utils._rebuild_tensor, (storage, 0, tuple(self.value.shape), self.value.stride())


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_the_published_layout_gives_the_features_of_the_network_it_was_saved_from(file: Path) -> None:
    clips = some(11)
    reader = KineticsFeatures(file, shape=TINY)
    found = reader.features(clips)
    with torch.no_grad():
        assert torch.allclose(found, trained()(prepare(clips)), rtol=1e-4)
    assert found.shape == (11, 16)
    assert float((found[0] - found[1]).abs().max() / found[0].abs().max()) > 1e-3
    assert reader.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_bare_weights_with_counters_do_too(tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / "bare.pth")
    found = KineticsFeatures(tmp_path / "bare.pth", shape=TINY).features(some())
    with torch.no_grad():
        assert torch.allclose(found, trained()(prepare(some())), rtol=1e-4)


def test_a_file_written_on_a_gpu_by_the_pytorch_of_2017_is_read(tmp_path: Path) -> None:
    content = published(trained())
    weights = content["state_dict"]
    assert isinstance(weights, dict)
    content["state_dict"] = {name: Old(value.clone()) for name, value in weights.items()}
    path = tmp_path / "old.pth"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for now, then in ((b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n"), (b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")):
        assert now in data
        data = data.replace(now, then)
    path.write_bytes(data)
    with torch.no_grad():
        assert torch.allclose(KineticsFeatures(path, shape=TINY).features(some()), trained()(prepare(some())), rtol=1e-4)


def test_loading_draws_nothing_from_the_global_generator(file: Path) -> None:
    before = torch.get_rng_state()
    reader = KineticsFeatures(file, shape=TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(value.requires_grad for value in reader.network.parameters())


def test_the_expected_hash_is_checked_before_anything_is_loaded(file: Path) -> None:
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert KineticsFeatures(file, right.upper(), shape=TINY).sha256 == right
    with pytest.raises(FileRefused, match=rf"expected a file of sha256 {'0' * 64}, got .*{file.name} of sha256 {right}.*whole"):
        KineticsFeatures(file, "0" * 64, shape=TINY)


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"none\.pth, which cannot be read.*github\.com/kenshohara"):
        KineticsFeatures(tmp_path / "none.pth")


@pytest.mark.parametrize("content", [b"", b"<html>Quota exceeded</html>"])
def test_what_is_no_torch_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "page.pth"
    path.write_bytes(content)
    with pytest.raises(FileRefused, match=r"a file written by PyTorch, got .*page\.pth, which is none"):
        KineticsFeatures(path, shape=TINY)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_half_a_download_is_refused(tmp_path: Path, archive: bool, share: float) -> None:
    path = tmp_path / "half.pth"
    torch.save(published(trained()), path, _use_new_zipfile_serialization=archive)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FileRefused, match=r"half\.pth, which .*damaged"):
        KineticsFeatures(path, shape=TINY)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(FileRefused, match=r"other\.pth"):
        KineticsFeatures(tmp_path / "other.pth", shape=TINY)


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, archive: bool) -> None:
    path, proof = tmp_path / "bad.pth", tmp_path / "proof"
    torch.save({**published(trained()), "extra": Harmful(proof)}, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(FileRefused, match=r"a file of plain tensors, got .*bad\.pth.*run code"):
        KineticsFeatures(path, shape=TINY)
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (ResNeXt3dShape(stem=4, widths=(4, 8), blocks=(2, 1), cardinality=2), r"lacks layer1\.1\.conv1\.weight \(and 14 more\)"),
        (ResNeXt3dShape(stem=4, widths=(4,), blocks=(1,), cardinality=2), r"has layer2\.0\.conv1\.weight too"),
        (ResNeXt3dShape(stem=4, widths=(4, 8), blocks=(1, 1), cardinality=4), r"has layer1\.0\.conv2\.weight of shape \(4, 2, 3, 3, 3\)"),
    ],
)
def test_the_weights_of_another_network_are_refused(file: Path, other: ResNeXt3dShape, complaint: str) -> None:
    with pytest.raises(FileRefused, match=rf"3D ResNeXt-101.*{file.name}, which {complaint}"):
        KineticsFeatures(file, shape=other)


@pytest.mark.parametrize("content", [torch.zeros(3), {"state_dict": [1, 2]}, {"state_dict": {"conv1.weight": "text"}}, {}])
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(FileRefused, match=r"odd\.pth, which lacks conv1\.weight"):
        KineticsFeatures(tmp_path / "odd.pth", shape=TINY)


def test_frames_become_16_of_112_in_0_to_255_less_the_mean() -> None:
    colour = torch.tensor([0.2, 0.6, 1.0])
    clips = Clips.of(colour.view(3, 1, 1).expand(2, 20, 3, 64, 64).contiguous())
    found = prepare(clips)
    assert found.shape == (2, 3, 16, 112, 112)
    assert torch.allclose(found, (255 * colour - torch.tensor(MEAN)).view(3, 1, 1, 1).expand_as(found), atol=1e-3)


def test_reversed_colours_keep_the_means_in_order() -> None:
    clips = Clips.of(torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1).expand(1, 16, 3, 8, 8).contiguous())
    expected = 255 * torch.tensor([1.0, 0.6, 0.2]) - torch.tensor(MEAN)
    assert torch.allclose(prepare(clips, "bgr")[0, :, 0, 0, 0], expected, atol=1e-3)


def test_grey_clips_are_equal_in_all_three_colours() -> None:
    found = prepare(some(colours=1)) + torch.tensor(MEAN).view(3, 1, 1, 1)
    assert torch.allclose(found[:, :1].expand_as(found), found, atol=1e-4)
    assert found.std() > 1


def test_frames_of_the_right_size_pass_unchanged() -> None:
    clips = some(1, 16, 112)
    found = (prepare(clips) + torch.tensor(MEAN).view(3, 1, 1, 1)) / 255
    assert torch.allclose(found.transpose(1, 2), clips.frames, atol=1e-5)


def test_larger_frames_are_averaged_and_not_picked() -> None:
    board = (torch.arange(448)[:, None] + torch.arange(448)) % 2
    clips = Clips.of(board.float().expand(1, 16, 3, 448, 448).contiguous())
    inner = (prepare(clips) + torch.tensor(MEAN).view(3, 1, 1, 1))[..., 2:-2, 2:-2]
    assert torch.allclose(inner, torch.full_like(inner, 127.5), atol=0.5)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (list(range(20)), list(range(2, 18))),
        (list(range(17)), list(range(16))),
        (list(range(16)), list(range(16))),
        (list(range(5)), [0, 1, 2, 3, 4] * 3 + [0]),
        ([3], [3] * 16),
        ([1, 4, 9], [1, 4, 9] * 5 + [1]),
        (list(range(4, 24)), list(range(6, 22))),
    ],
)
def test_the_frames_in_the_middle_are_read_and_few_are_repeated(there: list[int], expected: list[int]) -> None:
    mask = torch.zeros(2, 24, dtype=torch.bool)
    mask[0, there], mask[1] = True, True
    assert middle(mask).tolist() == [expected, list(range(4, 20))]


def test_padding_has_no_say(file: Path) -> None:
    clips, reader = some(2, 18), KineticsFeatures(file, shape=TINY)
    mask = torch.arange(18) < torch.tensor([[11], [18]])
    frames = clips.frames.clone()
    frames[0, 11:] = 0.77
    alone = reader.features(Clips(clips.frames[:1, :11], torch.ones(1, 11, dtype=torch.bool)))
    assert torch.allclose(reader.features(Clips(frames, mask))[:1], alone, rtol=1e-4)


def test_what_cannot_be_read_says_so(file: Path) -> None:
    with pytest.raises(UserError, match=r"colours of rgb or bgr, got 'grb'"):
        KineticsFeatures(file, colours="grb", shape=TINY)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"clips \(B, T, C, H, W\)"):
        prepare(Clips(torch.zeros(2, 16, 5), torch.ones(2, 16, dtype=torch.bool)))
    with pytest.raises(UserError, match="without frames"):
        prepare(Clips(torch.zeros(2, 16, 3, 8, 8), torch.zeros(2, 16, dtype=torch.bool)))
    with pytest.raises(UserError, match="finite features"):
        KineticsFeatures(file, shape=TINY).features(Clips(torch.full((2, 16, 3, 8, 8), torch.nan), torch.ones(2, 16, dtype=torch.bool)))
