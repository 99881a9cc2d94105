from __future__ import annotations

import pytest
import torch
from torch import nn

from stillmotion.core.errors import UserError
from stillmotion.nn.frames import Doubled, FrameDecoder, FrameEncoder, Kind


@pytest.mark.parametrize("kind", ["conv", "dense"])
@pytest.mark.parametrize(("size", "colours"), [(16, 1), (32, 3)])
def test_frames_go_to_features_and_codes_to_frames_of_any_leading_axes(kind: Kind, size: int, colours: int) -> None:
    encoder, decoder = FrameEncoder((colours, size, size), kind, 6), FrameDecoder(2, (colours, size, size), kind, 6)
    frames = torch.rand(2, 3, colours, size, size)
    features = encoder(frames)
    assert features.shape == (2, 3, encoder.features)
    assert torch.allclose(features[1, 2], encoder(frames[1:, 2:])[0, 0], atol=1e-6)
    codes = torch.randn(2, 3, 2)
    assert decoder(codes).shape == (2, 3, colours, size, size)
    assert torch.allclose(decoder(codes)[1, 2], decoder(codes[1, 2:])[0], atol=1e-6)


def test_the_published_network_has_three_strided_convolutions_to_512_features() -> None:
    encoder = FrameEncoder((1, 32, 32), "conv", 32)
    convolutions = [part for part in encoder.net if isinstance(part, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (1, 32, (3, 3), (2, 2)), (32, 32, (3, 3), (2, 2)), (32, 32, (3, 3), (2, 2)),
    ]  # fmt: skip
    assert encoder.features == 512


def test_the_published_decoder_shuffles_128_channels_into_32_of_twice_the_size() -> None:
    decoder = FrameDecoder(2, (1, 32, 32), "conv", 32)
    convolutions = [part for part in decoder.net if isinstance(part, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions] == [(32, 128, (3, 3))] * 3 + [(32, 1, (1, 1))]
    assert isinstance(decoder.net[0], nn.Linear)
    assert decoder.net[0].out_features == 512


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_doubling_is_a_pixel_shuffle_of_channels_in_another_order(order: torch.memory_format) -> None:
    x = torch.randn(2, 12, 3, 5).contiguous(memory_format=order)
    shuffled = nn.PixelShuffle(2)(x.unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2))
    assert torch.equal(Doubled()(x), shuffled)


def test_frames_that_do_not_halve_to_four_pixels_are_refused() -> None:
    with pytest.raises(UserError, match="power of two"):
        FrameEncoder((1, 20, 20), "conv", 4)
