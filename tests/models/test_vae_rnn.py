"""VAE-RNN: its bounds by torch.distributions, its codes one step after the other, and which half each objective moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from oracles.code_walk import walk
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.random import Noise, normal
from stillmotion.models.files import build
from stillmotion.models.kvae import KVAEConfig
from stillmotion.models.vae_rnn import VAERNN, VAERNNConfig

TINY: dict[str, Any] = {"size": 8, "code": 2, "width": 4, "dynamics_size": 5}


def model(**changes: Any) -> VAERNN:
    """With codes that move, and an LSTM that they move."""
    made = build("vae_rnn", {**TINY, **changes}, seed=0)
    assert isinstance(made, VAERNN)
    with torch.no_grad():
        made.code_head.weight *= 10
        for parameter in made.rnn.parameters():
            parameter += 0.3
            parameter *= 2
    return made.eval()


def clips(lacking: tuple[int, ...] = (), count: int = 3) -> Clips:
    """Clips of 6 frames, of which the first lacks some."""
    frames = (torch.rand(count, 6, 1, 8, 8, generator=torch.Generator().manual_seed(3)) > 0.6).float()
    mask = torch.ones(count, 6, dtype=torch.bool)
    mask[0, list(lacking)] = False
    return Clips(frames, mask)


def noise(seed: int) -> Noise:
    made = Noise()
    made.manual_seed(seed)
    return made


def path_of(codes: Codes) -> Tensor:
    assert codes.path is not None
    return codes.path


def posterior_of(codes: Codes) -> Gaussian:
    assert codes.path_posterior is not None
    return codes.path_posterior


def drawn(q: Gaussian, seed: int) -> Tensor:
    return q.mean + q.scale * normal(tuple(q.mean.shape), noise(seed), q.mean)


@pytest.mark.parametrize("lacking", [(), (2,), (0,), (1, 2, 5)])
@torch.no_grad()
def test_the_terms_are_those_of_the_two_bounds(lacking: tuple[int, ...]) -> None:
    made, batch = model(), clips(lacking)
    q = posterior_of(made.encode_frames(batch))
    a = drawn(q, 5)
    pixels = -(Bernoulli(logits=made.decoder(a)).log_prob(batch.frames).flatten(2).sum(2) * batch.mask).sum() / 3
    alone = (kl_divergence(Normal(q.mean, q.scale), Normal(0.0, 1.0)).sum(2) * batch.mask).sum() / 3
    along, codes = a.new_zeros(()), a.new_zeros(())
    for k in range(3):
        expected = walk(made.rnn, a[k], batch.mask[k].tolist())
        prior = Normal(expected.mean, expected.scale)
        along += (kl_divergence(Normal(q.mean[k], q.scale[k]), prior).sum(1) * batch.mask[k]).sum() / 3
        codes -= (prior.log_prob(a[k]).sum(1) * batch.mask[k]).sum() / 3
    both, frames, sequence = (made(batch, {}, noise(5), name).values for name in ("loss", "frames", "sequence"))
    torch.testing.assert_close(both, {"reconstruction": pixels, "path_kl": along})
    torch.testing.assert_close(frames, {"reconstruction": pixels, "path_kl": alone})
    torch.testing.assert_close(sequence, {"dynamics": codes})


@torch.no_grad()
def test_the_bound_of_the_story_lies_below_the_likelihood_of_a_short_clip() -> None:
    """log p(x) by importance sampling with many draws of the posterior; the bound must not pass it."""
    made, batch = model(), clips(count=1)
    batch = Clips(batch.frames[:, :3], batch.mask[:, :3])
    q = posterior_of(made.encode_frames(batch))
    many = Gaussian(q.mean.expand(2000, -1, -1), q.scale.expand(2000, -1, -1))
    a = drawn(many, 1)
    expected = made.rnn(a, batch.mask.expand(2000, -1)).expected
    prior = Normal(expected.mean, expected.scale).log_prob(a).sum((1, 2))
    pixels = Bernoulli(logits=made.decoder(a)).log_prob(batch.frames).flatten(1).sum(1)
    log_weights = pixels + prior - Normal(many.mean, many.scale).log_prob(a).sum((1, 2))
    likelihood = torch.logsumexp(log_weights, 0) - torch.tensor(2000.0).log()
    bounds = torch.stack([-made.loss(batch, {}, noise(seed)).total for seed in range(200)])
    assert bounds.mean() < likelihood
    error = float((bounds.var() / 200 + log_weights.var() / 2000).sqrt())
    torch.testing.assert_close(bounds.mean(), log_weights.mean(), atol=4 * error, rtol=0)


@torch.no_grad()
def test_the_weight_of_the_divergence() -> None:
    made, batch = model(), clips((2,))
    for objective in ("loss", "frames"):
        terms = made(batch, {"path_kl": 0.2}, noise(5), objective)
        torch.testing.assert_close(terms.total, terms.values["reconstruction"] + 0.2 * terms.values["path_kl"])


@pytest.mark.parametrize(("objective", "moved"), [("frames", {"frames"}), ("sequence", {"sequence"}), ("loss", {"frames", "sequence"})])
def test_each_objective_moves_its_half(objective: str, moved: set[str]) -> None:
    made = model()
    made(clips((2,)), {}, noise(0), objective).total.backward()
    for name, group in made.parameter_groups().items():
        assert {parameter.grad is not None for parameter in group} == {name in moved}


@pytest.mark.parametrize("lacking", [(2,), (0,), (2, 3, 4), (4, 5)])
@torch.no_grad()
def test_missing_frames_are_decoded_from_the_codes_that_were_expected(lacking: tuple[int, ...]) -> None:
    made, batch = model(), clips(lacking)
    expected = walk(made.rnn, posterior_of(made.encode_frames(batch)).mean[0], batch.mask[0].tolist())
    codes = made.encode(batch)
    torch.testing.assert_close(path_of(codes)[0], expected.filled)
    torch.testing.assert_close(posterior_of(codes).mean, path_of(codes))
    torch.testing.assert_close(posterior_of(codes).scale[0, list(lacking)], expected.scale[list(lacking)])
    found = made.impute(batch)
    torch.testing.assert_close(found[0, list(lacking)], torch.sigmoid(made.decoder(expected.filled[list(lacking)][None]))[0])
    assert torch.equal(found[batch.mask], batch.frames[batch.mask])
    assert torch.equal(made.impute(batch, past_only=True), found)


@torch.no_grad()
def test_nothing_after_a_gap_tells_of_it() -> None:
    made, batch = model(), clips((2, 3))
    later = batch.frames.clone()
    later[0, 4:] = 1 - later[0, 4:]
    before, after = (made.impute(each)[0, 2:4] for each in (batch, replace(batch, frames=later)))
    assert torch.equal(before, after)


@torch.no_grad()
def test_draws_of_missing_frames_differ_and_leave_the_others_alone() -> None:
    made, batch = model(), clips((2, 3))
    one, other = (made.impute(batch, noise(seed)) for seed in (0, 1))
    assert not torch.equal(one[0, 2], other[0, 2])
    assert torch.equal(one[batch.mask], batch.frames[batch.mask])


@torch.no_grad()
def test_a_prediction_goes_on_from_the_draws_of_a_gap() -> None:
    made, batch = model(), clips((3, 4, 5))
    drawn = made.encode(batch, noise(2))
    path, went_on = path_of(drawn), path_of(made.predict(drawn, 8))
    assert torch.equal(went_on[:, :6], path)
    for clip in range(3):
        longer = torch.cat([path[clip], torch.zeros(2, 2)])
        torch.testing.assert_close(went_on[clip], walk(made.rnn, longer, [True] * 6 + [False] * 2).filled)


@torch.no_grad()
def test_frames_missing_at_the_end_are_as_good_as_cut_off() -> None:
    made, batch = model(), clips((4, 5))[0:1]
    short = Clips(batch.frames[:, :4], batch.mask[:, :4])
    for objective in made.objectives():
        torch.testing.assert_close(made(batch, {}, None, objective).total, made(short, {}, None, objective).total)
    torch.testing.assert_close(path_of(made.encode(batch))[:, :4], path_of(made.encode(short)))
    torch.testing.assert_close(path_of(made.predict(made.encode(short), 6)), path_of(made.encode(batch)))


@torch.no_grad()
def test_first_codes_are_standard_normal_and_the_rest_follows() -> None:
    path = path_of(model().generate(4000, 2, noise(0)))
    torch.testing.assert_close(path[:, 0].mean(0), torch.zeros(2), atol=0.06, rtol=0)
    torch.testing.assert_close(path[:, 0].std(0), torch.ones(2), atol=0.06, rtol=0)
    made = model()
    expected = walk(made.rnn, path[0], [True, True])
    residuals = torch.stack([walk(made.rnn, each, [True, True]).mean[1] for each in path[:400]]) - path[:400, 1]
    torch.testing.assert_close(residuals.std(0), expected.scale[1], atol=0, rtol=0.15)


@torch.no_grad()
def test_posteriors_begin_about_as_narrow_as_those_of_the_kalman_vae() -> None:
    q = posterior_of(build("vae_rnn", TINY, seed=0).encode_frames(clips()))  # type: ignore[operator]
    assert (KVAEConfig().code_variance / 2) ** 0.5 == pytest.approx(0.12, abs=0.01)
    assert ((q.scale > 0.09) & (q.scale < 0.17)).all()


def test_errors_say_what_is_wanted() -> None:
    made = model()
    with pytest.raises(UserError, match="codes with a path"):
        made.decode(Codes())
    with pytest.raises(UserError, match="codes with a path"):
        made.predict(Codes(), 4)
    with pytest.raises(UserError, match=r"frames of shape \(1, 8, 8\) for this vae_rnn model"):
        made.impute(Clips.of(torch.zeros(2, 3, 1, 16, 16)))
    with pytest.raises(UserError, match="options of vae_rnn"):
        build("vae_rnn", {"state": 4}, seed=0)


def test_the_frames_part_has_the_defaults_of_the_kalman_vae() -> None:
    mine, theirs = VAERNNConfig().model_dump(), KVAEConfig().model_dump()
    assert mine == {name: theirs[name] for name in mine}
