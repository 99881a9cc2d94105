"""SRNN against the same model told in Pyro, frame by frame, and what it must not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.small_vdsm import noise
from oracles.srnn_in_pyro import Story, gru_step, negative_elbo
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.core.random import normal
from stillmotion.models.files import build
from stillmotion.models.srnn import SRNN, SRNNConfig

TINY: dict[str, Any] = {"size": 8, "state": 3, "memory": 5, "hidden": 6, "width": 4}
OPTIONS: list[dict[str, Any]] = [
    {}, {"posterior": "filtering"}, {"residual": False}, {"likelihood": "gaussian", "pixel_scale": 0.3}, {"controls": 2},
]  # fmt: skip
GAPS: list[tuple[int, ...]] = [(), (2,), (0,), (1, 2), (4, 5), (0, 3, 5)]


def model(**changes: Any) -> SRNN:
    """With weights large enough that every part matters."""
    made = build("srnn", {**TINY, **changes}, seed=0)
    assert isinstance(made, SRNN)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 2
        made.first_state += torch.tensor([0.5, -1.0, 0.3])
        made.first_features += 0.4
    return made.eval()


def clips(lacking: tuple[int, ...] = (), controls: int = 0) -> Clips:
    """Two clips of 6 frames; the second lacks nothing."""
    generator = torch.Generator().manual_seed(3)
    frames = (torch.rand(2, 6, 1, 8, 8, generator=generator) > 0.6).float()
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, list(lacking)] = False
    return Clips(frames, mask, torch.randn(2, 6, controls, generator=generator) if controls else None)


def stories(made: SRNN, batch: Clips, path_kl: float = 1.0) -> list[Story]:
    u = torch.zeros(*batch.mask.shape, 0) if batch.controls is None else batch.controls
    return [Story(made, batch.frames[b], tuple(batch.mask[b].tolist()), u[b], path_kl) for b in range(len(batch))]


def draws(made: SRNN, batch: Clips, seed: int) -> list[dict[str, Tensor]]:
    """The noise of each clip, in the order in which the loss draws it."""
    g, size = noise(seed), made.config.state
    steps = [normal((len(batch), size), g, torch.zeros(())) for _ in range(batch.mask.shape[1])]
    return [{f"z_{t}": step[b] for t, step in enumerate(steps)} for b in range(len(batch))]


def states(codes: Codes) -> Tensor:
    assert codes.path is not None
    return codes.path[..., :3]


@pytest.mark.parametrize("lacking", GAPS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "paper")
@torch.no_grad()
def test_the_loss_is_that_of_pyro(options: dict[str, Any], lacking: tuple[int, ...]) -> None:
    made, batch = model(**options), clips(lacking, options.get("controls", 0))
    expected = [negative_elbo(story, own) for story, own in zip(stories(made, batch), draws(made, batch, 5), strict=True)]
    assert made.loss(batch, {}, noise(5)).total.item() == pytest.approx(sum(expected) / 2, rel=1e-4)


@pytest.mark.parametrize("lacking", [(), (1, 2, 5)])
@torch.no_grad()
def test_the_weighted_divergence_is_that_of_pyro(lacking: tuple[int, ...]) -> None:
    """The total is dominated by pixels; the change of Pyro's bound with the weight is the divergence alone."""
    made, batch = model(), clips(lacking)
    light, heavy = (
        sum(negative_elbo(story, own) for story, own in zip(stories(made, batch, weight), draws(made, batch, 5), strict=True)) / 2
        for weight in (1.0, 1001.0)
    )
    terms = made.loss(batch, {"path_kl": 0.3}, noise(5))
    assert terms.values["path_kl"].item() == pytest.approx((heavy - light) / 1000, rel=1e-3)
    assert terms.total.item() == pytest.approx(terms.values["reconstruction"].item() + 0.3 * terms.values["path_kl"].item(), rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"posterior": "filtering"}], ids=["smoothing", "filtering"])
@pytest.mark.parametrize("past_only", [False, True])
@pytest.mark.parametrize("lacking", [(2,), (0,), (1, 2, 3), (4, 5)])
@torch.no_grad()
def test_missing_frames_are_those_of_a_walk_frame_by_frame(lacking: tuple[int, ...], past_only: bool, options: dict[str, Any]) -> None:
    made, batch = model(**options), clips(lacking)
    story = stories(made, batch)[0]
    memories, forwards = story.filtered()
    path = forwards if past_only else story.smoothed()
    found = made.impute(batch, past_only=past_only)
    for t in lacking:
        torch.testing.assert_close(found[0, t], story.mean_frame(story.picture(path[t], memories[t])), atol=1e-5, rtol=1e-4)
    assert torch.equal(found[batch.mask], batch.frames[batch.mask])


@torch.no_grad()
def test_the_path_is_state_and_memory_of_each_frame() -> None:
    made, batch = model(), clips((1, 2))
    story = stories(made, batch)[0]
    path = made.encode(batch).path
    assert path is not None
    expected = torch.cat([torch.stack(story.smoothed()), torch.stack(story.filtered()[0])], 1)
    torch.testing.assert_close(path[0], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_smoothing_hears_the_frames_after_a_gap_and_filtering_does_not() -> None:
    batch = clips((2, 3))
    later = batch.frames.clone()
    later[0, 4:] = 1 - later[0, 4:]
    other = replace(batch, frames=later)
    for posterior, past_only, hears in (("smoothing", False, True), ("smoothing", True, False), ("filtering", False, False)):
        made = model(posterior=posterior)
        before, after = (made.impute(each, past_only=past_only)[0, 2:4] for each in (batch, other))
        assert torch.equal(before, after) is not hears


@torch.no_grad()
def test_the_memory_never_knows_what_comes_after() -> None:
    """In a gap it reads the model's own frames; if later frames told of them, the bound would be none."""
    made, batch = model(), clips((2, 3))
    later = batch.frames.clone()
    later[0, 4:] = 1 - later[0, 4:]
    before, after = (made.encode(each).path for each in (batch, replace(batch, frames=later)))
    assert before is not None
    assert after is not None
    assert torch.equal(before[0, :5, 3:], after[0, :5, 3:])
    assert not torch.equal(before[0, :4, :3], after[0, :4, :3])


@pytest.mark.parametrize("options", [{}, {"posterior": "filtering"}], ids=["smoothing", "filtering"])
@torch.no_grad()
def test_frames_missing_at_the_end_are_as_good_as_cut_off(options: dict[str, Any]) -> None:
    made, batch = model(**options), clips((4, 5))
    one = batch[0:1]
    short = Clips(one.frames[:, :4], one.mask[:, :4])
    for term, value in made.loss(one, {}, None).values.items():
        torch.testing.assert_close(value, made.loss(short, {}, None).values[term])
    torch.testing.assert_close(made.encode(one).path[:, :4], made.encode(short).path)  # type: ignore[index]


@torch.no_grad()
def test_a_prediction_is_what_is_imputed_after_the_end() -> None:
    """But for the last frame: a prediction reads the model's own picture of it, so the picture is put in its place."""
    made, batch = model(), clips()
    codes = made.encode(batch)
    rolled = made.predict(codes, 9)
    assert rolled.path is not None
    assert codes.path is not None
    d, z = codes.path[0, -1, 3:], codes.path[0, -1, :3]
    story = stories(made, batch)[0]
    for t in range(6, 9):
        d = gru_step(story.features(story.mean_frame(story.picture(z, d))), d, made.forwards)
        z = story.expected(z, d)[0]
        torch.testing.assert_close(rolled.path[0, t], torch.cat([z, d]), atol=1e-5, rtol=1e-4)
    assert torch.equal(made.predict(codes, 4).path, codes.path[:, :4])  # type: ignore[arg-type]


@torch.no_grad()
def test_a_generated_clip_is_a_walk_with_the_storys_own_noise() -> None:
    made = model()
    found = made.generate(2, 4, noise(7)).path
    assert found is not None
    story, own = stories(made, clips())[0], draws(made, clips(), 7)[0]
    d, z, before = torch.zeros(5), made.first_state, made.first_features
    for t in range(4):
        d = gru_step(before, d, made.forwards)
        mean, scale = story.expected(z, d)
        z = mean + scale * own[f"z_{t}"]
        before = story.features(story.mean_frame(story.picture(z, d)))
        torch.testing.assert_close(found[0, t], torch.cat([z, d]), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_predictions_obey_the_controls_that_the_codes_carry_and_take_others_for_zero() -> None:
    made, batch = model(controls=2), clips((), 2)
    assert batch.controls is not None
    codes = made.encode(batch)
    push = torch.tensor([[[0.0, 0.0], [3.0, -3.0]]]).expand(2, 2, 2)
    still, pushed = (made.predict(replace(codes, controls=u), 8) for u in (batch.controls, torch.cat([batch.controls, push], 1)))
    assert torch.equal(states(still)[:, :7], states(pushed)[:, :7])
    assert not torch.allclose(states(still)[:, 7], states(pushed)[:, 7])
    zero = made.predict(replace(codes, controls=torch.cat([batch.controls, 0 * push], 1)), 8)
    assert torch.equal(states(still), states(zero))
    assert torch.equal(states(made.predict(replace(codes, controls=None), 8)), states(zero))


@torch.no_grad()
def test_the_control_of_the_first_frame_has_no_effect() -> None:
    made, batch = model(controls=2), clips((), 2)
    assert batch.controls is not None
    first = batch.controls.clone()
    first[:, 0] += 5
    assert torch.equal(states(made.encode(replace(batch, controls=first))), states(made.encode(batch)))


@pytest.mark.parametrize("past_only", [False, True])
@torch.no_grad()
def test_draws_of_missing_frames_differ_and_leave_the_others_alone(past_only: bool) -> None:
    made, batch = model(), clips((2, 3))
    one, other = (made.impute(batch, noise(seed), past_only) for seed in (0, 1))
    assert not torch.equal(one[0, 2], other[0, 2])
    assert torch.equal(one[batch.mask], batch.frames[batch.mask])


def test_gaps_teach_too() -> None:
    """Through the model's own frames the gradient reaches whatever made them, and it is finite."""
    made = model()
    made.loss(clips((1, 2)), {}, noise(0)).total.backward()
    assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in made.parameters())


def test_a_model_without_controls_leaves_those_of_the_codes_alone() -> None:
    made = model()
    codes = made.encode(clips())
    pushed = made.predict(replace(codes, controls=torch.ones(2, 8, 2)), 8)
    assert torch.equal(states(pushed), states(made.predict(codes, 8)))


@pytest.mark.parametrize("posterior", ["smoothing", "filtering"])
@torch.no_grad()
def test_a_clip_without_any_frame_follows_the_story(posterior: str) -> None:
    made, batch = model(posterior=posterior), clips(tuple(range(6)))
    terms = made.loss(batch, {}, None)
    whole = made.loss(batch[1:2], {}, None)
    torch.testing.assert_close(2 * terms.total, whole.total)
    torch.testing.assert_close(made.impute(batch), made.impute(batch, past_only=True))


def test_errors_say_what_is_wanted() -> None:
    made = model(controls=2)
    with pytest.raises(UserError, match="2 controls in each frame for this srnn model.*got none"):
        made.loss(clips(), {}, None)
    with pytest.raises(UserError, match=r"got shape \(2, 5, 2\)"):
        made.encode(replace(clips(), controls=torch.zeros(2, 5, 2)))
    with pytest.raises(UserError, match="codes with a path"):
        made.decode(Codes())
    with pytest.raises(UserError, match="codes with a path"):
        made.predict(Codes(), 4)
    with pytest.raises(UserError, match="2 controls in each frame, got 3"):
        made.predict(Codes(path=torch.zeros(1, 4, 8), controls=torch.zeros(1, 6, 3)), 6)
    with pytest.raises(UserError, match=r"frames of shape \(1, 8, 8\)"):
        made.encode(Clips.of(torch.zeros(2, 3, 1, 16, 16)))
    with pytest.raises(UserError, match="options of srnn"):
        build("srnn", {"posterior": "both"}, seed=0)


def test_the_defaults_are_those_of_the_page() -> None:
    config = SRNNConfig()
    assert (config.state, config.memory, config.hidden, config.controls, config.width) == (8, 64, 64, 0, 32)
    assert (config.posterior, config.residual) == ("smoothing", True)
