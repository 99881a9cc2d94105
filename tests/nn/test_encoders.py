"""The antialiased frame encoder against plain convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oracles import convolutions
from stillmotion.core.errors import UserError
from stillmotion.nn.blur import BlurPool, binomial_matrix
from stillmotion.nn.encoders import AntialiasedEncoder, doublings

CHANNELS = {8: (3, 5), 16: (3, 4, 5), 32: (2, 3, 4, 5)}


@pytest.mark.parametrize("size", [3, 4, 7, 8, 15, 31, 63])
def test_the_blur_is_a_depthwise_convolution_over_reflected_borders(size: int) -> None:
    x = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    ours, theirs = BlurPool(size).double()(x), convolutions.blurred_stride(x)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(theirs)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), x)
    (reference,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(gradient, reference)


@pytest.mark.parametrize("size", [3, 7, 15])
def test_the_blur_keeps_a_flat_image_flat(size: int) -> None:
    assert torch.equal(binomial_matrix(size).sum(1), torch.ones((size + 1) // 2))


def encoder(size: int, slope: float = 0.2) -> AntialiasedEncoder:
    torch.manual_seed(0)
    return AntialiasedEncoder((3, size, size), CHANNELS[size], slope)


@pytest.mark.parametrize("slope", [0.2, 1.0])
@pytest.mark.parametrize("size", CHANNELS)
def test_the_encoder_is_the_stack_of_the_supplement(size: int, slope: float) -> None:
    net = encoder(size, slope).double()
    frames = torch.rand(2, 3, 3, size, size, dtype=torch.float64)
    kernels = [(conv.weight, conv.bias) for conv in [*net.convolutions, net.last]]
    expected = convolutions.encode(frames.flatten(0, 1), kernels, slope)  # type: ignore[arg-type]
    features = net(frames)
    assert features.shape == (2, 3, 5)
    torch.testing.assert_close(features.flatten(0, 1), expected)


@pytest.mark.parametrize("size", CHANNELS)
def test_pooled_maps_are_those_before_the_last_blur(size: int) -> None:
    net = encoder(size).double()
    frames = torch.rand(2, 3, 3, size, size, dtype=torch.float64)
    x = frames.flatten(0, 1)
    for k, conv in enumerate(net.convolutions):
        x = nn.functional.leaky_relu(conv(convolutions.blurred_stride(x) if k else x), 0.2)  # type: ignore[operator]
    features, pooled = net.with_pooled(frames)
    assert torch.equal(features, net(frames))
    assert pooled.shape == (2, 3, 2 * CHANNELS[size][-2])
    expected = torch.stack([torch.cat([one.flatten(1).mean(1), one.flatten(1).max(1).values]) for one in x])
    torch.testing.assert_close(pooled.flatten(0, 1), expected)


@torch.no_grad()
def test_pooled_maps_tell_who_is_there_and_hardly_where() -> None:
    torch.manual_seed(0)
    net = AntialiasedEncoder((3, 64, 64), (8, 8, 8, 8, 8))
    for conv in net.convolutions:
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # the black around a thing then says nothing
    frames, (thing, other) = torch.zeros(3, 3, 64, 64), torch.rand(2, 3, 9, 9).round()
    frames[0, :, 24:33, 24:33] = frames[1, :, 32:41, 32:41] = thing
    frames[2, :, 24:33, 24:33] = other

    def moved_by_changed(codes: torch.Tensor) -> float:
        return float((codes[1] - codes[0]).norm() / (codes[2] - codes[0]).norm())

    features, pooled = net.with_pooled(frames)
    assert moved_by_changed(pooled) < 0.2
    assert moved_by_changed(features) > 1


def test_64_pixels_pass_the_sizes_of_the_supplement() -> None:
    net = AntialiasedEncoder((3, 64, 64), (1, 1, 1, 1, 6))
    sizes: list[int] = []
    for module in [*net.convolutions, *net.blurs]:
        module.register_forward_hook(lambda _module, _inputs, out: sizes.append(out.shape[-1]))
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 6)
    assert sizes == [63, 32, 31, 16, 15, 8, 7, 4]
    assert net.last.weight.shape == (6, 1, 4, 4), "the last one sees all there is"


def test_with_slope_1_the_encoder_is_linear_and_otherwise_not() -> None:
    a, b = torch.rand(2, 4, 3, 8, 8, dtype=torch.float64)

    def bend(net: nn.Module) -> float:
        return float((net(a) + net(b) - net(a + b) - net(torch.zeros_like(a))).detach().abs().max())

    assert bend(encoder(8, 1.0).double()) < 1e-12
    assert bend(encoder(8, 0.2).double()) > 1e-3


def test_each_frame_is_encoded_by_itself() -> None:
    net, frames = encoder(8), torch.rand(2, 3, 3, 8, 8)
    torch.testing.assert_close(net(frames)[1, 2], net(frames[1:, 2:])[0, 0])


def test_the_frames_are_left_as_they_are() -> None:
    frames = torch.rand(2, 3, 8, 8)
    before = frames.clone()
    encoder(8)(frames).sum().backward()
    assert torch.equal(frames, before)


def test_a_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected 3 channel numbers for 16 x 16 frames, got 2: \(4, 4\)"):
        AntialiasedEncoder((3, 16, 16), (4, 4))


@pytest.mark.parametrize("size", [0, 1, 4, 12, 63, 65])
def test_sizes_that_do_not_double_from_4_are_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"a power of two from 8 up, got {size}. Choose 64"):
        doublings(size)


def test_doublings_count_from_4() -> None:
    assert [doublings(size) for size in (8, 16, 32, 64, 128)] == [1, 2, 3, 4, 5]
