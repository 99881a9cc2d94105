from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.joint_gaussian import condition, joint, log_likelihood
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.random import normal
from stillmotion.models.files import build
from stillmotion.models.kvae import KVAE, KVAEConfig
from stillmotion.nn.dynamics import DynamicsNetwork, Kind
from stillmotion.ssm.mixture import mix
from stillmotion.ssm.systems import System

TINY: dict[str, Any] = {"size": 8, "code": 2, "state": 3, "modes": 2, "width": 4, "dynamics_size": 5}
KINDS: tuple[Kind, ...] = ("lstm", "mlp", "window")


def model(**changes: Any) -> KVAE:
    """With systems that differ and codes that move, so that nothing is true by accident."""
    made = build("kvae", {**TINY, **changes}, seed=0)
    assert isinstance(made, KVAE)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        made.A += 0.2 * torch.randn_like(made.A)
        made.C += torch.randn_like(made.C)
        made.dynamics.start += 0.5
        made.code_head.weight *= 20
        for value in made.dynamics.parameters():
            value *= 3
        if made.config.learned_noise:
            made.log_state_noise += torch.linspace(0, 2, made.config.state)
            made.log_code_noise += torch.linspace(2, 0, made.config.code)
    return made.eval()


def clips(count: int = 2, steps: int = 6, lacking: tuple[int, ...] = (), controls: int = 0) -> Clips:
    generator = torch.Generator().manual_seed(3)
    frames = (torch.rand(count, steps, 1, 8, 8, generator=generator) > 0.6).float()
    mask = torch.ones(count, steps, dtype=torch.bool)
    mask[0, list(lacking)] = False
    u = torch.randn(count, steps, controls, generator=generator) if controls else None
    return Clips(frames, mask, u)


def codes(made: KVAE, batch: Clips) -> Tensor:
    path = made.encode_frames(batch).path
    assert path is not None
    return path.detach()


def of_clip(system: System, k: int) -> System:
    B = None if system.B is None else system.B[k].double()
    noise = (value.double() for value in (system.Q, system.R, system.mean, system.covariance))
    return System(system.A[k].double(), system.C[k].double(), *noise, B)


@torch.no_grad()
def walked(made: KVAE, batch: Clips, k: int) -> tuple[System, Tensor]:
    """Oracle: the system of clip k, whose weights are told frame by frame from the brute-force joint of all frames before."""
    a, seen = codes(made, batch)[k].double(), batch.mask[k]
    alphas: list[Tensor] = []
    before: list[Tensor] = []
    controls = None if batch.controls is None else batch.controls[k].double()
    for t in range(len(a)):
        history = torch.stack(before)[None].float() if before else None
        padded = a.new_zeros(1, t + 1, a.shape[1]).float()
        if history is not None:
            padded[:, :t] = history
        alphas.append(made.dynamics(padded)[0, t].detach())
        system = of_clip(mix(made._mixture(batch.controls), torch.stack(alphas)[None]), 0)
        whole = joint(system, t + 1, None if controls is None else controls[: t + 1])
        known = seen[: t + 1].clone()
        known[t] = False
        mean = condition(whole, a[: t + 1], known[:, None].expand(-1, a.shape[1]))[0] if known.any() else whole.state_mean
        predicted = system.C[t] @ mean[-3:]
        before.append((a[t] if seen[t] else predicted).detach())
    return system, a


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lacking", [(), (2,), (1, 2, 5), (0, 3)])
def test_the_dynamics_term_is_the_joint_density_of_the_codes_that_are_there(kind: Kind, lacking: tuple[int, ...]) -> None:
    made, batch = model(dynamics=kind, window=3, learned_noise=kind == "window"), clips(2, 6, lacking)
    expected = []
    for k in range(2):
        system, a = walked(made, batch, k)
        expected.append(log_likelihood(joint(system, 6), a, batch.mask[k][:, None].expand(-1, 2)))
    with torch.no_grad():
        found = made.loss(batch, {}, None).values["dynamics"]
    assert -float(found) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def test_controls_push_the_state_into_their_frame() -> None:
    made, batch = model(controls=2), clips(2, 5, (2,), controls=2)
    assert batch.controls is not None
    assert made.B is not None
    with torch.no_grad():
        made.B += torch.randn(made.B.shape, generator=torch.Generator().manual_seed(0))
    expected = []
    for k in range(2):
        system, a = walked(made, batch, k)
        expected.append(log_likelihood(joint(system, 5, batch.controls[k].double()), a, batch.mask[k][:, None].expand(-1, 2)))
    with torch.no_grad():
        assert -float(made.loss(batch, {}, None).values["dynamics"]) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def test_the_bound_is_that_of_equation_6() -> None:
    made, batch = model(), clips(3, 4, (1,))
    with torch.no_grad():
        terms = made.loss(batch, {"reconstruction": 0.3}, None)
        a = codes(made, batch)
        q = made.encode_frames(batch).path_posterior
        assert q is not None
        logits = made.decoder(a)
        pixels = torch.distributions.Bernoulli(logits=logits).log_prob(batch.frames).flatten(2).sum(2)
        own = torch.distributions.Normal(q.mean, q.scale).log_prob(a).sum(2)
    assert float(terms.values["reconstruction"]) == pytest.approx(-float((pixels * batch.mask).sum(1).mean()), rel=1e-5)
    assert float(terms.values["code"]) == pytest.approx(float((own * batch.mask).sum(1).mean()), rel=1e-5)
    total = 0.3 * terms.values["reconstruction"] + terms.values["code"] + terms.values["dynamics"]
    assert float(terms.total) == pytest.approx(float(total), rel=1e-5)


def test_the_time_factorised_bound_lies_below_the_exact_one() -> None:
    exact, loose = model(), model(bound="time_factorised")
    batch = clips(64, 6, (2, 4))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        a = codes(exact, batch)
        tight = exact._log_prior(a, batch, None)
        below = torch.stack([loose._log_prior(a, batch, draw) for _ in range(40)]).mean(0)
    assert (below < tight + 0.5).all()
    assert float((tight - below).mean()) > 0.5


@pytest.mark.parametrize("bound", ["exact", "time_factorised"])
@pytest.mark.parametrize(("lacking", "learned"), [((), False), ((2, 3), False), ((2, 3), True)])
def test_the_sequence_alone_is_the_dynamics_of_the_bound_and_leaves_the_frames_part_alone(
    bound: str, lacking: tuple[int, ...], learned: bool
) -> None:
    made, batch = model(bound=bound, learned_noise=learned), clips(lacking=lacking)
    whole, alone = (made(batch, {}, torch.Generator().manual_seed(5), name).values for name in ("loss", "sequence"))
    assert list(alone) == ["dynamics"]
    torch.testing.assert_close(alone["dynamics"], whole["dynamics"])
    alone["dynamics"].backward()
    taught = {name for name, group in made.parameter_groups().items() if any(value.grad is not None for value in group)}
    assert taught == {"systems", "dynamics", *(["noises"] if learned else [])}


def test_a_single_frame_has_no_transition_and_both_bounds_agree_on_average() -> None:
    exact, loose, batch = model(), model(bound="time_factorised"), clips(1, 1)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        a = codes(exact, batch)
        tight = float(exact._log_prior(a, batch, None))
        below = torch.stack([loose._log_prior(a, batch, draw) for _ in range(400)]).mean()
    assert float(below) == pytest.approx(tight, abs=0.15)


@pytest.mark.parametrize("past_only", [False, True])
@pytest.mark.parametrize("lacking", [(2,), (1, 2, 3), (4, 5)])
def test_missing_frames_are_decoded_from_the_conditional_mean_of_their_codes(lacking: tuple[int, ...], past_only: bool) -> None:
    made, batch = model(), clips(2, 6, lacking)
    system, a = walked(made, batch, 0)
    seen = batch.mask[0]
    with torch.no_grad():
        found = made.impute(batch, past_only=past_only)
        for t in lacking:
            known = seen & (torch.arange(6) < t) if past_only else seen
            states = condition(joint(system, 6), a, known[:, None].expand(-1, 2))[0].view(6, 3)
            expected = torch.sigmoid(made.decoder((system.C[t] @ states[t]).float()[None]))[0]
            torch.testing.assert_close(found[0, t], expected, atol=1e-4, rtol=1e-3)
    assert torch.equal(found[batch.mask], batch.frames[batch.mask])


def test_draws_of_missing_frames_scatter_around_their_mean_and_leave_the_others_alone() -> None:
    made, batch = model(), clips(2, 6, (2, 3))
    with torch.no_grad():
        one, other = (made.impute(batch, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(one[0, 2], other[0, 2])
    assert torch.equal(one[batch.mask], batch.frames[batch.mask])


@pytest.mark.parametrize(("past_only", "learned"), [(False, False), (True, False), (False, True), (True, True)])
def test_draws_of_a_gap_are_of_one_path(past_only: bool, learned: bool) -> None:
    """Means and covariances of the codes of all missing frames together, from the brute-force joint; controls included."""
    made, one, count = model(controls=2, learned_noise=learned), clips(1, 6, (2, 3, 4), controls=2), 20_000
    assert one.controls is not None
    with torch.no_grad():
        q = made._read(one)
        many = Clips(one.frames.expand(count, -1, -1, -1, -1), one.mask.expand(count, -1), one.controls.expand(count, -1, -1))
        wide = type(q)(q.mean.expand(count, -1, -1), q.scale.expand(count, -1, -1))
        drawn = made._codes_of(many, wide, torch.Generator().manual_seed(0), past_only)[0][:, 2:5].double().flatten(1)
        system, _ = walked(made, one, 0)
    known = one.mask[0].clone()
    known[5] &= not past_only
    whole = joint(system, 6, one.controls[0].double())
    mean, covariance = condition(whole, q.mean[0].double(), known[:, None].expand(-1, 2))
    H = torch.block_diag(*system.C)[4:10]
    expected = H @ covariance @ H.T + torch.block_diag(*[system.R] * 3)
    spread = expected.diagonal().sqrt()
    assert ((drawn.mean(0) - H @ mean).abs() < 5 * spread / count**0.5).all()
    assert ((torch.cov(drawn.T) - expected).abs() < 6 * (2 / count) ** 0.5 * spread[:, None] * spread).all()
    assert (expected[:2, 2:4].abs() > 0.1 * spread[:2, None] * spread[2:4]).any(), "the frames of this gap hang together"


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_says_the_same_frame_by_frame_as_at_once(kind: Kind) -> None:
    torch.manual_seed(0)
    network = DynamicsNetwork(2, 3, kind, 5, window=3)
    with torch.no_grad():
        network.start += 1
        path = torch.randn(4, 6, 2)
        whole, carry, found = network(path), (), []
        for t in range(6):
            weights, carry = network.step(path[:, t - 1] if t else None, carry, 4)
            found.append(weights)
    torch.testing.assert_close(torch.stack(found, 1), whole)
    torch.testing.assert_close(whole.sum(2), torch.ones(4, 6))


def test_a_forecast_of_a_known_system_is_its_own_rotation() -> None:
    """One mode, a rotation without noise to speak of: the codes go on around the circle."""
    made = model(modes=1, state=2, state_noise=1e-6, code_noise=1e-6, code_variance=1e-6)
    turn = 0.3
    with torch.no_grad():
        made.A.copy_(torch.tensor([[[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]]))
        made.C.copy_(torch.eye(2)[None])
        angle = turn * torch.arange(12.0)
        circle = torch.stack([angle.cos(), angle.sin()], 1)[None]
        seen = replace(made.encode_frames(clips(1, 6)), path=circle[:, :6], path_posterior=None)
        path = made.predict(seen, 12).path
    assert path is not None
    torch.testing.assert_close(path, circle, atol=1e-2, rtol=0)


def test_predictions_obey_the_controls_that_the_codes_carry() -> None:
    """Whatever leads to the last frame: a later control pushes the first new state by B u, and the codes by C B u."""
    made, batch = model(controls=2, modes=1), clips(2, 5, controls=2)
    assert batch.controls is not None
    push = torch.zeros(2, 1, 2).index_fill(2, torch.tensor([1]), 1.5)
    with torch.no_grad():
        seen = made.encode_frames(batch)
        still, pushed = (made.predict(replace(seen, controls=torch.cat([batch.controls, u], 1)), 6).path for u in (0 * push, push))
        assert made.B is not None
        assert still is not None
        assert pushed is not None
        torch.testing.assert_close((pushed - still)[:, -1], (1.5 * made.C[0] @ made.B[0][:, 1]).expand(2, -1))
        torch.testing.assert_close(still, made.predict(seen, 6).path)


def test_where_controls_are_not_known_they_are_zero() -> None:
    made, batch = model(controls=2), clips(2, 5, controls=2)
    with torch.no_grad():
        seen = replace(made.encode_frames(batch), mask=None, controls=None)
        path = made.predict(seen, 9).path
        assert made.B is not None
        made.B.mul_(0)
        without = made.predict(seen, 9).path
        assert path is not None
        torch.testing.assert_close(path, without)
        drawn = made.generate(2, 3, torch.Generator().manual_seed(0)).path
    assert path.shape == (2, 9, 2)
    assert drawn is not None
    assert drawn.shape == (2, 3, 2)


def test_a_learned_pixel_scale_takes_a_gradient_and_a_fixed_one_is_no_parameter() -> None:
    learned = model(likelihood="gaussian", learned_scale=True)
    learned.loss(clips(), {}, None).total.backward()
    assert learned.pixels.log_scale.grad is not None
    assert float(learned.pixels.log_scale.grad) != 0
    assert "pixels.log_scale" not in dict(model(likelihood="gaussian").named_parameters())


@pytest.mark.parametrize("bound", ["exact", "time_factorised"])
@pytest.mark.parametrize("lacking", [(), (1, 3)])
def test_learned_noises_are_those_of_a_model_with_the_same_fixed_ones_and_take_a_gradient(bound: str, lacking: tuple[int, ...]) -> None:
    fixed, learned = model(bound=bound, state_noise=0.5, code_noise=0.2), model(bound=bound, learned_noise=True)
    torch.testing.assert_close(fixed.Q, 0.5 * torch.eye(3))
    torch.testing.assert_close(build("kvae", {**TINY, "learned_noise": True}, 0).R, 0.03 * torch.eye(2))  # type: ignore[arg-type]
    with torch.no_grad():
        learned.log_state_noise.fill_(math.log(0.5))
        learned.log_code_noise.fill_(math.log(0.2))
    batch = clips(lacking=lacking)
    one, other = (made(batch, {}, torch.Generator().manual_seed(5), "loss").values for made in (fixed, learned))
    torch.testing.assert_close(one, other)
    other["dynamics"].backward()
    for value in learned.parameter_groups()["noises"]:
        assert value.grad is not None
        assert value.grad.abs().min() > 0
    assert "noises" not in fixed.parameter_groups()
    drawn = [made.generate(2, 4, torch.Generator().manual_seed(6)).path for made in (fixed, learned)]
    filled = [made.impute(batch, torch.Generator().manual_seed(7), past_only=True) for made in (fixed, learned)]
    torch.testing.assert_close(drawn[0], drawn[1])
    torch.testing.assert_close(filled[0], filled[1])


def test_the_looser_bound_has_each_noise_in_its_place() -> None:
    """log p(a, z) of drawn states by the densities of the story, with noises that are all different."""
    made, batch = model(learned_noise=True, bound="time_factorised"), clips(1)
    a = codes(made, batch)
    with torch.no_grad():
        system = of_clip(mix(made._mixture(None), made.dynamics(a)), 0)
        smoothed = condition(joint(system, 6), a[0].double(), torch.ones(6, 2, dtype=torch.bool))
        mean = smoothed[0].view(6, 3)
        blocks = torch.stack([smoothed[1][3 * t : 3 * t + 3, 3 * t : 3 * t + 3] for t in range(6)])
        drawn = normal((1, 6, 3), torch.Generator().manual_seed(5), mean)[0]
        z = mean + (torch.linalg.cholesky(blocks) @ drawn[..., None])[..., 0]
        found = made._log_prior(a, batch, torch.Generator().manual_seed(5))
    gaussian = torch.distributions.MultivariateNormal
    joined = gaussian(system.mean, system.covariance).log_prob(z[0])
    joined = joined + sum(gaussian(system.A[t] @ z[t - 1], system.Q).log_prob(z[t]) for t in range(1, 6))
    joined = joined + sum(gaussian(system.C[t] @ z[t], system.R).log_prob(a[0, t].double()) for t in range(6))
    entropy = gaussian(mean, blocks).entropy().sum()
    assert found.item() == pytest.approx((joined + entropy).item(), rel=1e-3)


def test_controls_that_codes_carry_are_nothing_to_a_model_without() -> None:
    made = model()
    with torch.no_grad():
        seen = made.encode_frames(clips())
        assert made.predict(seen, 8).path is not None
        carried = made.predict(replace(seen, controls=torch.ones(2, 6, 3)), 8).path
    torch.testing.assert_close(carried, made.predict(seen, 8).path)


def test_controls_of_too_few_or_too_many_frames_are_refused() -> None:
    batch = clips(controls=2)
    assert batch.controls is not None
    for controls in (batch.controls[:, :4], torch.cat([batch.controls] * 2, 1)):
        with pytest.raises(UserError, match=r"controls of shape \(2, 6, 2\) for this kvae model, got shape"):
            model(controls=2).loss(Clips(batch.frames, batch.mask, controls), {}, None)


def test_a_model_with_controls_asks_for_them() -> None:
    with pytest.raises(UserError, match=r"controls of shape \(2, 6, 2\) for this kvae model, got none"):
        model(controls=2).loss(clips(), {}, None)


def test_the_defaults_are_the_released_ones() -> None:
    config = KVAEConfig()
    assert (config.code, config.state, config.modes, config.dynamics_size) == (2, 4, 3, 50)
    assert (config.state_noise, config.code_noise, config.first_variance, config.code_variance) == (0.08, 0.03, 20.0, 0.03)
