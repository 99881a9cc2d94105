"""AE-RNN: its densities by torch.distributions, its codes one step after the other, and which half each objective moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from oracles.code_walk import walk
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.core.random import Noise
from stillmotion.models.ae_rnn import AERNN, AERNNConfig
from stillmotion.models.files import build
from stillmotion.models.kvae import KVAEConfig

TINY: dict[str, Any] = {"size": 8, "code": 2, "width": 4, "dynamics_size": 5}


def model(**changes: Any) -> AERNN:
    """With codes that move, and an LSTM that they move."""
    made = build("ae_rnn", {**TINY, **changes}, seed=0)
    assert isinstance(made, AERNN)
    with torch.no_grad():
        made.code_head.weight *= 20
        for parameter in made.rnn.parameters():
            parameter += 0.3
            parameter *= 2
    return made.eval()


def clips(lacking: tuple[int, ...] = ()) -> Clips:
    """Three clips of 6 frames, of which the first lacks some."""
    frames = (torch.rand(3, 6, 1, 8, 8, generator=torch.Generator().manual_seed(3)) > 0.6).float()
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[0, list(lacking)] = False
    return Clips(frames, mask)


def noise(seed: int) -> Noise:
    made = Noise()
    made.manual_seed(seed)
    return made


def path_of(codes: Codes) -> Tensor:
    assert codes.path is not None
    return codes.path


@pytest.mark.parametrize("lacking", [(), (2,), (0,), (1, 2, 5)])
@torch.no_grad()
def test_the_terms_are_the_densities_of_what_is_there(lacking: tuple[int, ...]) -> None:
    made, batch = model(), clips(lacking)
    a = path_of(made.encode_frames(batch))
    pixels = -(Bernoulli(logits=made.decoder(a)).log_prob(batch.frames).flatten(2).sum(2) * batch.mask).sum() / 3
    codes = a.new_zeros(())
    for clip in range(3):
        expected = walk(made.rnn, a[clip], batch.mask[clip].tolist())
        codes -= (Normal(expected.mean, expected.scale).log_prob(a[clip]).sum(1) * batch.mask[clip]).sum() / 3
    both, frames, sequence = (made(batch, {}, None, name).values for name in ("loss", "frames", "sequence"))
    assert set(frames) == {"reconstruction"}
    assert set(sequence) == {"dynamics"}
    for found in (both["reconstruction"], frames["reconstruction"]):
        torch.testing.assert_close(found, pixels)
    for found in (both["dynamics"], sequence["dynamics"]):
        torch.testing.assert_close(found, codes)


@torch.no_grad()
def test_gaussian_pixels_have_the_scale_that_is_set() -> None:
    made, batch = model(likelihood="gaussian", pixel_scale=0.3), clips((1,))
    mean = torch.sigmoid(made.decoder(path_of(made.encode_frames(batch))))
    expected = -(Normal(mean, 0.3).log_prob(batch.frames).flatten(2).sum(2) * batch.mask).sum() / 3
    torch.testing.assert_close(made.frames(batch, {}, None).values["reconstruction"], expected)


@pytest.mark.parametrize(("objective", "moved"), [("frames", {"frames"}), ("sequence", {"sequence"}), ("loss", {"frames", "sequence"})])
def test_each_objective_moves_its_half(objective: str, moved: set[str]) -> None:
    made = model()
    made(clips((2,)), {}, None, objective).total.backward()
    for name, group in made.parameter_groups().items():
        assert {parameter.grad is not None for parameter in group} == {name in moved}


@torch.no_grad()
def test_noise_on_codes_is_of_the_scale_that_is_asked_for() -> None:
    made, batch = model(), clips()
    bare, noisy = (made.frames(batch, {"code_noise": scale}, noise(1)).values["reconstruction"] for scale in (0.0, 0.7))
    a = path_of(made.encode_frames(batch))
    told = made.decode(Codes(path=a + 0.7 * torch.randn(a.shape, generator=noise(1)), mask=batch.mask))
    torch.testing.assert_close(noisy, -Bernoulli(told).log_prob(batch.frames).sum((1, 2, 3, 4)).mean())
    torch.testing.assert_close(bare, made.frames(batch, {}, noise(1)).values["reconstruction"])
    assert noisy != bare


def test_codes_hold_still_while_their_sequence_is_learned() -> None:
    """In `loss` the frames' part gets the gradient of the reconstruction and no other."""
    made, batch = model(), clips((2,))
    gradients = []
    for objective in ("frames", "loss"):
        made.zero_grad()
        made(batch, {}, None, objective).total.backward()
        gradients.append(made.code_head.weight.grad)
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("lacking", [(2,), (0,), (2, 3, 4), (4, 5)])
@torch.no_grad()
def test_missing_frames_are_decoded_from_the_codes_that_were_expected(lacking: tuple[int, ...]) -> None:
    made, batch = model(), clips(lacking)
    filled = walk(made.rnn, path_of(made.encode_frames(batch))[0], batch.mask[0].tolist()).filled
    torch.testing.assert_close(path_of(made.encode(batch))[0], filled)
    found = made.impute(batch)
    torch.testing.assert_close(found[0, list(lacking)], torch.sigmoid(made.decoder(filled[list(lacking)][None]))[0])
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
def test_first_codes_are_drawn_from_the_gaussian_that_was_learned() -> None:
    made = model()
    assert made.rnn.start is not None
    first = path_of(made.generate(4000, 1, noise(0)))[:, 0]
    scale = torch.nn.functional.softplus(made.rnn.start[1])
    torch.testing.assert_close(first.mean(0), made.rnn.start[0], atol=0.1, rtol=0)
    torch.testing.assert_close(first.std(0), scale, atol=0.1, rtol=0)


def test_errors_say_what_is_wanted() -> None:
    made = model()
    with pytest.raises(UserError, match="codes with a path"):
        made.decode(Codes())
    with pytest.raises(UserError, match="codes with a path"):
        made.predict(Codes(), 4)
    with pytest.raises(UserError, match=r"frames of shape \(1, 8, 8\) for this ae_rnn model"):
        made.impute(Clips.of(torch.zeros(2, 3, 1, 16, 16)))
    with pytest.raises(UserError, match="options of ae_rnn"):
        build("ae_rnn", {"dynamics_size": 0}, seed=0)


def test_the_frames_part_has_the_defaults_of_the_kalman_vae() -> None:
    mine, theirs = AERNNConfig().model_dump(), KVAEConfig().model_dump()
    assert mine == {name: theirs[name] for name in mine}
