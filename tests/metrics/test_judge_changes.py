"""A judge that tells a factor by what changes from frame to frame alone."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from metrics.saying import seeded
from metrics.test_judge import small_judge, some_clips
from stillmotion.core.clips import Clips
from stillmotion.metrics.judge import GAIN, Judge, JudgeConfig, changes, shifted


def test_changes_are_differences_of_grey_frames_one_by_one() -> None:
    clips = some_clips(4, 2)
    mask = clips.mask.clone()
    mask[0, 1] = False
    found = changes(Clips(clips.frames, mask))
    assert found.shape == (2, 4, 1, 16, 16)
    for b in range(2):
        for t in range(1, 4):
            both = bool(mask[b, t] and mask[b, t - 1])
            step = GAIN * (clips.frames[b, t].mean(0) - clips.frames[b, t - 1].mean(0)).abs()
            torch.testing.assert_close(found[b, t, 0], step.clamp(max=1) if both else torch.zeros(16, 16))
        assert torch.equal(found[b, 0], found[b, 1])
    assert torch.equal(changes(some_clips(1)), torch.zeros(1, 1, 1, 16, 16))


def test_clips_are_moved_about_whole() -> None:
    frames, reach = torch.rand(40, 3, 2, 20, 20, generator=seeded(0)), 2
    moved = shifted(frames, seeded(1))
    found = set()
    for clip, other in zip(frames, moved, strict=True):
        places = product(range(-reach, reach + 1), repeat=2)
        fits = [place for place in places if torch.equal(_by(clip, *place), other)]
        assert len(fits) == 1
        found.add(fits[0])
    assert len(found) > 12


def _by(clip: Tensor, down: int, right: int) -> Tensor:
    out = torch.zeros_like(clip)
    for y in range(20):
        for x in range(20):
            if 0 <= y - down < 20 and 0 <= x - right < 20:
                out[:, :, y, x] = clip[:, :, y - down, x - right]
    return out


@torch.no_grad()
def test_what_stays_is_not_seen_and_tells_only_the_other_factors() -> None:
    judge, clips = small_judge(changes=("action",)), some_clips(4, 3)
    dim = Clips(clips.frames / 2, clips.mask)
    behind = Clips(dim.frames + 0.5 * torch.rand(2, 1, 3, 16, 16, generator=seeded(3)), clips.mask)
    one, other = judge.read(dim), judge.read(behind)
    assert one.features.shape == (2, 4 * 6)
    torch.testing.assert_close(one.features[:, 12:], other.features[:, 12:], atol=1e-6, rtol=0)
    torch.testing.assert_close(one.logits["action"], other.logits["action"], atol=1e-6, rtol=0)
    assert (one.features[:, :12] - other.features[:, :12]).abs().max() > 1e-4
    assert (one.features[0] - one.features[1]).abs().max() > 1e-4
    padded = Clips(torch.where(clips.mask[:, :, None, None, None], clips.frames, 7.0), clips.mask)
    torch.testing.assert_close(judge.read(padded).logits["action"], judge.read(clips).logits["action"])


def test_a_factor_that_is_not_judged_cannot_be_told_by_changes() -> None:
    with pytest.raises(ValidationError, match="got colour"):
        JudgeConfig(classes={"hair": ("red", "black")}, changes=("colour",))


def confounded(action: Tensor, person: Tensor, seed: int) -> Clips:
    """Squares of the person's brightness that go right or down, far enough to be told within 4 frames."""
    frames, g = torch.zeros(len(action), 4, 1, 16, 16), seeded(seed)
    for b, (how, who) in enumerate(zip(action.tolist(), person.tolist(), strict=True)):
        y, x = (int(n) for n in torch.randint(0, 5, (2,), generator=g))
        for t in range(4):
            down, right = (2 * t, 0) if how else (0, 2 * t)
            frames[b, t, 0, y + down : y + down + 4, x + right : x + right + 4] = (0.3, 1.0)[who]
    return Clips(frames, torch.ones(len(action), 4, dtype=torch.bool), labels={"action": action, "person": person})


@pytest.mark.parametrize(("told", "least", "most"), [((), 0.0, 0.6), (("action",), 0.9, 1.0)])
def test_who_does_it_cannot_stand_for_what_is_done(told: tuple[str, ...], least: float, most: float) -> None:
    """In training the dim one goes right and the bright one down, nine times in ten; then it is the other way about."""
    g = seeded(0)
    torch.manual_seed(0)
    classes = {"action": ("right", "down"), "person": ("dim", "bright")}
    judge = Judge(JudgeConfig(classes=classes, size=16, colours=1, channels=(4, 8, 8, 8), code=8, rnn=8, hidden=8, changes=told)).train()
    optimiser = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for step in range(120):
        person = torch.randint(2, (32,), generator=g)
        clips = confounded(torch.where(torch.rand(32, generator=g) < 0.9, person, 1 - person), person, step)
        optimiser.zero_grad()
        judge.loss(clips, {}, None).total.backward()
        optimiser.step()
    person = torch.randint(2, (100,), generator=g)
    found = judge.eval().read(confounded(1 - person, person, 999))
    assert float((found.top("person") == person).float().mean()) > 0.95
    assert least <= float((found.top("action") == 1 - person).float().mean()) <= most
