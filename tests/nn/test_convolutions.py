"""Convolutions whose weights learn faster: their gradients against those of torch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from stillmotion.nn.convolutions import SMALL, Conv2d, ConvTranspose2d, weight_gradient

CASES = [  # kernel, stride, padding, what a transposed one adds, side before
    (4, 2, 1, 0, 16),  # of `light` and of the judge
    (5, 2, 2, 1, 16),
    (4, 2, 0, 0, 18),
    (3, 2, 1, 1, 8),
    (3, 1, 1, 0, 8),
    (4, 1, 0, 0, 4),  # the last of the judge: a kernel that is all there is to see
    (4, 2, 1, 0, 64),  # too large for a product
]
ORDERS = [torch.contiguous_format, torch.channels_last]


def _layers(kernel: int, stride: int, padding: int, more: int, *, bias: bool) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return (
        Conv2d(5, 7, kernel, stride, padding, bias=bias),
        ConvTranspose2d(7, 5, kernel, stride, padding, output_padding=more, bias=bias),
    )


def _frames(kernel: int, stride: int, padding: int, before: int) -> tuple[Tensor, Tensor]:
    after = (before + 2 * padding - kernel) // stride + 1
    return torch.randn(3, 5, before, before), torch.randn(3, 7, after, after)


def _plain(layer: nn.Module) -> nn.Module:
    """The layer of torch with the same weights."""
    plain = copy.deepcopy(layer)
    plain.__class__ = nn.Conv2d if isinstance(layer, Conv2d) else nn.ConvTranspose2d
    return plain


def _gradients(layer: nn.Module, x: Tensor, weights: Tensor | None, *, cast: bool) -> tuple[Tensor, list[Tensor]]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        y = layer(x)
    seen = y.float()
    (seen * (torch.linspace(-1, 1, seen.numel()).view_as(seen) if weights is None else weights)).sum().backward()
    assert x.grad is not None
    return y, [x.grad, *(parameter.grad for parameter in layer.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", CASES)
def test_gradients_in_bfloat16_are_those_of_torch_in_float32(case, order, bias):
    kernel, stride, padding, more, before = case
    for layer, x in zip(_layers(kernel, stride, padding, more, bias=bias), _frames(kernel, stride, padding, before), strict=True):
        x = x.contiguous(memory_format=order)
        mine, found = _gradients(layer.to(memory_format=order), x, None, cast=True)
        truth, expected = _gradients(_plain(layer), x, None, cast=False)
        theirs, rounded = _gradients(_plain(layer), x, None, cast=True)
        assert mine.dtype == theirs.dtype == torch.bfloat16
        assert torch.equal(mine, theirs)
        assert truth.shape == mine.shape
        assert len(found) == len(expected) == 2 + bias
        for one, other, other_way in zip(found, expected, rounded, strict=True):
            error, usual = (one - other).norm() / other.norm(), (other_way - other).norm() / other.norm()
            assert error < max(1.5 * usual, 4e-3)


@pytest.mark.parametrize("case", CASES)
def test_product_is_the_exact_gradient(case):
    kernel, stride, padding, more, before = case
    for layer, x in zip(_layers(kernel, stride, padding, more, bias=False), _frames(kernel, stride, padding, before), strict=True):
        layer, x = layer.double(), x.double()
        y = layer(x)
        gradient = torch.randn_like(y)
        y.backward(gradient)
        large, small = (x, gradient) if isinstance(layer, Conv2d) else (gradient, x)
        found = weight_gradient(large, small, layer.weight.shape, layer.stride, layer.padding)
        assert torch.allclose(found, layer.weight.grad, rtol=1e-10, atol=1e-10)


def test_only_what_learns_in_bfloat16_takes_the_new_way(monkeypatch):
    taken = []
    monkeypatch.setattr("stillmotion.nn.convolutions.weight_gradient", lambda *given: taken.append(1) or weight_gradient(*given))
    layer, x = _layers(4, 2, 1, 0, bias=True)[0], torch.randn(2, 5, 16, 16)
    assert SMALL == 64
    for cast, side, ways in ((False, 16, 0), (True, 16, 1), (True, 32, 0)):
        taken.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            layer(torch.randn(2, 5, side, side)).float().sum().backward()
        assert len(taken) == ways
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not layer(x).requires_grad


def test_frames_without_gradient_and_frozen_layers():
    for layer in _layers(4, 2, 1, 0, bias=True):
        x = torch.rand(2, layer.in_channels, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            layer(x).float().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
        layer.requires_grad_(False).zero_grad()
        x.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            layer(x).float().sum().backward()
        assert x.grad is not None
        assert all(parameter.grad is None for parameter in layer.parameters())


LEFT = [(kind, given) for kind in (Conv2d, ConvTranspose2d) for given in ({"groups": 2}, {"dilation": 2})]
LEFT += [(Conv2d, {"padding_mode": "reflect"}), (Conv2d, {"padding": "same", "stride": 1})]


@pytest.mark.parametrize(("kind", "given"), LEFT)
def test_layers_that_the_product_does_not_know_are_left_to_torch(kind, given):
    x = torch.randn(2, 4, 12, 12)
    layer = kind(4, 6, 3, **{"stride": 2, "padding": 1, **given})
    mine, found = _gradients(layer, x, None, cast=True)
    theirs, expected = _gradients(_plain(layer), x, None, cast=True)
    assert torch.equal(mine, theirs)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_double_precision_and_single_frames_stay_as_torch_has_them():
    layer = _layers(4, 2, 1, 0, bias=True)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(5, 16, 16)).shape == (7, 8, 8)
        assert layer.double()(torch.randn(2, 5, 16, 16, dtype=torch.float64)).dtype == torch.float64
