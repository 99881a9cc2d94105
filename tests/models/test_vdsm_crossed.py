"""What keeps motion out of s and looks out of d without labels: crossed static codes, and poses that are read as samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from oracles.small_vdsm import noise, small_config, small_vdsm, some_clips
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.groups import apart, halves
from stillmotion.core.random import normal
from stillmotion.models.vdsm import VDSM
from stillmotion.nn.recolour import recolour
from stillmotion.testing.cases import Case
from stillmotion.testing.laws import LAWS


def grouped(clips: int, *lengths: int, seed: int = 0) -> Clips:
    """Groups of so many clips, the lengths group by group."""
    plain = some_clips(*lengths, seed=seed)
    frames, mask = (value.reshape(-1, clips * value.shape[1], *value.shape[2:]) for value in (plain.frames, plain.mask))
    return Clips(frames, mask, joined=clips)


def members(clips: Clips) -> list[list[Tensor]]:
    """The frames that are there of each clip of each group."""
    cut = zip(clips.frames.chunk(clips.joined, 1), clips.mask.chunk(clips.joined, 1), strict=True)
    each = [[frames[row, mask[row]] for row in range(len(clips))] for frames, mask in cut]
    return [list(group) for group in zip(*each, strict=True)]


def static_of(model: VDSM, frames: Tensor) -> Gaussian:
    posterior = model.encode_frames(Clips.of(frames)).static_posterior
    assert posterior is not None
    return posterior


def divergence(model: VDSM, q: Gaussian) -> float:
    prior = Normal(0.0, model.static_prior)
    return float(kl_divergence(Normal(q.mean, q.scale), prior).sum())


def cost(model: VDSM, s: Tensor, path: Tensor | None, frames: Tensor) -> float:
    made = model.decode(Codes(static=s, path=path))[0].clamp(1e-6, 1 - 1e-6)
    return float(F.binary_cross_entropy(made, frames, reduction="sum"))


@pytest.mark.parametrize(("clips", "lengths"), [(2, (4, 4)), (2, (4, 2, 3, 1)), (3, (3, 4, 2))])
@torch.no_grad()
def test_the_crossed_loss_of_stage_one_is_that_of_each_clip_with_the_code_of_the_others(clips: int, lengths: tuple[int, ...]) -> None:
    model, groups = small_vdsm(crossed=True), grouped(clips, *lengths)
    found = model.pose_loss(groups, {}, None).values
    pixels, static, path = 0.0, 0.0, 0.0
    for group in members(groups):
        for k, frames in enumerate(group):
            q = static_of(model, torch.cat([other for j, other in enumerate(group) if j != k]))
            poses = model.encode_frames(Clips.of(frames)).path_posterior
            assert poses is not None
            pixels += cost(model, q.mean, poses.mean, frames)
            static += divergence(model, q) / clips
            path += float(kl_divergence(Normal(poses.mean, poses.scale), Normal(0.0, 1.0)).sum())
    expected = {"reconstruction": pixels, "static_kl": static, "path_kl": path}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value / len(groups) for name, value in expected.items()}, rel=1e-4
    )


@torch.no_grad()
def test_a_group_of_one_clip_is_crossed_between_the_halves_of_its_time() -> None:
    model, clips = small_vdsm(crossed=True), some_clips(5, 4, 1)
    for name, value in model.pose_loss(clips, {}, noise()).values.items():
        torch.testing.assert_close(value, model.pose_loss(halves(clips), {}, noise()).values[name])
    # a clip of one frame has no other half: its own code decodes it, as ever
    single, plain = some_clips(1), small_vdsm()
    for name, value in model.pose_loss(single, {}, None).values.items():
        torch.testing.assert_close(value, plain.pose_loss(single, {}, None).values[name])


@torch.no_grad()
def test_codes_of_the_same_frames_can_be_crossed_without_a_difference() -> None:
    """Where codes tell nothing of their own clip alone, the crossed terms are those of one code for the group."""
    clip = some_clips(4)
    twice = Clips(clip.frames.repeat(1, 2, 1, 1, 1), clip.mask.repeat(1, 2), joined=2)
    crossed, plain = (small_vdsm(crossed=option).pose_loss(twice, {}, None).values for option in (True, False))
    for name, value in crossed.items():
        torch.testing.assert_close(value, plain[name])


@pytest.mark.parametrize("objective", ["poses", "sequence"])
def test_no_code_sees_the_frames_that_it_decodes(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a clip's frames teaches the code of that clip nothing: s of the second clip alone decodes the first."""
    model, groups = small_vdsm(crossed=True), grouped(2, 3, 3)
    seen: list[Tensor] = []
    logits = model._logits

    def look(s: Tensor, z: Tensor, temperature: float) -> Tensor:
        seen.extend(s)
        return logits(s, z, temperature)

    monkeypatch.setattr(model, "_logits", look)
    frames = groups.frames.clone().requires_grad_()
    model(replace(groups, frames=frames), {}, None, objective)
    assert len(seen) == 2
    for clip, s in enumerate(seen):
        moved = torch.autograd.grad(s.square().sum(), frames, retain_graph=True)[0].chunk(2, 1)
        assert not moved[clip].any()
        assert moved[1 - clip].any()


@torch.no_grad()
def test_in_stage_two_crossed_clips_are_sequences_of_their_own_and_codes_count_in_full() -> None:
    model, groups = small_vdsm(crossed=True), grouped(2, 4, 2, 3, 4)
    found = model.loss(groups, {}, None).values
    expected = dict.fromkeys(found, 0.0)
    for group in members(groups):
        for frames, other in (group, group[::-1]):
            alone = model.loss(Clips.of(frames), {}, None).values
            q, path = static_of(model, other), model.encode(Clips.of(frames)).path
            expected["reconstruction"] += cost(model, q.mean, path, frames)
            expected["static_kl"] += divergence(model, q)
            expected["dynamic_kl"] += alone["dynamic_kl"].item()
            expected["path_kl"] += alone["path_kl"].item()
    assert {name: value.item() for name, value in found.items()} == pytest.approx({k: v / 4 for k, v in expected.items()}, rel=1e-4)


@torch.no_grad()
def test_single_clips_of_stage_two_and_plain_models_are_left_alone() -> None:
    clips, groups = some_clips(4, 3), grouped(2, 4, 4)
    for objective in ("paths", "sequence"):
        crossed, plain = (small_vdsm(crossed=option)(clips, {}, noise(), objective).values for option in (True, False))
        assert all(torch.equal(value, plain[name]) for name, value in crossed.items())
    joined, single = (small_vdsm().pose_loss(each, {}, noise()).values for each in (groups, replace(groups, joined=1)))
    assert all(torch.equal(value, single[name]) for name, value in joined.items())


@torch.no_grad()
def test_recoloured_frames_still_teach_poses_alone() -> None:
    model, groups = small_vdsm(crossed=True, recolour=1.0).train(), grouped(2, 3, 3)
    plain = small_vdsm(crossed=True).train()
    found, expected = (each.pose_loss(groups, {}, noise()).values for each in (model, plain))
    torch.testing.assert_close(found["static_kl"], expected["static_kl"])
    mixed = recolour(apart(groups).frames, 1.0, noise())
    poses = model.encode_frames(Clips(mixed, torch.ones(2, 3, dtype=torch.bool))).path_posterior
    assert poses is not None
    torch.testing.assert_close(found["path_kl"], kl_divergence(Normal(poses.mean, poses.scale), Normal(0.0, 1.0)).sum())
    taught = model.encode_frames(apart(groups)).path_posterior
    assert taught is not None
    match = kl_divergence(Normal(poses.mean.detach(), poses.scale.detach()), Normal(taught.mean, taught.scale)).sum()
    torch.testing.assert_close(found["path_match"], match)
    assert "path_match" not in model.eval().pose_loss(groups, {}, noise()).values


@torch.no_grad()
def test_clips_of_a_group_are_so_many_clips_in_stage_two_with_what_teaches_poses_too() -> None:
    model, groups = small_vdsm(crossed=True, recolour=1.0).train(), grouped(2, 3, 3)
    crossed, alone = (model.loss(each, {}, noise()).values for each in (groups, apart(groups)))
    torch.testing.assert_close(crossed["path_match"], alone["path_match"])
    torch.testing.assert_close(crossed["path_kl"], alone["path_kl"])


def test_poses_of_disguised_frames_are_the_teacher_and_learn_nothing() -> None:
    model, groups = small_vdsm(crossed=True, recolour=1.0).train(), grouped(2, 3, 3)
    weights, sides = [model.pose_head.weight, model.pose_head.bias], apart(groups)
    found = torch.autograd.grad(model.pose_loss(groups, {}, noise()).values["path_match"], weights)
    teacher, taught = (
        model.encode_frames(Clips(frames, sides.mask)).path_posterior for frames in (recolour(sides.frames, 1.0, noise()), sides.frames)
    )
    assert teacher is not None
    assert taught is not None
    match = kl_divergence(Normal(teacher.mean.detach(), teacher.scale.detach()), Normal(taught.mean, taught.scale)).sum()
    torch.testing.assert_close(found, torch.autograd.grad(match, weights))


# what q(d | x) reads


def read_by_d(model: VDSM, clips: Clips, seed: int) -> Gaussian:
    """q(d | x) of poses that are drawn before anything else is."""
    poses = model.encode_frames(clips).path_posterior
    assert poses is not None
    drawn = poses.mean + poses.scale * normal(tuple(poses.mean.shape), noise(seed), poses.mean)
    return model._dynamic(drawn, clips.mask, None)


@pytest.mark.parametrize("objective", ["paths", "sequence"])
@torch.no_grad()
def test_samples_of_the_poses_are_what_d_is_read_from(objective: str) -> None:
    model, plain, clips = small_vdsm(dynamic_input="samples"), small_vdsm(), some_clips(4, 2)
    q = read_by_d(model, clips, 3)
    expected = kl_divergence(Normal(q.mean, q.scale), Normal(0.0, 1.0)).sum() / 2
    found = [each(clips, {}, noise(3), objective).values["dynamic_kl"] for each in (model, plain)]
    torch.testing.assert_close(found[0], expected)
    assert (found[1] - expected).abs() > 1e-4
    for name, value in model(clips, {}, None, objective).values.items():
        torch.testing.assert_close(value, plain(clips, {}, None, objective).values[name])


@torch.no_grad()
def test_codes_without_a_generator_are_read_from_means_and_draws_from_samples() -> None:
    model, plain, clips = small_vdsm(dynamic_input="samples"), small_vdsm(), some_clips(4, 3)
    mean, other = model.encode(clips), plain.encode(clips)
    assert mean.dynamic is not None
    assert mean.path is not None
    assert other.dynamic is not None
    assert torch.equal(mean.dynamic, other.dynamic)
    drawn = model.encode(clips, noise(3)).dynamic_posterior
    assert drawn is not None
    torch.testing.assert_close(drawn.mean, read_by_d(model, clips, 3).mean)
    assert not torch.allclose(drawn.mean, mean.dynamic, atol=1e-4)
    gap = Clips(clips.frames, clips.mask & (torch.arange(4) != 1))
    assert torch.equal(model.impute(gap), plain.impute(gap))


# the law book

OPTIONS: dict[str, dict[str, object]] = {
    "crossed": {"crossed": True}, "crossed and recoloured": {"crossed": True, "recolour": 1.0}, "samples": {"dynamic_input": "samples"},
    "both": {"crossed": True, "dynamic_input": "samples", "posterior": "iaf"},
}  # fmt: skip


@pytest.mark.parametrize("law", [name for name in LAWS if name != "learning"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_law_book_holds(law: str, options: dict[str, object]) -> None:
    case = Case(build=lambda: VDSM(small_config(**options)), lessons=())
    assert LAWS[law].binds(case.model())
    LAWS[law].check(case)
