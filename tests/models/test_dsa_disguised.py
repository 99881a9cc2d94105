"""DSA: paths read off disguised frames, what teaches to read them without, and codes that are decoded together and read again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from oracles.small_dsa import GAP, PADDED, POSTERIORS, WHOLE, clips, dsa, posteriors
from oracles.small_vdsm import noise
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.random import normal
from stillmotion.models.dsa import CYCLE_NOISE, DSA, DSAConfig
from stillmotion.nn.recolour import recolour


def test_a_recoloured_path_is_read_from_other_colours_in_training_alone() -> None:
    torch.manual_seed(0)
    plain, pale = (DSA(DSAConfig(size=8, static=4, path=3, width=0.125, rnn=8, recolour=strength)) for strength in (0.0, 1.0))
    pale.load_state_dict(plain.state_dict())
    clips = Clips.of(torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(1)))

    def terms(model: DSA, **weights: float) -> dict[str, float]:
        return {name: value.item() for name, value in model.loss(clips, weights, torch.Generator().manual_seed(2)).values.items()}

    assert terms(pale.eval()) == terms(plain.eval())
    trained, other = terms(pale.train()), terms(plain.train())
    assert trained["static_kl"] == other["static_kl"]
    scrambled = terms(pale, scrambled=1.0)
    assert scrambled["static_kl"] == other["static_kl"]
    assert len({trained["path_kl"], other["path_kl"], scrambled["path_kl"]}) == 3


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_path_read_off_the_frames_as_they_are_is_taught_by_the_one_read_off_disguised_frames(posterior: str) -> None:
    model, given = dsa(posterior=posterior, recolour=1.0), clips(WHOLE, GAP)
    found = model.train().loss(given, {"scrambled": 1.0}, noise())
    source = noise()
    disguised = replace(given, frames=recolour(given.frames, 1.0, source, 1.0))
    f = normal((2, 4), source, given.frames)
    static, _ = posteriors(model.encode(given))
    f = static.mean + static.scale * f
    taught, teacher = (model._posterior(model._features(each), given.mask, f) for each in (given, disguised))
    match = kl_divergence(Normal(teacher.mean.detach(), teacher.scale.detach()), Normal(taught.mean, taught.scale)).sum(2)
    # the full posterior tells states of a gap as well, up to the last frame that is there
    told = given.mask.long() if posterior == "factorised" else torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    expected, weights = (match * told).sum(1).mean(), [*model.path_head.parameters()]
    torch.testing.assert_close(found.values["path_match"], expected)
    gradients = [torch.autograd.grad(each, weights) for each in (found.values["path_match"], expected)]
    torch.testing.assert_close(*gradients)  # of the teacher nothing is asked
    assert "path_match" not in model.eval().loss(given, {}, noise()).values
    assert "path_match" not in dsa(posterior=posterior).train().loss(given, {}, noise()).values


@torch.no_grad()
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_cycle_decodes_every_second_f_with_the_path_of_the_clip_before_it_and_reads_both_again(posterior: str) -> None:
    model, given = dsa(posterior=posterior), clips(WHOLE, WHOLE, WHOLE)
    found = model.loss(given, {"cycle": 0.5}, noise())
    source = noise()
    static, _ = posteriors(model.encode(given))
    f = static.mean + static.scale * normal((3, 4), source, given.frames)
    q = model._posterior(model._features(given), given.mask, f)
    z = q.mean + q.scale * normal((3, 5, 3), source, given.frames)
    swapped = model.decode(Codes(static=f[[0, 2]], path=z[[2, 1]]))
    seen = Clips(swapped + CYCLE_NOISE * normal((2, 5, 3, 8, 8), source, swapped), given.mask[:2])
    again, moved = posteriors(model.encode(seen))[0], model._posterior(model._features(seen), seen.mask, f[[0, 2]])
    lost = kl_divergence(Normal(static.mean[[0, 2]], static.scale[[0, 2]]), Normal(again.mean, again.scale)).sum(1)
    strayed = kl_divergence(Normal(q.mean[[2, 1]], q.scale[[2, 1]]), Normal(moved.mean, moved.scale)).sum((1, 2))
    torch.testing.assert_close(found.values["cycle"], (lost + strayed).mean())
    plain = model.loss(given, {}, noise())
    assert "cycle" not in plain.values
    assert "cycle" not in model.loss(given, {"cycle": 0.0}, noise()).values
    torch.testing.assert_close(found.total, plain.total + 0.5 * found.values["cycle"])


def test_states_of_missing_frames_have_no_part_in_the_cycle() -> None:
    """Of a clip that lacks its last frames, what stands in them changes nothing."""
    model, given = dsa(), clips(WHOLE, PADDED)
    other = replace(given, frames=torch.where(given.mask[..., None, None, None], given.frames, 0.5))
    first, second = (model.loss(each, {"cycle": 1.0}, noise()).values["cycle"] for each in (given, other))
    torch.testing.assert_close(first, second)
    assert bool(first.isfinite())
