from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from stillmotion.core.errors import UserError
from stillmotion.recipes.bias_descent import LAYERS, begin, fit, log_joint, one_draw, read
from stillmotion.recipes.bias_world import Posterior, Scales, draw, elbo, log_likelihood, moments, scales


def sequences(count: int = 50, seed: int = 0) -> torch.Tensor:
    return draw(scales(2, 0.5, 0.5), count, torch.Generator().manual_seed(seed))


def test_the_joint_density_is_the_product_of_its_parts() -> None:
    f, z, x = torch.randn(2, 5, 2), torch.randn(2, 5, 3, 2), torch.randn(2, 5, 3, 2)
    worlds = Scales(torch.tensor([2.0, 1.0]), torch.tensor([0.5, 0.3]), torch.tensor([0.5, 2.0]))
    for world in range(2):
        total = Normal(0, worlds.f[world]).log_prob(f[world]).sum(1) + Normal(0, worlds.z[world]).log_prob(z[world, :, 0]).sum(1)
        for t in range(3):
            total += Normal(f[world] + z[world, :, t], worlds.x[world]).log_prob(x[world, :, t]).sum(1)
        for t in range(2):
            total += Normal(z[world, :, t], worlds.z[world]).log_prob(z[world, :, t + 1]).sum(1)
        torch.testing.assert_close(log_joint(worlds, f, z, x)[world], total.mean())


@pytest.mark.parametrize("posterior", ["dsa", "factorised", "full"])
def test_many_draws_of_a_bound_lie_below_the_likelihood_by_the_entropy_of_what_is_drawn(posterior: Posterior) -> None:
    """log p(f, z, x) - log q(f, z | x), with log q from the densities of what was drawn, has the same mean."""
    generator = torch.Generator().manual_seed(0)
    x, worlds = sequences(4).float()[None], Scales(*(torch.tensor([value]) for value in (2.0, 0.5, 0.5)))
    heads = read(posterior, {name: value.detach() for name, value in begin(posterior, 1, generator).items()}, x)
    ours, other = [], []
    for _ in range(400):
        noise = torch.randn(1, 4, 8, generator=generator)
        mean, log_variance = heads.static.chunk(2, -1)
        q = Normal(mean, (0.5 * log_variance).exp())
        f = mean + q.stddev * noise[..., :2]
        path = heads.path if heads.of_static is None else heads.path + f @ heads.of_static
        q_z = Normal(path[..., :6], (0.5 * path[..., 6:]).exp())
        z = q_z.mean + q_z.stddev * noise[..., 2:]
        log_q = q.log_prob(f).sum(-1) + q_z.log_prob(z).sum(-1)
        other.append(log_joint(worlds, f, z.view(1, 4, 3, 2), x) - log_q.mean(1))
        ours.append(one_draw(heads, x, worlds, noise))
    apart = torch.stack(ours) - torch.stack(other)
    assert abs(apart.mean().item()) < 5 * apart.std().item() / 400**0.5


def test_dsa_reads_each_frame_by_itself_and_with_the_same_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    parameters, x = begin("dsa", 3, generator), torch.randn(3, 7, 3, 2)
    path = read("dsa", parameters, x).path.view(3, 7, 2, 3, 2)
    changed = x.clone()
    changed[:, :, 2] += 1
    after = read("dsa", parameters, changed).path.view(3, 7, 2, 3, 2)
    assert torch.equal(path[:, :, :, :2], after[:, :, :, :2])
    assert not torch.equal(path[:, :, :, 2], after[:, :, :, 2])
    turned = read("dsa", parameters, x.flip(2)).path.view(3, 7, 2, 3, 2)
    torch.testing.assert_close(turned.flip(3), path)


def test_what_stays_is_read_linearly_from_all_frames() -> None:
    parameters, x = begin("dsa", 2, torch.Generator().manual_seed(0)), torch.randn(2, 5, 3, 2)
    zero, one, two = (read("dsa", parameters, factor * x).static for factor in (0, 1, 2))
    torch.testing.assert_close(two - one, one - zero)
    for t in range(3):
        changed = x.clone()
        changed[:, :, t] += 1
        assert not torch.allclose(read("dsa", parameters, changed).static, one)


@pytest.mark.parametrize("posterior", ["dsa", "factorised", "full"])
def test_gradient_descent_comes_to_the_closed_form(posterior: Posterior) -> None:
    x = sequences(50, seed=1)
    worlds = scales(2, 0.5, 0.5).sweep("x", torch.tensor([1.0]))
    fitted = fit(posterior, x[None], Scales(worlds.f[None], worlds.z[None], worlds.x[None]), torch.Generator().manual_seed(0), 500, 200)
    closed = float(elbo(posterior, moments(x), worlds))
    assert float(fitted.elbo) == pytest.approx(closed, abs=0.15)
    assert 0 < float(fitted.error) < 0.05
    assert float(fitted.elbo) < float(log_likelihood(moments(x), worlds)) + 4 * float(fitted.error)


def test_each_world_is_fitted_as_if_alone() -> None:
    """The other world's scales change nothing: neither its gradients nor its noise come over."""
    x = sequences(10)[None]
    found = []
    for other in (0.3, 1.5):
        worlds = scales(2, 0.5, 0.5).sweep("x", torch.tensor([0.5, other]))
        both = Scales(worlds.f[None], worlds.z[None], worlds.x[None])
        found.append(fit("dsa", x, both, torch.Generator().manual_seed(0), 30, 5).elbo[0])
    torch.testing.assert_close(found[0][0], found[1][0])
    assert float((found[0][1] - found[1][1]).abs()) > 0.1


def test_encoders_begin_within_the_usual_bounds_and_differ() -> None:
    made = begin("dsa", 5, torch.Generator().manual_seed(0))
    assert set(made) == {f"{name}.{part}" for name in LAYERS["dsa"] for part in ("weight", "bias")} - {"state.bias"}
    assert made["frame.weight"].shape == (5, 2, 8)
    assert float(made["path.weight"].detach().abs().max()) <= 8**-0.5
    assert not torch.equal(made["path.weight"][0], made["path.weight"][1])


def test_the_exact_posterior_is_not_fitted() -> None:
    one = torch.ones(1, 1)
    with pytest.raises(UserError, match="dsa"):
        fit("exact", sequences()[None], Scales(one, one, one), torch.Generator())
