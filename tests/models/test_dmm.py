from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from oracles.joint_gaussian import joint, log_likelihood
from oracles.small_dmm import ExactDMM, LinearDMM, linear_clips, linear_system, small_dmm, some_clips
from oracles.small_vdsm import noise
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.models.dmm import DMM, DMMConfig
from stillmotion.models.files import build
from stillmotion.ssm import inference

POSTERIORS = ("smoothing", "both", "filtering", "mean_field", "mean_field_past", "mean_field_future")
PAST_ALONE = ("filtering", "mean_field_past")


def path(codes: Codes) -> Tensor:
    assert codes.path is not None
    return codes.path


def read(model: DMM, clips: Clips) -> Tensor:
    """Mean states, (B, T, Z)."""
    return path(model.encode(clips))


def divergences(model: DMM, clips: Clips) -> Tensor:
    return model._infer(model._features(clips), clips.mask, model._controls(clips), noise(3))[1]


def pixels(clips: Clips) -> Tensor:
    return clips.frames[..., 0, 0].double()


# the linear check: what the bound is a bound of is known


@torch.no_grad()
@pytest.mark.parametrize("row", ["######", "##..##", ".##.#.", "#....#"])
def test_with_the_true_posterior_the_bound_is_the_likelihood_of_the_joint_gaussian(row: str) -> None:
    clips = replace(linear_clips(1, 6), mask=some_clips([row]).mask)
    exact = log_likelihood(joint(linear_system(), 6), pixels(clips)[0], clips.mask[0, :, None])
    many, g = clips[torch.zeros(4000, dtype=torch.long)], noise(0)
    model = ExactDMM()
    bounds = torch.stack([model.loss(many, {}, g).elbo for _ in range(12)])
    assert float(bounds.std()) / 12**0.5 < 0.01
    assert float(bounds.mean()) == pytest.approx(float(exact), abs=0.03)


def test_the_bound_approaches_the_likelihood_of_the_kalman_filter_from_below() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LinearDMM(rnn="gru", rnn_size=24)
    held = linear_clips(200, 4, seed=9)
    exact = float(inference.log_likelihood(linear_system(), pixels(held)).mean())

    def gaps() -> Tensor:
        g = noise(1)
        with torch.no_grad():
            return exact - torch.stack([model.loss(held, {}, g).elbo for _ in range(10)])

    before = float(gaps().mean())
    inferring = [value for name, value in model.named_parameters() if name.startswith(("rnn", "start", "before", "mean", "scale"))]
    optimiser, g = torch.optim.Adam(inferring, lr=0.03), noise(2)
    for step in range(70):
        optimiser.zero_grad()
        model.loss(linear_clips(48, 4, seed=1000 + step), {}, g).total.backward()
        optimiser.step()
    after = gaps()
    assert before > 1.5
    assert -4 * float(after.std()) / 10**0.5 < float(after.mean()) < 0.4


@torch.no_grad()
@pytest.mark.parametrize("changes", [*({"posterior": name} for name in POSTERIORS), {"flows": 2}])
def test_no_posterior_has_a_bound_above_the_likelihood(changes: dict[str, Any]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LinearDMM(rnn_size=8, **changes)
    clips = replace(linear_clips(400, 5), mask=some_clips(["##.##"]).mask.expand(400, -1))
    exact = inference.log_likelihood(linear_system(), pixels(clips), clips.mask).mean()
    assert float(model.loss(clips, {}, noise(0)).elbo) < float(exact)


# gaps


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_where_nothing_tells_of_a_state_its_posterior_is_the_prior(posterior: str) -> None:
    model, clips = small_dmm(posterior=posterior), some_clips(["#.##..", ".####."])
    found = divergences(model, clips)
    blind = ~clips.mask if posterior in PAST_ALONE else torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]]).bool()
    assert torch.equal(found == 0, blind)
    states = read(model, clips)
    rolled = model.transition(states[:, 4], torch.zeros(2, 0)).mean
    torch.testing.assert_close(states[:, 5], rolled)


@torch.no_grad()
def test_flows_do_not_bend_what_is_the_priors() -> None:
    model, clips = small_dmm(flows=2), some_clips(["#.#..."])
    assert torch.equal(divergences(model, clips)[0] == 0, torch.tensor([0, 0, 0, 1, 1, 1]).bool())
    states = read(model, clips)
    torch.testing.assert_close(states[:, 4], model.transition(states[:, 3], torch.zeros(1, 0)).mean)


@torch.no_grad()
@pytest.mark.parametrize("posterior", ["smoothing", "both", "mean_field", "mean_field_future"])
def test_states_in_a_gap_are_told_what_comes_and_how_far_off_it_is(posterior: str) -> None:
    model, clips = small_dmm(posterior=posterior), some_clips(["#...#"])
    heard = model._evidence(model._features(clips), clips.mask, model._controls(clips))[0]
    assert (heard[1:3] - heard[2:4]).abs().amax(1).min() > 1e-3
    later = replace(clips, frames=torch.cat([clips.frames[:, :4], 1 - clips.frames[:, 4:]], 1))
    assert (read(model, later) - read(model, clips))[0, 1:4].abs().amax(1).min() > 1e-5


@torch.no_grad()
def test_controls_inside_a_gap_count_backwards_too() -> None:
    model, clips = small_dmm(controls=1), some_clips(["#...#"], 1)
    assert clips.controls is not None
    pushed = replace(clips, controls=clips.controls.index_fill(1, torch.tensor([3]), 2.0))
    change = (read(model, pushed) - read(model, clips))[0].abs().amax(1)
    assert (change[1:] > 1e-6).all()


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_from_the_past_alone_a_gap_is_the_prior_rolled_on_from_the_frames_before_it(posterior: str) -> None:
    model, clips = small_dmm(posterior=posterior, controls=1), some_clips(["##..#.#.", "#######.", "..##.###"], 1)
    found = model.impute(clips, past_only=True)
    assert clips.controls is not None
    for row, gaps in enumerate([((2, 4), (5, 6), (7, 8)), ((7, 8),), ((0, 2), (4, 5))]):
        own = clips[row : row + 1]
        for start, end in gaps:
            if start:
                assert own.controls is not None
                cut = Clips(own.frames[:, :start], own.mask[:, :start], own.controls[:, :start])
                states = path(model.predict(replace(model.encode(cut), controls=own.controls), end))
            else:
                states = torch.zeros(1, 1, 3)
                for t in range(1, end):
                    states = torch.cat([states, model.transition(states[:, -1], clips.controls[row : row + 1, t]).mean[:, None]], 1)
            torch.testing.assert_close(found[row, start:end], torch.sigmoid(model.decoder(states))[0, start:end])
    assert torch.equal(found[clips.mask], clips.frames[clips.mask])


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_later_frames_matter_to_a_smoother_and_not_to_a_filter(posterior: str) -> None:
    model, clips = small_dmm(posterior=posterior), some_clips(["##..#.##"])
    whole, past = model.impute(clips), model.impute(clips, past_only=True)
    assert torch.allclose(whole, past, atol=1e-6) == (posterior in PAST_ALONE)


@torch.no_grad()
def test_draws_of_missing_frames_differ_and_leave_the_others_alone() -> None:
    model, clips = small_dmm(), some_clips(["##..##"])
    for past_only in (False, True):
        one, other = (model.impute(clips, noise(seed), past_only) for seed in (0, 1))
        assert not torch.equal(one[0, 2], other[0, 2])
        assert torch.equal(one[clips.mask], clips.frames[clips.mask])


@torch.no_grad()
def test_frames_are_hidden_from_inference_in_training_alone_and_are_still_explained() -> None:
    open_eyed, blinking = small_dmm(), small_dmm(hide=1.0)
    clips = some_clips(["######"] * 4)
    assert torch.equal(blinking.loss(clips, {}, noise(1)).total, open_eyed.loss(clips, {}, noise(1)).total)
    assert torch.equal(blinking.train().loss(clips, {}, None).total, open_eyed.loss(clips, {}, None).total)
    shown = torch.stack([blinking._shown(clips.mask, noise(seed)).float().mean(1) for seed in range(200)])
    assert float(shown.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(shown.std()) > 0.25
    g = noise(1)
    mask = blinking._shown(clips.mask, g)
    states, divergence, _ = blinking._infer(blinking._features(clips), mask, blinking._controls(clips), g)
    explained = torch.nn.functional.binary_cross_entropy_with_logits(blinking.decoder(states), clips.frames, reduction="sum") / 4
    found = blinking.loss(clips, {}, noise(1)).values
    assert not mask.all()
    torch.testing.assert_close(found["reconstruction"], explained)
    torch.testing.assert_close(found["path_kl"], divergence.sum(1).mean())


@torch.no_grad()
def test_a_clip_without_any_frame_follows_the_prior() -> None:
    model, clips = small_dmm(), some_clips(["....", "####"])
    states = read(model, clips)
    assert torch.equal(states[0, 0], torch.zeros(3))
    torch.testing.assert_close(states[0, 3], model.transition(states[0, 2], torch.zeros(0)).mean)
    assert model.loss(clips, {}, None).total.isfinite()


# states and their beginnings


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_mean_field_posteriors_do_not_see_the_state_before(posterior: str) -> None:
    model, clips = small_dmm(posterior=posterior), some_clips(["####"])
    means = [posterior.mean for seed in (0, 1) if (posterior := model.encode(clips, noise(seed)).path_posterior) is not None]
    assert len(means) == 2
    assert torch.equal(means[0], means[1]) == model.config.posterior.startswith("mean_field")


@torch.no_grad()
def test_the_first_state_of_new_clips_is_standard_normal() -> None:
    first = path(small_dmm().generate(4000, 1, noise(0)))[:, 0]
    assert first.mean(0).abs().max() < 0.08
    assert (first.std(0) - 1).abs().max() < 0.05


@torch.no_grad()
def test_the_first_state_can_be_learned() -> None:
    model = small_dmm(first="learned")
    expected = model.transition(model.origin, torch.zeros(0))
    first = path(model.generate(4000, 1, noise(0)))[:, 0]
    torch.testing.assert_close(first.mean(0), expected.mean, atol=0.1, rtol=0)
    torch.testing.assert_close(first.std(0), expected.scale, atol=0, rtol=0.1)


@torch.no_grad()
def test_new_clips_follow_the_transition_with_its_noise() -> None:
    model = small_dmm(transition="mlp")
    states = path(model.generate(3000, 3, noise(0)))
    moved = model.transition(states[:, 1], torch.zeros(3000, 0))
    standard = (states[:, 2] - moved.mean) / moved.scale
    assert standard.mean(0).abs().max() < 0.1
    assert (standard.std(0) - 1).abs().max() < 0.06


# controls


@torch.no_grad()
def test_controls_lead_into_their_frame_and_those_of_the_first_frame_have_no_effect() -> None:
    model, clips = small_dmm(controls=2, posterior="filtering"), some_clips(["#####"], 2)
    assert clips.controls is not None
    first, third = (replace(clips, controls=clips.controls.index_fill(1, torch.tensor([t]), 3.0)) for t in (0, 2))
    torch.testing.assert_close(read(model, first), read(model, clips))
    change = (read(model, third) - read(model, clips))[0].abs().amax(1)
    assert (change[:2] == 0).all()
    assert change[2] > 1e-5


@torch.no_grad()
def test_predictions_obey_the_controls_that_the_codes_carry_and_take_others_for_zero() -> None:
    model, clips = small_dmm(controls=2), some_clips(["####"], 2)
    codes = model.encode(clips)
    push = torch.tensor([[[0.0, 0.0], [1.0, -2.0]]])
    assert clips.controls is not None
    pushed = path(model.predict(replace(codes, controls=torch.cat([clips.controls, push], 1)), 6))
    still = path(model.predict(codes, 6))
    torch.testing.assert_close(pushed[:, 4], still[:, 4])
    torch.testing.assert_close(pushed[:, 5], model.transition(pushed[:, 4], push[:, 1]).mean)
    torch.testing.assert_close(still[:, 5], model.transition(still[:, 4], torch.zeros(1, 2)).mean)
    torch.testing.assert_close(path(model.predict(replace(codes, controls=None), 6)), still)
    assert path(model.predict(codes, 3)).shape == (1, 3, 3)
    assert not torch.equal(path(model.predict(codes, 6, noise(0))), still)


# configuration and errors


def test_only_the_posterior_of_plain_gaussians_is_told() -> None:
    clips = some_clips(["###"])
    assert small_dmm().encode(clips).path_posterior is not None
    assert small_dmm(flows=1).encode(clips).path_posterior is None


def test_a_learned_pixel_scale_takes_a_gradient() -> None:
    model = small_dmm(likelihood="gaussian", learned_scale=True)
    model.loss(some_clips(["###"]), {}, None).total.backward()
    assert model.pixels.log_scale.grad is not None
    assert float(model.pixels.log_scale.grad) != 0


def test_states_are_told_in_float32_under_bfloat16() -> None:
    model, clips = small_dmm(flows=1), some_clips(["##.#"])
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(clips, {}, noise(0))
        assert path(model.encode(clips)).dtype == torch.float32
        frames = model.impute(clips, past_only=True)
    assert terms.total.dtype == torch.float32
    assert terms.total.item() == pytest.approx(model.loss(clips, {}, noise(0)).total.item(), rel=0.02)
    assert frames.dtype == torch.float32


def test_the_parts_that_a_configuration_does_not_need_are_not_there() -> None:
    names = {name.split(".")[0] for name, _ in small_dmm(posterior="mean_field").named_parameters()}
    assert not names & {"start", "before", "origin", "flows"}


def test_the_model_is_built_by_name() -> None:
    model = build("dmm", {"size": 8, "posterior": "both"}, seed=0)
    assert isinstance(model, DMM)
    assert (model.config.width, model.config.likelihood, model.config.pixel_scale) == (32, "bernoulli", 0.1)


@pytest.mark.parametrize("options", [{"posterior": "smooth"}, {"rnn": "transformer"}, {"hide": 1.5}, {"flows": -1}, {"state": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        DMMConfig.model_validate(options)


def test_a_model_with_controls_asks_for_them_and_for_one_row_per_frame() -> None:
    model, clips = small_dmm(controls=2), some_clips(["####"], 2)
    with pytest.raises(UserError, match=r"controls of shape \(B, T, U\) = \(1, 4, 2\).*got none.*one row for each frame"):
        model.loss(replace(clips, controls=None), {}, None)
    assert clips.controls is not None
    with pytest.raises(UserError, match=r"got shape \(1, 3, 2\)"):
        model.encode(replace(clips, controls=clips.controls[:, :3]))
    with pytest.raises(UserError, match=r"got shape \(1, 4, 1\)"):
        model.impute(replace(clips, controls=clips.controls[..., :1]))
    with pytest.raises(UserError, match="2 controls in each frame, got 1"):
        model.predict(replace(model.encode(clips), controls=clips.controls[..., :1]), 6)


def test_codes_without_a_path_and_frames_of_another_size_are_refused() -> None:
    model = small_dmm()
    for refuse in (model.decode, lambda codes: model.predict(codes, 5)):
        with pytest.raises(UserError, match="codes with a path"):
            refuse(Codes())
    with pytest.raises(UserError, match="frames of shape"):
        model.encode(Clips(torch.zeros(1, 2, 1, 16, 16), torch.ones(1, 2, dtype=torch.bool)))
