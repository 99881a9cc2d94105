"""Backbones: their layers against the published ones, their shapes, and that every frame is by itself."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stillmotion.core.errors import UserError
from stillmotion.nn.backbones import PLANS, Backbone, BackboneDecoder, BackboneEncoder, FrameNorm

BACKBONES = get_args(Backbone)
SMALL = 1 / 32


def sides(net: nn.Module, kind: type, x: torch.Tensor) -> list[int]:
    """Pixels a side of the output of each layer of a kind, in turn."""
    found: list[int] = []
    for layer in net.modules():
        if isinstance(layer, kind):
            layer.register_forward_hook(lambda _, __, y: found.append(y.shape[-1]))
    net(x)
    return found


def channels(net: nn.Module, kind: type) -> list[int]:
    return [layer.out_channels for layer in net.modules() if isinstance(layer, kind)]


def kernels(net: nn.Module, kind: type) -> list[int]:
    return [layer.kernel_size[0] for layer in net.modules() if isinstance(layer, kind)]


def dense(net: nn.Module) -> list[int]:
    return [layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear)]


def test_the_plans_are_those_of_the_registered_names() -> None:
    assert set(PLANS) == set(BACKBONES)


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of the published widths at no cost: their weights are never drawn."""
    for name in ("kaiming_uniform_", "uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize(
    ("backbone", "published"),
    [
        ("report", ([32, 64, 128, 256], [], [4, 4, 4, 4], 1024)), ("paper", ([256] * 4, [4096, 2048], [5, 5, 5, 5], 2048)),
        ("light", ([64, 128, 256, 512], [128], [4, 4, 4, 4], 128)),
    ],
)  # fmt: skip
def test_the_encoder_has_the_published_layers(backbone: Backbone, published: tuple[list[int], list[int], list[int], int]) -> None:
    net = BackboneEncoder((3, 64, 64), backbone)
    assert (channels(net, nn.Conv2d), dense(net), kernels(net, nn.Conv2d), net.features) == published


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize(
    ("backbone", "published"),
    [
        ("report", ([128, 64, 32, 3], [1024], [4, 4, 5, 4])), ("paper", ([256, 256, 256, 3], [4096, 16384], [5, 5, 5, 5])),
        ("light", ([256, 128, 64, 3], [8192], [4, 4, 4, 4])),
    ],
)  # fmt: skip
def test_the_decoder_has_the_published_layers(backbone: Backbone, published: tuple[list[int], ...]) -> None:
    net = BackboneDecoder(9, (3, 64, 64), backbone)
    assert (channels(net, nn.ConvTranspose2d), dense(net), kernels(net, nn.ConvTranspose2d)) == published


@pytest.mark.parametrize(
    ("backbone", "inwards", "outwards"),
    [
        ("report", [31, 14, 6, 2], [6, 14, 31, 64]), ("paper", [64, 32, 16, 8], [16, 32, 64, 64]),
        ("light", [32, 16, 8, 4], [8, 16, 32, 64]),
    ],
)  # fmt: skip
@torch.no_grad()
def test_pictures_shrink_and_grow_as_published(backbone: Backbone, inwards: list[int], outwards: list[int]) -> None:
    encoder, decoder = BackboneEncoder((3, 64, 64), backbone, SMALL), BackboneDecoder(9, (3, 64, 64), backbone, SMALL)
    assert sides(encoder, nn.Conv2d, torch.rand(1, 3, 64, 64)) == inwards
    assert sides(decoder, nn.ConvTranspose2d, torch.randn(1, 9)) == outwards


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_frames_of_every_size_go_in_and_come_out(backbone: Backbone, size: int) -> None:
    encoder, decoder = BackboneEncoder((1, size, size), backbone, SMALL), BackboneDecoder(5, (1, size, size), backbone, SMALL)
    assert encoder(torch.rand(2, 3, 1, size, size)).shape == (2, 3, encoder.features)
    logits = decoder(torch.randn(2, 3, 5))
    assert logits.shape == (2, 3, 1, size, size)
    assert bool((logits.std((0, 1, 2)) > 0).all()), "every pixel depends on the code"


@pytest.mark.parametrize("backbone", ["paper", "light"])
@torch.no_grad()
def test_codes_scale_and_shift_the_channels_after_every_norm_of_a_modulated_decoder(backbone: Backbone) -> None:
    net, codes = BackboneDecoder(5, (3, 16, 16), backbone, SMALL, modulated=True), torch.randn(4, 5)
    hidden, _, last = net.style
    numbers = F.leaky_relu(codes @ hidden.weight.T + hidden.bias, 0.2) @ last.weight.T + last.bias
    x = codes
    for part in net.net:
        x = part(x)
        if isinstance(part, FrameNorm):
            channels = x.shape[1]
            scale, shift, numbers = numbers[:, :channels], numbers[:, channels : 2 * channels], numbers[:, 2 * channels :]
            x = torch.einsum("bchw,bc->bchw", x, 1 + scale) + shift.view(4, channels, 1, 1)
    assert numbers.shape == (4, 0), "there is a scale and a shift for every channel, and nothing else"
    torch.testing.assert_close(net(codes), x)


@torch.no_grad()
def test_a_modulated_decoder_that_says_nothing_is_the_plain_one() -> None:
    plain, net = (BackboneDecoder(5, (3, 16, 16), "light", SMALL, modulated=modulated) for modulated in (False, True))
    net.load_state_dict(plain.state_dict(), strict=False)
    codes = torch.randn(2, 3, 5)
    torch.testing.assert_close(net(codes), plain(codes), atol=0.2, rtol=0)
    assert not torch.allclose(net(codes), plain(codes), atol=1e-3), "it begins with little, not with nothing"
    for parameter in net.style.parameters():
        parameter.zero_()
    torch.testing.assert_close(net(codes), plain(codes))


@torch.no_grad()
def test_the_first_pixels_are_those_asked_for() -> None:
    net = BackboneDecoder(5, (3, 16, 16), "light", SMALL, first_pixel=0.05)
    for parameter in net.net[-1].parameters():
        if parameter.ndim > 1:
            parameter.zero_()
    torch.testing.assert_close(net(torch.randn(2, 5)).sigmoid(), torch.full((2, 3, 16, 16), 0.05))


@torch.no_grad()
def test_the_smallest_frames_have_no_layer_to_modulate() -> None:
    net = BackboneDecoder(5, (3, 8, 8), "light", SMALL, modulated=True)
    assert net.style is None
    assert net(torch.randn(2, 5)).shape == (2, 3, 8, 8)


def test_a_decoder_without_norms_cannot_be_modulated() -> None:
    with pytest.raises(UserError, match="a backbone that normalises, for a modulated decoder, got 'report'"):
        BackboneDecoder(5, (3, 64, 64), "report", SMALL, modulated=True)


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_width_scales_all_channels_in_eights(backbone: Backbone) -> None:
    whole, half, least = (BackboneEncoder((3, 64, 64), backbone, width) for width in (1.0, 0.5, 1e-6))
    assert channels(half, nn.Conv2d) == [value // 2 for value in channels(whole, nn.Conv2d)]
    assert set(channels(least, nn.Conv2d)) == {8}


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_a_frame_in_training_does_not_know_of_the_others(backbone: Backbone) -> None:
    encoder, decoder = BackboneEncoder((3, 16, 16), backbone, SMALL).train(), BackboneDecoder(5, (3, 16, 16), backbone, SMALL).train()
    frames, codes = torch.rand(4, 2, 3, 16, 16), torch.randn(4, 2, 5)
    torch.testing.assert_close(encoder(frames)[1:2], encoder(frames[1:2]))
    torch.testing.assert_close(decoder(codes)[1:2], decoder(codes[1:2]))


def test_frames_are_normalised_in_float32_whatever_comes() -> None:
    norm, x = FrameNorm(2, 8), (5 + 3 * torch.randn(3, 8, 4, 4)).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    groups = x.float().view(3, 2, 64)
    expected = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(y.float(), expected.view(3, 8, 4, 4), atol=0.02, rtol=0.01)
    torch.testing.assert_close(norm(x.float()), F.group_norm(x.float(), 2))


@pytest.mark.parametrize("part", [BackboneEncoder, lambda *rest: BackboneDecoder(4, *rest)])
def test_a_size_that_is_no_power_of_two_is_refused(part: type[BackboneEncoder]) -> None:
    with pytest.raises(UserError, match="a frame size that is a power of two from 8 up, got 24"):
        part((3, 24, 24), "light")
