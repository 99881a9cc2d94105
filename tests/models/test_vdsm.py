"""VDSM: its options, its parameter groups and its abilities. Its losses are checked in test_vdsm_pyro.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from oracles import convolutions
from oracles.small_vdsm import noise, small_config, small_vdsm, some_clips
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.core.gaps import bridge
from stillmotion.models.vdsm import VDSM
from stillmotion.models.vdsm_config import VDSMConfig

# configuration


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"unknown": 1}, "unknown"), ({"static": 0}, "static"), ({"channels": 2}, "channels"), ({"rnn_dropout": 1.0}, "rnn_dropout"),
        ({"likelihood": "laplace"}, "likelihood"), ({"pixel_scale": 0.0}, "pixel_scale"), ({"temperature": -1.0}, "temperature"),
        ({"encoder_channels": (4, 0)}, "encoder_channels"), ({"recolour": -0.1}, "recolour"), ({"flows": 0}, "flows"),
        ({"dynamic_grid": -0.1}, "dynamic_grid"), ({"static_grid": -0.1}, "static_grid"),
        ({"coarse": 3}, "coarse\n.*frame size 8 is no multiple of it"), ({"coarse": 0}, "coarse"),
    ],
)
def test_a_bad_setting_is_refused_by_name(change: dict[str, object], names: str) -> None:
    with pytest.raises(ValidationError, match=names):
        small_config(**change)


def test_a_configuration_cannot_change_and_survives_json() -> None:
    config = small_config(static=6)
    with pytest.raises(ValidationError, match="frozen"):
        config.static = 7  # type: ignore[misc]
    assert VDSMConfig.model_validate_json(config.model_dump_json()) == config


def test_the_quirks_of_the_release_can_be_had_together_and_overruled() -> None:
    released = VDSMConfig.as_released(static=12)
    assert released.static == 12
    assert (released.encoder_slope, released.mean_slope, released.average, released.transition_hidden) == (1.0, 0.01, "codes", 512)
    assert (released.prior_scale, released.dynamic_prior) == ("deviation", "released")
    assert VDSMConfig.as_released(average="encodings").average == "encodings"
    with pytest.raises(ValidationError, match="unknown"):
        VDSMConfig.as_released(unknown=1)


@pytest.mark.parametrize(("change", "message"), [
    ({"size": 12}, "power of two from 8 up, got 12"),
    ({"encoder_channels": (4, 5, 6)}, "expected 2 channel numbers for 8 x 8 frames, got 3"),
    ({"decoder_channels": (4, 5)}, "expected 1 channel numbers for 8 x 8 frames, got 2"),
])
def test_sizes_that_do_not_fit_together_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VDSM(small_config(**change))


# options


def spread(draw: Callable[[Codes], Tensor | None], **options: object) -> float:
    value = draw(small_vdsm(**options).generate(4000, 1, noise()))
    assert value is not None
    return float(value.square().mean().sqrt())


@pytest.mark.parametrize(("option", "scale"), [("variance", 4**-0.5), ("deviation", 1 / 4)])
def test_prior_scale_sets_the_spread_of_s(option: str, scale: float) -> None:
    assert spread(lambda codes: codes.static, prior_scale=option) == pytest.approx(scale, rel=0.03)


@pytest.mark.parametrize(("option", "scale"), [("unit", 1.0), ("released", 1 / 5)])
def test_dynamic_prior_sets_the_spread_of_d(option: str, scale: float) -> None:
    assert spread(lambda codes: codes.dynamic, dynamic_prior=option) == pytest.approx(scale, rel=0.03)


def reference_frames(model: VDSM, s: Tensor, path: Tensor, shares: Tensor, beside: Tensor) -> Tensor:
    code = torch.cat([beside[:, None].expand(-1, path.shape[1], -1), path], 2)
    return torch.sigmoid(convolutions.decode(shares, code, list(model.decoder.weights), list(model.decoder.biases), 0.01))


@pytest.mark.parametrize("temperature", [1.0, 6.0])
@pytest.mark.parametrize(
    "options", [{"decoder_input": "mixture"}, {"decoder_input": "static"}, {"decoder_input": "units"}, {"single_decoder": True}]
)
@torch.no_grad()
def test_what_the_decoder_sees(options: dict[str, object], temperature: float) -> None:
    model, s, path = small_vdsm(temperature=temperature, **options), torch.randn(2, 4), torch.randn(2, 5, 3)
    mixture = torch.softmax(s * temperature, 1)
    beside = {"static": s, "units": s * 2}.get(str(options.get("decoder_input")), mixture)  # 1/4 is the variance of p(s)
    shares = torch.ones(2, 1) if options.get("single_decoder") else mixture
    frames = model.decode(Codes(static=s, path=path))
    torch.testing.assert_close(frames, reference_frames(model, s, path, shares, beside))


def test_a_single_decoder_has_one_expert() -> None:
    assert {bank.shape[0] for bank in small_vdsm(single_decoder=True).decoder.parameters()} == {1}
    assert {bank.shape[0] for bank in small_vdsm().decoder.parameters()} == {4}


@torch.no_grad()
def test_average_says_what_is_averaged_over_frames() -> None:
    """f_s of the mean and the mean of f_s differ where f_s bends, and agree on a clip whose frames are alike."""
    clips = some_clips(5)
    clips.frames[0, :2] = 0
    still = Clips.of(clips.frames[:, :1].expand(-1, 5, -1, -1, -1))

    def static(option: str, clips: Clips) -> Tensor:
        model = small_vdsm(average=option)
        model.static_head.weight.mul_(100)  # far enough for frames to lie on both sides of the bend
        posterior = model.encode_frames(clips).static_posterior
        assert posterior is not None
        return torch.cat([posterior.mean, posterior.scale], 1)

    torch.testing.assert_close(static("encodings", still), static("codes", still))
    assert (static("encodings", clips) - static("codes", clips)).abs().max() > 1e-3


@torch.no_grad()
def test_codes_averaged_over_frames_are_the_mean_of_the_codes_of_each_frame() -> None:
    model, clips = small_vdsm(average="codes"), some_clips(5)
    singles = [model.encode_frames(Clips.of(frame[None])).static for frame in clips.frames[0]]
    whole = model.encode_frames(clips).static
    assert whole is not None
    torch.testing.assert_close(whole[0], torch.cat([single for single in singles if single is not None]).mean(0))


def test_recombining_needs_something_to_remember() -> None:
    with pytest.raises(UserError, match="Call remember first"):
        small_vdsm().recombine(1, 2, noise())
    with pytest.raises(UserError, match="with their posteriors"):
        small_vdsm().remember(Codes())


@torch.no_grad()
def test_flows_bend_the_path() -> None:
    model, clips = small_vdsm(posterior="iaf", flows=3), some_clips(4)
    assert len(model.flows) == 3
    assert not small_vdsm().flows
    codes = model.encode(clips)
    assert codes.path is not None
    assert codes.dynamic is not None
    assert codes.path_posterior is None, "flows leave no Gaussian to tell"
    z = model._path(codes.dynamic, 4, None)[2].mean
    for flow in model.flows:
        z = flow(z)[0]
    torch.testing.assert_close(codes.path, z)


# losses


@torch.no_grad()
def test_the_divergence_of_the_first_pose_is_weighted_with_the_others() -> None:
    """D7: on one frame the path is z_1 alone; without weight it costs nothing, with weight it costs its divergence."""
    model, clips = small_vdsm(), some_clips(1, 1)
    totals = [model.loss(clips, {"path_kl": weight}, noise()).total.item() for weight in (0.0, 1.0, 3.0)]
    divergence = model.loss(clips, {}, noise()).values["path_kl"].item()
    assert divergence > 0.1
    assert totals[1] - totals[0] == pytest.approx(divergence, rel=1e-3)
    assert totals[2] - totals[0] == pytest.approx(3 * divergence, rel=1e-3)


def test_the_losses_have_the_terms_of_their_equations() -> None:
    model, clips = small_vdsm(), some_clips(3, 2)
    losses = {name: loss(clips, {}, None) for name, loss in model.objectives().items()}
    assert {name: list(terms.values) for name, terms in losses.items()} == {
        "poses": ["reconstruction", "static_kl", "path_kl"], "paths": ["path_match", "dynamic_kl", "path_kl"],
        "sequence": ["reconstruction", "static_kl", "dynamic_kl", "path_kl"],
    }


@torch.no_grad()
def test_the_path_loss_measures_the_path_against_the_poses_of_each_frame() -> None:
    model, clips = small_vdsm(), some_clips(4, 2, 3)
    terms = model.path_loss(clips, {"path_kl": 0.5}, None)
    poses, path = model.encode_frames(clips).path_posterior, model.encode(clips).path_posterior
    assert poses is not None
    assert path is not None
    match = kl_divergence(Normal(poses.mean, poses.scale), Normal(path.mean, path.scale)).sum(2)
    torch.testing.assert_close(terms.values["path_match"], match[clips.mask].sum() / 3)
    whole = model.loss(clips, {}, None)
    for name in ("dynamic_kl", "path_kl"):
        torch.testing.assert_close(terms.values[name], whole.values[name])
    torch.testing.assert_close(terms.total, terms.values["path_match"] + terms.values["dynamic_kl"] + 0.5 * terms.values["path_kl"])


@pytest.mark.parametrize("options", [{}, {"dynamic_input": "samples"}, {"crossed": True, "recolour": 1.0, "rnn_layers": 1}])
def test_the_path_loss_is_the_same_of_what_the_pose_head_says_of_the_frames(options: dict[str, object]) -> None:
    model, clips = small_vdsm(**options), some_clips(4, 2, 3)
    rows = torch.cat([model.readings()["paths"](Clips(frame[:, None], frame.new_ones(3, 1).bool())) for frame in clips.frames.unbind(1)], 1)
    told = Clips((rows * clips.mask[:, :, None]).detach(), clips.mask)
    of_frames, of_rows = (model.train().path_loss(each, {}, noise()) for each in (clips, told))
    for name, value in of_frames.values.items():
        torch.testing.assert_close(of_rows.values[name], value)
    group = model.parameter_groups()["sequence"]
    for one, other in zip(*(torch.autograd.grad(terms.total, group) for terms in (of_frames, of_rows)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_path_loss_does_not_touch_the_decoder_or_s() -> None:
    model = small_vdsm()
    model.path_loss(some_clips(3, 2), {}, noise()).total.backward()
    idle = [*model.decoder.parameters(), *model.static_head.parameters(), *model.parameter_groups()["f_s"]]
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in idle)
    assert all(parameter.grad is not None for parameter in model.parameter_groups()["sequence"])


@torch.no_grad()
def test_the_temperature_of_a_schedule_replaces_the_final_one() -> None:
    clips = some_clips(3, 2)
    scheduled = small_vdsm(temperature=10.0).pose_loss(clips, {"temperature": 2.0}, noise()).total
    torch.testing.assert_close(scheduled, small_vdsm(temperature=2.0).pose_loss(clips, {}, noise()).total)
    assert scheduled != small_vdsm(temperature=10.0).pose_loss(clips, {}, noise()).total


@pytest.mark.parametrize("objective", ["poses", "paths", "sequence"])
def test_in_bfloat16_the_loss_stays_close(objective: str) -> None:
    model, clips = small_vdsm(), some_clips(4, 2, 3)
    exact = model(clips, {}, noise(), objective)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(clips, {}, noise(), objective)
    assert all(value.dtype == torch.float32 for value in rough.values.values())
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.01)


# parameter groups


@pytest.mark.parametrize("options", [{}, {"posterior": "iaf"}, {"single_decoder": True}, {"pooled": True}])
def test_the_groups_cover_every_parameter_once_but_for_parts_of_the_heads(options: dict[str, object]) -> None:
    model = small_vdsm(**options)
    groups = {name: {id(parameter) for parameter in group} for name, group in model.parameter_groups().items()}
    pose = {id(parameter) for parameter in model.pose_head.parameters()}
    assert groups["f_s"] < groups["static_heads"] == groups["heads"] - pose
    del groups["f_s"], groups["static_heads"]
    assert sum(len(group) for group in groups.values()) == len(set().union(*groups.values()))
    assert set().union(*groups.values()) == {id(parameter) for parameter in model.parameters()}


def test_the_sequence_group_is_what_the_first_stage_leaves_alone() -> None:
    model = small_vdsm(posterior="iaf")
    model.pose_loss(some_clips(3, 2), {}, noise()).total.backward()
    untouched = {id(parameter) for parameter in model.parameters() if parameter.grad is None}
    groups = model.parameter_groups()
    assert untouched == {id(parameter) for name in ("sequence", "flows") for parameter in groups[name]}


def test_the_stage_between_reaches_the_sequence_group_and_nothing_else() -> None:
    model = small_vdsm(posterior="iaf")
    model.path_loss(some_clips(3, 2), {}, noise()).total.backward()
    group = {id(parameter) for parameter in model.parameter_groups()["sequence"]}
    touched = {id(parameter) for parameter in model.parameters() if parameter.grad is not None}
    assert touched == group


# abilities


@pytest.mark.parametrize("call", ["encode", "encode_frames", "pose_loss", "loss"])
def test_frames_of_another_size_are_refused(call: str) -> None:
    clips = Clips.of(torch.zeros(1, 2, 3, 16, 16))
    arguments = ({}, None) if "loss" in call else ()
    with pytest.raises(UserError, match=r"frames of shape \(3, 8, 8\) for this vdsm model, got frames of shape \(3, 16, 16\)"):
        getattr(small_vdsm(), call)(clips, *arguments)


@torch.no_grad()
def test_a_single_frame_has_a_pose_but_no_motion() -> None:
    model, clips = small_vdsm(), some_clips(1, 1)
    with pytest.raises(UserError, match=r"clips of at least 2 frames, got T = 1. For single frames use encode_frames"):
        model.encode(clips)
    assert model.decode(model.encode_frames(clips)).shape == (2, 1, 3, 8, 8)


@pytest.mark.parametrize("codes", [Codes(), Codes(static=torch.zeros(1, 4)), Codes(path=torch.zeros(1, 2, 3))])
def test_codes_without_a_static_part_or_a_path_cannot_be_decoded(codes: Codes) -> None:
    with pytest.raises(UserError, match="codes with a static part and a path, got codes without"):
        small_vdsm().decode(codes)


@pytest.mark.parametrize("steps", [1, 40, 60])
@torch.no_grad()
def test_new_clips_may_have_any_length(steps: int) -> None:
    model = small_vdsm()
    codes = model.generate(2, steps, noise())
    frames = model.decode(codes)
    assert frames.shape == (2, steps, 3, 8, 8)
    assert frames.isfinite().all()
    assert codes.mask is not None
    assert codes.mask.shape == (2, steps)


@torch.no_grad()
def test_a_generated_path_walks_through_the_transition() -> None:
    model = small_vdsm()
    long, short = model.generate(3, 9, noise()), model.generate(3, 4, noise())
    assert long.path is not None
    assert short.path is not None
    torch.testing.assert_close(long.path[:, :4], short.path)
    model.transition.scale.weight.zero_()
    model.transition.scale.bias.fill_(-1000.0)
    still = model.generate(3, 9, noise())
    assert still.path is not None
    assert still.dynamic is not None
    torch.testing.assert_close(still.path[:, 5], model.transition(still.path[:, 4], still.dynamic).mean, atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_prediction_goes_on_where_the_clip_ends() -> None:
    model, clips = small_vdsm(), some_clips(4, 4)
    codes = model.encode(clips)
    ahead = model.predict(codes, 60)
    assert ahead.path is not None
    assert codes.path is not None
    assert ahead.mask is not None
    assert ahead.path.shape == (2, 60, 3)
    assert ahead.mask.all()
    torch.testing.assert_close(ahead.path[:, :4], codes.path)
    torch.testing.assert_close(model.decode(ahead)[:, :4], model.decode(codes))


@torch.no_grad()
def test_a_prediction_needs_the_action_of_the_clip() -> None:
    model, clips = small_vdsm(), some_clips(4)
    with pytest.raises(UserError, match=r"without a dynamic part\. Use encode, not encode_frames"):
        model.predict(model.encode_frames(clips), 9)


@pytest.mark.parametrize("ability", ["encode", "encode_frames"])
@torch.no_grad()
def test_a_swap_with_itself_is_the_reconstruction(ability: str) -> None:
    model, clips = small_vdsm(), some_clips(4, 4)
    codes = getattr(model, ability)(clips)
    assert torch.equal(model.decode(model.swap(codes, codes)), model.decode(codes))


@torch.no_grad()
def test_codes_drawn_with_a_generator_scatter_around_the_mean() -> None:
    model, clips = small_vdsm(), some_clips(4)
    many = Clips.of(clips.frames.expand(2000, -1, -1, -1, -1))
    codes, mean = model.encode(many, noise()), model.encode(clips)
    assert codes.static is not None
    assert mean.static_posterior is not None
    error = 5 * mean.static_posterior.scale[0] / 2000**0.5
    assert ((codes.static.mean(0) - mean.static_posterior.mean[0]).abs() < error).all()
    assert ((codes.static.std(0) / mean.static_posterior.scale[0] - 1).abs() < 0.1).all()


def test_grey_frames_have_one_channel() -> None:
    model, clips = small_vdsm(channels=1), some_clips(3, channels=1)
    assert model.decode(model.encode(clips)).shape == (1, 3, 1, 8, 8)


# imputation


def holes(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


@torch.no_grad()
def test_without_a_gap_what_is_imagined_is_the_reconstruction() -> None:
    model, clips = small_vdsm(), some_clips(6, 6)
    torch.testing.assert_close(model._imagine(clips, None), model.decode(model.encode(clips)))
    assert torch.equal(model.impute(clips), clips.frames)


@torch.no_grad()
def test_a_gap_is_filled_by_the_path_that_fits_the_poses_beside_it() -> None:
    """The definition, clip by clip: two ways to begin, five refills each, and the path that is likelier under the poses wins."""
    model, clips, mask = small_vdsm(seed=1), some_clips(7, 7, 7, seed=1), holes("1100111", "1010110", "0110011")
    for part in (model.pose_head, model.sequence_encoder, model.dynamic_head, model.sequence_decoder, model.combiner):
        for weight in part.parameters():
            weight.mul_(4)  # otherwise both ways end in one path
    found, winners = model.impute(Clips(clips.frames, mask)), set()
    for row in range(3):
        clip, there = clips[row : row + 1], mask[row]
        everywhere, static, poses = torch.ones(1, 7, dtype=torch.bool), *model._read(Clips(clip.frames, mask[row : row + 1]))
        tried = []
        for start, seen in ((bridge(poses.mean, there[None]), everywhere), (poses.mean[:, there], everywhere[:, there])):
            d = model._dynamic(start, seen, None).mean
            for _ in range(5):
                filled = model._path(d, 7, None)[0]
                filled[:, there] = poses.mean[:, there]
                d = model._dynamic(filled, everywhere, None).mean
            path = model._path(d, 7, None)[0]
            fit = Normal(poses.mean, poses.scale).log_prob(path)[:, there].sum()
            tried.append((fit.item(), model.decode(Codes(static.mean, d, path))[0, ~there]))
        winners.add(tried[1][0] > tried[0][0])
        torch.testing.assert_close(found[row, ~there], max(tried, key=lambda pair: pair[0])[1])
    assert winners == {False, True}  # each way to begin was the better one of some clip


@torch.no_grad()
def test_clips_are_filled_in_one_by_one_alike() -> None:
    model, clips, mask = small_vdsm(), some_clips(6, 6, 6), holes("101111", "000000", "110010")
    for past_only in (False, True):
        together = model.impute(Clips(clips.frames, mask), past_only=past_only)
        for row in range(3):
            alone = model.impute(Clips(clips.frames[row : row + 1], mask[row : row + 1]), past_only=past_only)
            torch.testing.assert_close(together[row : row + 1], alone)


@torch.no_grad()
def test_from_the_past_each_gap_is_told_by_what_lies_before_it() -> None:
    model, clips, mask = small_vdsm(), some_clips(7), holes("1101100")
    found = model.impute(Clips(clips.frames, mask), past_only=True)
    torch.testing.assert_close(found[:, 2], model.impute(Clips(clips.frames, holes("1100000")))[:, 2])
    torch.testing.assert_close(found[:, 5:], model.impute(Clips(clips.frames, mask))[:, 5:])


@torch.no_grad()
def test_where_nothing_was_seen_the_priors_speak() -> None:
    model, clips = small_vdsm(), some_clips(5)
    nothing = Clips(clips.frames, holes("00000"))
    zeros = Codes(torch.zeros(1, 4), path=model._path(torch.zeros(1, 5), 5, None)[0])
    torch.testing.assert_close(model.impute(nothing), model.decode(zeros))
    drawn = [model.impute(nothing, noise(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
