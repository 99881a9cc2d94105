"""DSA whose p(z_1) is a mixture, and the stage in which the dynamics learn alone."""

from __future__ import annotations

import pytest
import torch

from oracles.small_dsa import GAP, LATE, PADDED, POSTERIORS, WHOLE, clips, dsa
from oracles.small_vdsm import noise
from stillmotion.core.clips import Clips
from stillmotion.models.dsa import DSA
from stillmotion.testing import LAWS, Case


def far_apart(posterior: str = "factorised") -> DSA:
    """Two starts, 8 and -8 in every number, the second three times as likely."""
    model = dsa(posterior=posterior, starts=2)
    with torch.no_grad():
        model.start_means.copy_(torch.tensor([[1.6], [-1.6]]).expand_as(model.start_means))
        model.start_weights.copy_(torch.tensor([0.25, 0.75]).log())
    return model


@pytest.mark.parametrize("law", [name for name in LAWS if name not in ("learning", "frames_alone")])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_it_keeps_every_law(posterior: str, law: str) -> None:
    LAWS[law].check(Case(build=lambda: dsa(posterior=posterior, starts=3), lessons=()))


@pytest.mark.parametrize("posterior", POSTERIORS)
@torch.no_grad()
def test_starts_that_are_the_one_gaussian_change_nothing(posterior: str) -> None:
    one, many = dsa(posterior=posterior), dsa(posterior=posterior, starts=3)
    many.load_state_dict(one.state_dict(), strict=False)
    mean, raw = one.prior_head(one.prior_rnn(torch.zeros(1, 1, one.config.path))[0][:, 0]).chunk(2, -1)
    many.start_means.copy_((mean / 5).expand_as(many.start_means))
    many.start_scales.copy_(raw.expand_as(many.start_scales))
    batch = clips(WHOLE, PADDED, GAP, LATE)
    first, second = (model.loss(batch, {}, noise(5)).values for model in (one, many))
    if posterior == "full":  # else a start that is missing is drawn, of many by more noise
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, msg=name)
    whole = clips(WHOLE, WHOLE)
    first, second = (model.loss(whole, {}, noise(5)).values for model in (one, many))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name)


@torch.no_grad()
def test_new_paths_begin_at_the_starts_in_their_shares() -> None:
    codes = far_apart().generate(4000, 3, noise(1))
    assert codes.path is not None
    first = codes.path[:, 0]
    assert bool((first.abs() - 8).abs().lt(5).all())
    assert bool((first.sign() == first[:, :1].sign()).all())
    assert float((first[:, 0] < 0).float().mean()) == pytest.approx(0.75, abs=0.03)


@torch.no_grad()
def test_a_first_frame_that_is_missing_is_where_the_likeliest_start_is() -> None:
    model = far_apart()
    path = model.encode(clips(LATE)).path
    assert path is not None
    torch.testing.assert_close(path[0, 0], torch.full_like(path[0, 0], -8.0))
    drawn = torch.stack([p for seed in range(40) if (p := model.encode(clips(LATE), noise(seed)).path) is not None])[:, 0, 0, 0]
    assert 0 < int((drawn > 0).sum()) < 25


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_dynamics_alone_have_the_divergence_of_the_path_and_teach_nothing_else(posterior: str) -> None:
    model, batch = dsa(posterior=posterior, starts=3).train(), clips(WHOLE, PADDED)
    terms = model.dynamics_loss(batch, {"path_kl": 2.0}, None)
    torch.testing.assert_close(terms.values["path_kl"], model.loss(batch, {}, None).values["path_kl"])
    torch.testing.assert_close(terms.total, 2 * terms.values["path_kl"])
    terms.total.backward()
    taught = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    dynamics = {id(parameter) for parameter in model.parameter_groups()["dynamics"]}
    assert taught == {name for name, parameter in model.named_parameters() if id(parameter) in dynamics}


@torch.no_grad()
def test_states_that_were_read_before_stand_for_their_frames() -> None:
    model, batch = dsa(starts=3), clips(WHOLE, GAP)
    rows = model.readings()["dynamics"](batch)
    there = batch.mask[..., None]
    read = Clips(torch.where(there, rows, 0.0), batch.mask)
    for terms in (model.dynamics_loss(batch, {}, noise(2)), model.dynamics_loss(read, {}, noise(2))):
        torch.testing.assert_close(terms.values["path_kl"], model.dynamics_loss(batch, {}, noise(2)).values["path_kl"])
    assert dsa(posterior="full").readings() == {}


def test_the_dynamics_alone_come_nearer_to_states_that_stay_as_they_are() -> None:
    model, batch = dsa(starts=3).train(), clips(WHOLE, WHOLE, PADDED)
    before = model.encode(batch).path_posterior
    optimiser = torch.optim.Adam(model.parameter_groups()["dynamics"], lr=1e-2)
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = model.dynamics_loss(batch, {}, None).total
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    after = model.encode(batch).path_posterior
    assert before is not None
    assert after is not None
    there = batch.mask[..., None]
    assert torch.equal(before.mean * there, after.mean * there)
