from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from oracles.dvbf_in_pyro import Story, locally_linear, negative_elbo
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.core.random import normal
from stillmotion.models.dvbf import DVBF, DVBFConfig, LocallyLinear
from stillmotion.models.files import build
from stillmotion.objectives.pixels import Pixels
from stillmotion.ssm.inference import log_likelihood
from stillmotion.ssm.systems import System

TINY: dict[str, Any] = {"size": 8, "state": 3, "modes": 4, "hidden": 6, "rnn_size": 5, "width": 4}
OPTIONS: list[dict[str, Any]] = [
    {}, {"transition": "general"}, {"recognition": "future"}, {"recognition": "future", "transition": "general", "controls": 0},
    {"likelihood": "gaussian", "pixel_scale": 0.3, "learned_scale": True, "network": "dense"},
]  # fmt: skip
GAPS: list[tuple[int, ...]] = [(), (2, 3), (0, 4, 5), (1, 3, 4)]


def model(**changes: Any) -> DVBF:
    """With systems that differ and recognition that tells frames apart, so that nothing is true by accident."""
    made = build("dvbf", {**TINY, "controls": 2, **changes}, seed=0)
    assert isinstance(made, DVBF)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        if isinstance(made.transition, LocallyLinear):
            for matrices in (made.transition.A, made.transition.B, made.transition.C):
                if matrices is not None:
                    matrices.add_(0.2 * torch.randn_like(matrices))
            made.transition.weights.weight *= 3
        for layer in (made.noise_head, made.first_head, made.evidence):
            layer.weight *= 3
    return made.eval()


def clips(count: int = 2, steps: int = 6, lacking: tuple[int, ...] = (), controls: int = 2) -> Clips:
    generator = torch.Generator().manual_seed(3)
    frames = (torch.rand(count, steps, 1, 8, 8, generator=generator) > 0.6).float()
    mask = torch.ones(count, steps, dtype=torch.bool)
    mask[0, list(lacking)] = False
    u = torch.randn(count, steps, controls, generator=generator) if controls else None
    return Clips(frames, mask, u)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def path_of(codes: Codes) -> Tensor:
    assert codes.path is not None
    return codes.path


def by_pyro(made: DVBF, batch: Clips, seed: int) -> float:
    draws = normal((*batch.mask.shape, 3), noise(seed), batch.frames)
    controls = batch.frames.new_zeros(*batch.mask.shape, 0) if batch.controls is None else batch.controls
    losses = []
    for k in range(len(batch)):
        story = Story(made, batch.frames[k], controls[k], batch.mask[k])
        losses.append(negative_elbo(story, {f"w_{t}": draws[k, t] for t in range(draws.shape[1])}))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("lacking", GAPS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())) or "plain")
@torch.no_grad()
def test_the_loss_is_that_of_pyro(options: dict[str, Any], lacking: tuple[int, ...]) -> None:
    made, batch = model(**options), clips(2, 6, lacking, options.get("controls", 2))
    assert made.loss(batch, {}, noise(5)).total.item() == pytest.approx(by_pyro(made, batch, 5), rel=1e-4)


@pytest.mark.parametrize("controls", [0, 2])
@torch.no_grad()
def test_the_locally_linear_transition_is_a_sum_over_systems_and_entries(controls: int) -> None:
    net = model(controls=controls).transition
    assert isinstance(net, LocallyLinear)
    z, u, w = (torch.randn(2, size, generator=noise(size)) for size in (3, controls, 3))
    expected = torch.stack([locally_linear(net, z[k], u[k], w[k]) for k in range(2)])
    torch.testing.assert_close(net(z, u, w), expected)


@torch.no_grad()
def test_new_systems_are_near_the_identity_so_that_long_clips_stay_where_they_are() -> None:
    made = build("dvbf", {**TINY, "state": 3, "modes": 16}, seed=0)
    assert isinstance(made, DVBF)
    z = torch.randn(50, 3, generator=noise())
    path = made._roll(z, torch.zeros(50, 30, 0), None)
    assert float((path[:, -1] - z).norm(dim=1).max()) < 3


@torch.no_grad()
def test_with_an_inverse_temperature_pixels_and_prior_weigh_more_than_the_entropy() -> None:
    """c log p(x | z) + c log p(w) - log q(w), divided by c."""
    made, batch = model(), clips(3, 5, (2,))
    terms = made.loss(batch, {"inverse_temperature": 0.25}, noise())
    walk = made._infer(batch, noise())
    q = torch.distributions.Normal(walk.noise.mean, walk.noise.scale)
    pixels = torch.distributions.Bernoulli(logits=made.decoder(walk.path)).log_prob(batch.frames).flatten(2).sum(2)
    entropy = (q.entropy().sum(2) * batch.mask).sum(1).mean()
    likelihood = (pixels * batch.mask).sum(1).mean()
    cross = -0.5 * ((q.mean.square() + q.stddev.square() + math.log(2 * math.pi)).sum(2) * batch.mask).sum(1).mean()
    assert float(terms.total) == pytest.approx(-float(0.25 * likelihood + 0.25 * cross + entropy) / 0.25, rel=1e-5)
    assert float(terms.elbo) == pytest.approx(float(likelihood + cross + entropy), rel=1e-5)


@torch.no_grad()
def test_the_divergences_are_watched_apart() -> None:
    made, batch = model(), clips(3, 5, (2, 4))
    terms = made.loss(batch, {}, noise())
    q, unit = made._infer(batch, noise()).noise, torch.distributions.Normal(0, 1)
    each = kl_divergence(torch.distributions.Normal(q.mean, q.scale), unit).sum(2)
    assert float(terms.watched["first_kl"]) == pytest.approx(float(each[:, 0].mean()), rel=1e-5)
    assert float(terms.watched["noise_kl"]) == pytest.approx(float(each[:, 1:].sum(1).mean()), rel=1e-5)
    assert float(each[0, [2, 4]].abs().max()) == 0


@pytest.mark.parametrize("c", [0.0, -1.0])
def test_an_inverse_temperature_that_is_not_positive_is_refused(c: float) -> None:
    with pytest.raises(UserError, match=rf"inverse temperature above 0.*got {c:g}.*0\.01"):
        model().loss(clips(), {"inverse_temperature": c}, None)


@pytest.mark.parametrize("recognition", ["frame", "future"])
@torch.no_grad()
def test_in_a_gap_the_noise_is_the_prior_unless_the_future_is_read(recognition: str) -> None:
    made, batch = model(recognition=recognition), clips(2, 6, (2, 3, 5))
    walk = made._infer(batch, None)
    for t, is_prior in ((1, False), (2, recognition == "frame"), (3, recognition == "frame"), (4, False), (5, True)):
        mean, scale = walk.noise.mean[0, t], walk.noise.scale[0, t]
        assert (not mean.any() and bool((scale == 1).all())) == is_prior
        assert bool(walk.known[0, t]) != is_prior


@torch.no_grad()
def test_how_far_the_next_frame_is_matters_where_the_future_is_read() -> None:
    made = model(recognition="future")
    near, far = (made._infer(clips(1, 6, lacking), None).noise.mean[0] for lacking in ((2,), (2, 3)))
    assert not torch.allclose(near[2], far[2])
    apart = made._evidence(torch.ones(1, 4, made.encoder.features), torch.tensor([[True, False, False, True]]), torch.zeros(1, 4, 2))
    one, two = (made.evidence.weight[:, 5] * math.log(1 + wait) for wait in (1, 2))
    torch.testing.assert_close(apart[0, 2] - apart[0, 1], one - two)


@torch.no_grad()
def test_controls_act_on_the_way_into_their_frame() -> None:
    made, batch = model(), clips(2, 6)
    assert batch.controls is not None
    path = path_of(made.encode(batch))
    for t in range(6):
        other = batch.controls.clone()
        other[:, t] += 1
        moved = (path_of(made.encode(replace(batch, controls=other))) - path).abs().amax((0, 2))
        assert not moved[:t].any()
        assert (moved[t:] > 0).all() if t else not moved.any()


@torch.no_grad()
def test_predictions_obey_the_controls_that_the_codes_carry() -> None:
    """With one system, a later control pushes the first new state by B u."""
    made, batch = model(modes=1), clips(2, 5)
    assert batch.controls is not None
    push = torch.zeros(2, 1, 2).index_fill(2, torch.tensor([1]), 1.5)
    seen = made.encode(batch)
    still, pushed = (path_of(made.predict(replace(seen, controls=torch.cat([batch.controls, u], 1)), 6)) for u in (0 * push, push))
    assert isinstance(made.transition, LocallyLinear)
    assert made.transition.B is not None
    torch.testing.assert_close((pushed - still)[:, -1], (1.5 * made.transition.B[0][:, 1]).expand(2, -1))
    torch.testing.assert_close(still, path_of(made.predict(seen, 6)))
    torch.testing.assert_close(still, path_of(made.predict(replace(seen, controls=None), 6)))
    assert path_of(made.predict(seen, 3)).shape == (2, 3, 3)


@torch.no_grad()
def test_a_forecast_of_a_rotation_goes_on_around_the_circle_and_draws_scatter_by_C() -> None:
    made, turn = model(modes=1, state=2, controls=0), 0.3
    assert isinstance(made.transition, LocallyLinear)
    made.transition.A.copy_(torch.tensor([[[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]]))
    made.transition.C.copy_(0.5 * torch.eye(2)[None])
    angle = turn * torch.arange(12.0)
    circle = torch.stack([angle.cos(), angle.sin()], 1)[None]
    torch.testing.assert_close(path_of(made.predict(Codes(path=circle[:, :4]), 12)), circle)
    drawn = path_of(made.predict(Codes(path=circle[:, :1].expand(4000, -1, -1)), 2, noise()))[:, 1]
    torch.testing.assert_close(drawn.mean(0), circle[0, 1], atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.full((2,), 0.5), atol=0.02, rtol=0)


@torch.no_grad()
def test_new_clips_are_walked_from_noise_of_the_prior() -> None:
    made, g = model(), noise(4)
    path = path_of(made.generate(3, 4, noise(4)))
    z = made.first_state(torch.randn(3, 3, generator=g))
    draws = torch.randn(3, 3, 3, generator=g)
    for t in range(4):
        torch.testing.assert_close(path[:, t], z)
        z = made.transition(z, torch.zeros(3, 2), draws[:, t]) if t < 3 else z


@pytest.mark.parametrize("recognition", ["frame", "future"])
@pytest.mark.parametrize("lacking", [(2,), (0, 1, 4), (1, 2, 5), (0, 1, 2, 3, 4, 5)])
@torch.no_grad()
def test_from_the_past_alone_a_missing_frame_is_what_the_clip_before_it_leads_to(lacking: tuple[int, ...], recognition: str) -> None:
    made, batch = model(recognition=recognition), clips(2, 6, lacking)
    assert batch.controls is not None
    found = made.impute(batch, past_only=True)
    for t in lacking:
        z = made.first_state(torch.zeros(1, 3))
        rest = 0
        if seen := [k for k in range(t) if k not in lacking]:
            rest = seen[-1]
            before = Clips(batch.frames[:1, : rest + 1], batch.mask[:1, : rest + 1], batch.controls[:1, : rest + 1])
            z = path_of(made.encode(before))[:, -1]
        for k in range(rest + 1, t + 1):
            z = made.transition(z, batch.controls[:1, k], torch.zeros(1, 3))
        torch.testing.assert_close(found[0, t], torch.sigmoid(made.decoder(z))[0])
    assert torch.equal(found[batch.mask], batch.frames[batch.mask])


@torch.no_grad()
def test_smoothing_reads_what_comes_after_a_gap_and_filtering_does_not() -> None:
    made, batch = model(), clips(1, 6, (2, 3))
    later = batch.frames.clone()
    later[:, 4:] = 1 - later[:, 4:]
    other = replace(batch, frames=later)
    assert torch.equal(made.impute(batch, past_only=True)[:, 2:4], made.impute(other, past_only=True)[:, 2:4])
    assert not torch.allclose(made.impute(batch)[:, 2:4], made.impute(other)[:, 2:4])


@pytest.mark.parametrize("past_only", [False, True])
@torch.no_grad()
def test_draws_of_missing_frames_differ_and_leave_the_others_alone(past_only: bool) -> None:
    made, batch = model(), clips(2, 6, (2, 3))
    one, other = (made.impute(batch, noise(seed), past_only) for seed in (0, 1))
    assert not torch.equal(one[0, 2], other[0, 2])
    assert torch.equal(one[batch.mask], batch.frames[batch.mask])


@torch.no_grad()
def test_a_clip_without_gaps_is_its_own_imputation() -> None:
    assert torch.equal(model().impute(clips()), clips().frames)


class Plain(Pixels):
    """Pixels whose mean is what the decoder gives."""

    def mean(self, logits: Tensor) -> Tensor:
        return logits.float()


def linear_toy(steps: int) -> tuple[DVBF, System, Clips]:
    """A DVBF with one system and linear maps to the first state and to pixels, the same as a System, and clips that it drew."""
    made = model(modes=1, likelihood="gaussian", network="dense", width=16, hidden=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, pixels = nn.Linear(3, 3), nn.Linear(3, 64)
    made.first_state, made.pixels = nn.Sequential(first), Plain("gaussian", 0.5)
    made.decoder = nn.Sequential(pixels, nn.Unflatten(-1, (1, 8, 8)))  # type: ignore[assignment]
    move, g = made.transition, noise(1)
    assert isinstance(move, LocallyLinear)
    assert move.B is not None
    with torch.no_grad():
        controls = 5 * torch.randn(3, steps, 2, generator=g)
        z = first(torch.randn(3, 3, generator=g))
        path = torch.cat([z[:, None], made._roll(z, controls[:, 1:], g)], 1)
        frames = made.decoder(path) + 0.5 * torch.randn(3, steps, 1, 8, 8, generator=g)
        L, C = first.weight.double(), move.C[0].double()
        A, B, D = (value.double() for value in (move.A[0], move.B[0], pixels.weight))
        system = System(A, D, C @ C.T, 0.25 * torch.eye(64).double(), first.bias.double(), L @ L.T, B=B, d=pixels.bias.double())
    return made, system, Clips(frames, torch.ones(3, steps, dtype=torch.bool), controls)


def exact(system: System, batch: Clips) -> float:
    assert batch.controls is not None
    return float(log_likelihood(system, batch.frames.flatten(2).double(), batch.mask, batch.controls.double()).mean())


def bound(made: DVBF, batch: Clips, draws: int) -> float:
    with torch.no_grad():
        return float(made.loss(batch[torch.arange(3).repeat(draws)], {}, noise()).elbo)


@torch.no_grad()
def test_the_bound_of_one_frame_misses_its_likelihood_by_the_divergence_from_the_posterior() -> None:
    made, system, batch = linear_toy(1)
    q, missed = made._infer(batch, None).noise, 0.0
    to_pixels = system.C @ made.first_state[0].weight.double()
    precision = torch.eye(3) + to_pixels.T @ to_pixels / 0.25
    for k in range(3):
        rest = batch.frames[k].flatten().double() - system.C @ system.mean - system.d
        posterior = MultivariateNormal(torch.linalg.solve(precision, to_pixels.T @ rest / 0.25), precision_matrix=precision)
        mine = MultivariateNormal(q.mean[k, 0].double(), torch.diag(q.scale[k, 0].double().square()))
        missed += float(kl_divergence(mine, posterior)) / 3
    assert missed > 5
    assert bound(made, batch, 5000) == pytest.approx(exact(system, batch) - missed, abs=0.01 * missed)


@pytest.mark.parametrize("lacking", [(), (1, 2)])
def test_the_bound_rises_towards_the_likelihood_and_stays_below_it(lacking: tuple[int, ...]) -> None:
    made, system, batch = linear_toy(4)
    batch.mask[0, list(lacking)] = False
    story = {id(p) for part in (made.first_state, made.transition, made.decoder, made.pixels) for p in part.parameters()}
    optimiser = torch.optim.Adam([p for p in made.parameters() if id(p) not in story], lr=0.04)
    limit, before, g = exact(system, batch), bound(made, batch, 100), noise()
    assert before < limit - 50
    for _ in range(60):
        optimiser.zero_grad()
        made.loss(batch[torch.arange(3).repeat(8)], {}, g).total.backward()
        optimiser.step()
    after = bound(made, batch, 100)
    assert limit - (limit - before) / 3 < after < limit


def test_the_scale_of_the_pixels_can_be_left_as_it_is() -> None:
    groups = model(likelihood="gaussian", learned_scale=True).parameter_groups()
    assert len(groups["pixels"]) == 1
    assert len(groups["all"]) == len(groups["states"]) + 1
    assert not {id(p) for p in groups["pixels"]} & {id(p) for p in groups["states"]}


def test_a_learned_pixel_scale_takes_a_gradient_and_a_fixed_one_is_no_parameter() -> None:
    learned = model(likelihood="gaussian", learned_scale=True)
    learned.loss(clips(), {}, None).total.backward()
    assert learned.pixels.log_scale.grad is not None
    assert float(learned.pixels.log_scale.grad) != 0
    assert "pixels.log_scale" not in dict(model(likelihood="gaussian").named_parameters())


@pytest.mark.parametrize("given", [0, 1])
def test_a_model_with_controls_asks_for_them(given: int) -> None:
    with pytest.raises(UserError, match=r"controls of shape \(2, 6, 2\).*got (none|\(2, 6, 1\)).*Clips.controls"):
        model().loss(clips(controls=given), {}, None)


def test_controls_of_another_length_are_refused() -> None:
    batch = clips()
    assert batch.controls is not None
    with pytest.raises(UserError, match=r"controls of shape \(2, 6, 2\).*got \(2, 5, 2\)"):
        model().encode(replace(batch, controls=batch.controls[:, :5]))


def test_controls_of_another_width_cannot_be_predicted_under() -> None:
    codes = Codes(path=torch.zeros(1, 4, 3), controls=torch.zeros(1, 6, 1))
    with pytest.raises(UserError, match="2 controls in each frame, got 1"):
        model().predict(codes, 6)


def test_codes_without_a_path_cannot_be_decoded_or_rolled_on() -> None:
    for work in (model().decode, lambda codes: model().predict(codes, 3)):
        with pytest.raises(UserError, match="codes with a path"):
            work(Codes(static=torch.zeros(1, 2)))


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="frames of shape"):
        model(size=16).impute(clips())


def test_the_defaults_are_the_published_ones_for_the_pendulum() -> None:
    config = DVBFConfig()
    assert (config.state, config.modes, config.hidden, config.transition) == (3, 16, 128, "locally_linear")
