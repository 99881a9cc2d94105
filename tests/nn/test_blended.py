"""The blended decoder against transposed convolutions on weights blended clip by clip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oracles import convolutions
from stillmotion.core.errors import UserError
from stillmotion.nn import blended
from stillmotion.nn.blended import BlendedDecoder, blend, grow, overlap_add

SLOPE = 0.01


def decoder(experts: int = 3, size: int = 16, channels: tuple[int, ...] = (5, 4), inputs: int = 6) -> BlendedDecoder:
    torch.manual_seed(0)
    net = BlendedDecoder(experts, inputs, channels, (3, size, size), SLOPE)
    for bias in net.biases:
        torch.nn.init.normal_(bias)
    return net


def inputs(experts: int = 3, clips: int = 2, steps: int = 3, width: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    mix = torch.softmax(torch.randn(clips, experts, generator=g), 1)
    return mix.requires_grad_(), torch.randn(clips, steps, width, generator=g).requires_grad_()


def reference(net: BlendedDecoder, mix: Tensor, code: Tensor) -> Tensor:
    return convolutions.decode(mix, code, list(net.weights), list(net.biases), SLOPE)


@pytest.mark.parametrize(("size", "channels"), [(8, (5,)), (16, (5, 4)), (32, (4, 3, 2))])
@pytest.mark.parametrize("experts", [1, 3])
def test_the_decoder_is_transposed_convolutions_with_blended_kernels(size: int, channels: tuple[int, ...], experts: int) -> None:
    net, (mix, code) = decoder(experts, size, channels), inputs(experts)
    logits = net(mix, code)
    assert logits.shape == (2, 3, 3, size, size)
    torch.testing.assert_close(logits, reference(net, mix, code), rtol=1e-4, atol=1e-5)


def test_its_gradients_are_those_of_the_convolutions() -> None:
    net, (mix, code) = decoder().double(), inputs()
    mix, code = mix.detach().double().requires_grad_(), code.detach().double().requires_grad_()
    ours, theirs = net(mix, code), reference(net, mix, code)
    weight = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(2))
    wanted = [mix, code, *net.parameters()]
    for one, other in zip(
        torch.autograd.grad((ours * weight).sum(), wanted), torch.autograd.grad((theirs * weight).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("at_once", [1, 1 << 20])
@pytest.mark.parametrize("slope", [1.0, 0.01, 0.3])
@pytest.mark.parametrize(("clips", "steps", "size", "width"), [(1, 1, 1, 1), (3, 2, 2, 2), (1, 2, 3, 1)])
def test_a_layer_has_the_gradient_of_its_values(
    clips: int, steps: int, size: int, width: int, slope: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blended, "PATCHES", at_once)
    g = torch.Generator().manual_seed(0)
    shapes = (clips, steps * size * size, 3), (clips, 3, 16 * width), (clips, width)
    parts = [torch.randn(shape, dtype=torch.float64, generator=g, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *inputs: grow(*inputs, slope, steps), parts, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("at_once", [1, 3 * 16 * 16 * 8])
def test_a_layer_gives_the_same_however_many_clips_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, (mix, code) = decoder(), inputs()
    whole = net(mix, code)
    wanted = torch.autograd.grad(whole.square().sum(), [code, *net.parameters()])
    monkeypatch.setattr(blended, "PATCHES", at_once)
    again = net(mix, code)
    torch.testing.assert_close(again, whole)
    torch.testing.assert_close(torch.autograd.grad(again.square().sum(), [code, *net.parameters()]), wanted)


@pytest.mark.parametrize(("a", "b", "p", "q"), [(0, 0, 1, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 1, 0, 0)])
def test_one_entry_of_a_patch_lands_on_row_2a_plus_p_and_column_2b_plus_q(a: int, b: int, p: int, q: int) -> None:
    patches = torch.zeros(1, 4, 4, 2, 2, 2, 2, 1)
    patches[0, 1, 2, a, b, p, q] = 1
    pixels = overlap_add(patches.view(1, 4, 4, 16), torch.zeros(1, 1), 1.0)[0, :, :, 0]
    # kernel 4, stride 2, padding 1: input pixel (1, 2) starts at output pixel (1, 3)
    assert pixels.nonzero().tolist() == [[1 + 2 * a + p, 3 + 2 * b + q]]


def test_each_clip_has_a_decoder_of_its_own() -> None:
    net, (mix, code) = decoder(), inputs()
    torch.testing.assert_close(net(mix, code)[1:], net(mix[1:], code[1:]))


def test_a_peaked_mixture_is_one_expert() -> None:
    net, (_, code) = decoder(), inputs()
    lone = decoder(1)
    for bank, single in zip(net.parameters(), lone.parameters(), strict=True):
        single.data = bank.data[1:2]
    torch.testing.assert_close(net(torch.tensor([[0.0, 1.0, 0.0]]).expand(2, 3), code), lone(torch.ones(2, 1), code))


def test_in_bfloat16_the_logits_stay_close_and_come_back_in_float32() -> None:
    net, (mix, code) = decoder(), inputs()
    exact = net(mix, code)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = net(mix, code)
    assert rough.dtype == torch.float32
    error = float((rough - exact).detach().square().mean().sqrt() / exact.detach().std())
    assert 0 < error < 0.03
    rough.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in net.parameters())


def test_on_a_cpu_the_last_layer_is_added_up_in_float32_whatever_it_was_multiplied_in(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (mix, code) = decoder(size=32, channels=(4, 3, 2)), inputs()
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(patches: Tensor, bias: Tensor, slope: float) -> Tensor:
        seen.append((patches, bias))
        return overlap_add(patches, bias, slope)

    monkeypatch.setattr(blended, "overlap_add", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(mix, code)
    assert [patches.dtype for patches, _ in seen] == [torch.bfloat16, torch.bfloat16, torch.float32]
    patches, bias = seen[-1]
    assert torch.equal(patches, patches.bfloat16().float())  # the product itself was in low precision
    exact = overlap_add(patches.double(), bias.double(), 1.0).view(2, 3, 32, 32, 3).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(logits.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("piece", [1, 5, 12, 100])
@pytest.mark.parametrize("trained", [True, False])
def test_a_blend_is_the_weighted_sum_of_the_experts_whatever_the_pieces(piece: int, trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blended, "PIECE", piece)
    g = torch.Generator().manual_seed(0)
    mix = torch.rand(2, 3, dtype=torch.float64, generator=g, requires_grad=True)
    bank = torch.randn(3, 3, 4, dtype=torch.float64, generator=g, requires_grad=trained)
    torch.testing.assert_close(blend(mix, bank, torch.float64), torch.einsum("bk,kij->bij", mix, bank))
    assert torch.autograd.gradcheck(lambda *inputs: blend(*inputs, torch.float64), (mix, bank), atol=1e-9, rtol=1e-6)


def test_a_blend_in_low_precision_has_gradients_in_the_precision_of_its_parts() -> None:
    g = torch.Generator().manual_seed(0)
    mix = torch.rand(2, 3, generator=g, requires_grad=True)
    bank = torch.randn(3, 40, generator=g, requires_grad=True)
    weight = torch.randn(2, 40, generator=g)
    rough = blend(mix, bank, torch.bfloat16)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), mix @ bank, rtol=0.02, atol=0.02)
    ours = torch.autograd.grad((rough * weight).sum(), (mix, bank))
    theirs = torch.autograd.grad((mix @ bank * weight).sum(), (mix, bank))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


@pytest.mark.parametrize("share", ["uniform", "one expert"])
def test_a_new_decoder_keeps_the_spread_of_its_input(share: str) -> None:
    """Forty independent experts would shrink a uniform blend to 1 / sqrt(40) = 0.16 of the spread in each layer."""
    torch.manual_seed(0)
    net = BlendedDecoder(40, 64, (64, 48, 32), (3, 32, 32), SLOPE)
    mix = torch.full((40,), 1 / 40) if share == "uniform" else torch.eye(40)[7]
    code = torch.randn(20, 64)
    before, ratios = code.square().mean().sqrt(), []
    for layer in convolutions.layers(mix, code, list(net.weights), list(net.biases), SLOPE):
        middle = layer[:, :, layer.shape[2] // 4 : -layer.shape[2] // 4, layer.shape[2] // 4 : -layer.shape[2] // 4]
        ratios.append(float(middle.detach().square().mean().sqrt() / before))
        # a ReLU halves the mean square, which the gain of the next layer makes good: compare pre-activations
        before = middle.detach().square().mean().sqrt()
    ratios[0] /= 2**0.5  # the code has passed no ReLU
    low, high = (0.55, 0.95) if share == "uniform" else (0.8, 1.25)
    assert all(low < ratio < high for ratio in ratios), ratios


def test_all_biases_start_at_zero() -> None:
    assert not any(bias.any() for bias in BlendedDecoder(2, 3, (4,), (1, 8, 8)).biases)


def test_a_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected 2 channel numbers for 16 x 16 frames, got 1: \(4,\)"):
        BlendedDecoder(2, 3, (4,), (1, 16, 16))
