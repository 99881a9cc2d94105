from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.resnext3d import Block, ResNeXt3d, ResNeXt3dShape

TINY = ResNeXt3dShape(stem=4, widths=(4, 8), blocks=(1, 2), cardinality=2)


@pytest.fixture(scope="module")
def published() -> ResNeXt3d:
    """At full size, without memory behind it."""
    with torch.device("meta"):
        return ResNeXt3d(ResNeXt3dShape())


def shaken(module: nn.Module) -> nn.Module:
    """In eval mode, with no entry of weights and running statistics at a value that hides a mistake."""
    g = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=g) + 0.5 if "var" in name else 0.5 * torch.randn(value.shape, generator=g))
    return module.eval()


def by_hand(block: Block, x: Tensor, groups: int, stride: int) -> Tensor:
    """A block with each group of channels convolved on its own and batch norm written out."""
    w = dict(block.state_dict())

    def norm(name: str, y: Tensor) -> Tensor:
        scale = w[f"{name}.weight"] / torch.sqrt(w[f"{name}.running_var"] + 1e-5)
        return scale.view(-1, 1, 1, 1) * (y - w[f"{name}.running_mean"].view(-1, 1, 1, 1)) + w[f"{name}.bias"].view(-1, 1, 1, 1)

    y = norm("bn1", torch.einsum("oi,bithw->bothw", w["conv1.weight"].flatten(1), x)).clamp(min=0)
    kernels = w["conv2.weight"].chunk(groups)
    padded = [F.pad(part, (1,) * 6) for part in y.chunk(groups, 1)]
    windows = [part.unfold(2, 3, stride).unfold(3, 3, stride).unfold(4, 3, stride) for part in padded]
    y = torch.cat([torch.einsum("oiklm,bithwklm->bothw", k, window) for k, window in zip(kernels, windows, strict=True)], 1)
    y = norm("bn3", torch.einsum("oi,bithw->bothw", w["conv3.weight"].flatten(1), norm("bn2", y).clamp(min=0)))
    if "downsample.0.weight" in w:
        x = torch.einsum("oi,bithw->bothw", w["downsample.0.weight"].flatten(1), x[:, :, ::stride, ::stride, ::stride])
        x = norm("downsample.1", x)
    return (y + x).clamp(min=0)


@pytest.mark.parametrize(("before", "stride"), [(6, 1), (6, 2), (16, 1), (16, 2)])
def test_a_block_is_what_it_is_when_written_out(before: int, stride: int) -> None:
    block = Block(before, 8, cardinality=4, stride=stride)
    shaken(block)
    x = torch.randn(2, before, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(block(x), by_hand(block, x, 4, stride), atol=1e-4)


def test_only_a_block_that_keeps_the_shape_has_a_plain_shortcut() -> None:
    assert Block(16, 8, 4, 1).downsample is None
    assert Block(16, 8, 4, 2).downsample is not None
    assert Block(8, 8, 4, 1).downsample is not None


def test_the_whole_is_its_stem_its_blocks_and_the_mean() -> None:
    network = ResNeXt3d(TINY)
    shaken(network)
    w = network.state_dict()
    x = torch.randn(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = F.conv3d(x, w["conv1.weight"], stride=(1, 2, 2), padding=3)
        y = F.batch_norm(y, w["bn1.running_mean"], w["bn1.running_var"], w["bn1.weight"], w["bn1.bias"]).clamp(min=0)
        y = F.pad(y, (1,) * 6).unfold(2, 3, 2).unfold(3, 3, 2).unfold(4, 3, 2).amax((5, 6, 7))
        for name, stride in (("layer1.0", 1), ("layer2.0", 2), ("layer2.1", 1)):
            block = network.get_submodule(name)
            assert isinstance(block, Block)
            y = by_hand(block, y, 2, stride)
        found = network(x)
    assert found.shape == (2, TINY.features) == (2, 16)
    assert torch.allclose(found, y.mean((2, 3, 4)), atol=1e-4)


def test_at_full_size_names_and_shapes_are_the_published_ones(published: ResNeXt3d) -> None:
    expected = {"conv1.weight": (64, 3, 7, 7, 7), "bn1.weight": (64,)}
    before = 64
    for stage, (width, count) in enumerate([(128, 3), (256, 4), (512, 23), (1024, 3)], 1):
        expected[f"layer{stage}.0.downsample.0.weight"] = (2 * width, before, 1, 1, 1)
        expected[f"layer{stage}.0.downsample.1.weight"] = (2 * width,)
        for block in range(count):
            name = f"layer{stage}.{block}"
            expected[f"{name}.conv1.weight"] = (width, before, 1, 1, 1)
            expected[f"{name}.conv2.weight"] = (width, width // 32, 3, 3, 3)
            expected[f"{name}.conv3.weight"] = (2 * width, width, 1, 1, 1)
            expected |= {f"{name}.bn{n}.weight": (size,) for n, size in ((1, width), (2, width), (3, 2 * width))}
            before = 2 * width
    found = {name: tuple(value.shape) for name, value in published.named_parameters() if not name.endswith("bias")}
    assert found == expected
    assert sum(value.numel() for value in published.parameters()) == 47_521_216


def test_sixteen_frames_of_112_become_2048_features(published: ResNeXt3d) -> None:
    sizes = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        published.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    with torch.no_grad():
        found = published.eval()(torch.empty(2, 3, 16, 112, 112, device="meta"))
    assert found.shape == (2, 2048)
    assert sizes == {"layer1": (256, 8, 28, 28), "layer2": (512, 4, 14, 14), "layer3": (1024, 2, 7, 7), "layer4": (2048, 1, 4, 4)}
