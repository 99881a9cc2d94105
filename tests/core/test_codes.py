"""Codes and their Gaussians."""

from __future__ import annotations

import pytest
import torch

from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError


def codes(count: int, seed: int = 0, steps: int = 3) -> Codes:
    g = torch.Generator().manual_seed(seed)

    def gaussian(*shape: int) -> Gaussian:
        return Gaussian(torch.randn(shape, generator=g), torch.rand(shape, generator=g) + 0.1)

    static, dynamic, path = gaussian(count, 4), gaussian(count, 2), gaussian(count, steps, 5)
    mask = torch.ones(count, steps, dtype=torch.bool)
    controls = torch.randn(count, steps + 1, 2, generator=g)
    return Codes(static.mean, dynamic.mean, path.mean, mask, static, dynamic, path, controls)


def test_without_a_generator_a_sample_is_the_mean() -> None:
    gaussian = Gaussian(torch.randn(3, 2), torch.ones(3, 2))
    assert gaussian.sample(None) is gaussian.mean


def test_on_a_grid_the_mean_is_the_nearest_multiple_and_gradients_see_through() -> None:
    mean = torch.tensor([0.0, 0.09, 0.11, -0.31, 2.5], requires_grad=True)
    found = Gaussian(mean, torch.ones(5)).on_grid(0.2)
    torch.testing.assert_close(found.mean, torch.tensor([0.0, 0.0, 0.2, -0.4, 2.4]))
    (gradient,) = torch.autograd.grad((found.mean * torch.arange(5.0)).sum(), mean)
    assert gradient.tolist() == [0, 1, 2, 3, 4]


def test_a_grid_of_no_width_is_none() -> None:
    gaussian = Gaussian(torch.randn(3, 2), torch.ones(3, 2))
    assert gaussian.on_grid(0) is gaussian


def test_gaussians_of_frames_and_of_stretches_become_one() -> None:
    each = [Gaussian(torch.randn(3, 2), torch.rand(3, 2)) for _ in range(4)]
    clip = Gaussian.along(each)
    assert clip.mean.shape == clip.scale.shape == (3, 4, 2)
    assert torch.equal(clip.mean[:, 2], each[2].mean)
    assert torch.equal(clip.scale[:, 3], each[3].scale)
    parts = Gaussian(clip.mean[:, :3], clip.scale[:, :3]), Gaussian(clip.mean[:, 3:], clip.scale[:, 3:])
    again = Gaussian.joined(parts, 1)
    assert torch.equal(again.mean, clip.mean)
    assert torch.equal(again.scale, clip.scale)


def test_samples_have_the_moments_of_the_gaussian() -> None:
    mean, scale = torch.tensor([-2.0, 0.5]), torch.tensor([0.1, 3.0])
    count = 40000
    draws = Gaussian(mean.expand(count, 2), scale.expand(count, 2)).sample(torch.Generator().manual_seed(0))
    error = 5 / count**0.5
    assert ((draws.mean(0) - mean).abs() < error * scale).all()
    assert ((draws.std(0) - scale).abs() < error * scale).all()
    assert abs(torch.corrcoef(draws.T)[0, 1]) < error


def test_samples_carry_the_gradient_of_mean_and_scale() -> None:
    mean, scale = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(5))
    Gaussian(mean, scale).sample(torch.Generator().manual_seed(5)).sum().backward()
    assert mean.grad is not None
    assert scale.grad is not None
    torch.testing.assert_close(mean.grad, torch.ones(2, 3))
    torch.testing.assert_close(scale.grad, noise)


def test_a_swap_takes_the_static_part_and_nothing_else() -> None:
    mine, other = codes(3, 0), codes(3, 1)
    swapped = mine.with_static_of(other)
    assert swapped.static is other.static
    assert swapped.static_posterior is other.static_posterior
    for name in ("dynamic", "path", "mask", "dynamic_posterior", "path_posterior"):
        assert getattr(swapped, name) is getattr(mine, name)


def test_a_swap_of_different_numbers_of_clips_is_refused() -> None:
    with pytest.raises(UserError, match=r"as many identities as movements \(3\), got 2"):
        codes(3).with_static_of(codes(2))


@pytest.mark.parametrize(("mine", "other"), [(Codes(), codes(1)), (codes(1), Codes())])
def test_a_swap_without_static_parts_is_refused(mine: Codes, other: Codes) -> None:
    with pytest.raises(UserError, match="codes with a static part, got codes without one"):
        mine.with_static_of(other)


def leaves(value: Codes) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    for part in vars(value).values():
        tensors += [part.mean, part.scale] if isinstance(part, Gaussian) else [part]
    return tensors


def test_an_index_reaches_every_part() -> None:
    whole, index = codes(4), torch.tensor([3, 1])
    for before, after in zip(leaves(whole), leaves(whole[index]), strict=True):
        assert torch.equal(torch.stack([before[3], before[1]]), after)


def test_cat_undoes_slicing() -> None:
    whole = codes(5)
    for before, after in zip(leaves(whole), leaves(Codes.cat([whole[0:2], whole[2:5]])), strict=True):
        assert torch.equal(before, after)


def test_cat_leaves_out_what_one_part_lacks() -> None:
    joined = Codes.cat([Codes(static=torch.zeros(2, 4)), codes(1)])
    assert joined.static is not None
    assert joined.static.shape == (3, 4)
    assert joined.path is None


def test_controls_are_zero_where_they_end() -> None:
    u = torch.arange(6.0).view(1, 3, 2) + 1
    assert Codes().controls_until(4) is None
    short, long = Codes(controls=u).controls_until(2), Codes(controls=u).controls_until(4)
    assert short is not None
    assert long is not None
    assert short.tolist() == [[[1, 2], [3, 4]]]
    assert long.tolist() == [[[1, 2], [3, 4], [5, 6], [0, 0]]]


def test_controls_of_another_width_than_wanted_are_refused() -> None:
    codes = Codes(controls=torch.ones(1, 3, 2))
    assert codes.controls_until(4, 2) is not None
    assert Codes().controls_until(4, 2) is None
    with pytest.raises(UserError, match="3 controls in each frame, got 2"):
        codes.controls_until(4, 3)
