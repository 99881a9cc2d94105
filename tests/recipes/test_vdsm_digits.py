"""Swaps of digits by a model that paints what its codes say, judged by the light of the paint."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from stillmotion.core.abilities import Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.data import digits
from stillmotion.data.base import ClipSet
from stillmotion.metrics.judge import Verdicts
from stillmotion.metrics.paths import centroids
from stillmotion.recipes import vdsm_digits as module
from stillmotion.recipes.vdsm_digits import Seen, digits_alone, distorted, failures, handwritten, measured, one_of_each, strangers

SIZE, STEPS = 24, 8


def painted(places: Tensor, digit: Tensor) -> Tensor:
    """Clips (B, T, 3, SIZE, SIZE) of a square at places (B, T, 2), the lighter the higher the digit."""
    axis = torch.arange(SIZE)
    x, y = ((axis - places[..., k, None]).abs() <= 2 for k in (0, 1))
    light = (y[..., :, None] & x[..., None, :]) * ((digit + 1) / 10)[:, None, None, None]
    return light[:, :, None].expand(-1, -1, 3, -1, -1)


def world(count: int = 12) -> ClipSet:
    g = torch.Generator().manual_seed(1)
    start, speed = 4 + 8 * torch.rand(count, 1, 2, generator=g), torch.rand(count, 1, 2, generator=g) + 0.2
    places = (start + speed * torch.arange(STEPS)[:, None]).round()
    digit = torch.arange(count) % 4
    frames = (255 * painted(places, digit)).round().byte()
    return ClipSet.whole(frames, {"digit": digit, "direction": digit % 2}, {"digit": tuple("0123"), "direction": ("a", "b")})


class Painter(nn.Module, Swaps):
    """static: the light, path: the places. turned: it paints the path turned by half a turn; faded: everything in one light."""

    name = "painter"

    def __init__(self, turned: bool = False, faded: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.turned, self.faded = turned, faded

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return Codes(clips.frames.flatten(1).amax(1, keepdim=True), None, centroids(clips.frames).round(), clips.mask)

    def decode(self, codes: Codes) -> Tensor:
        assert codes.static is not None
        assert codes.path is not None
        digit = (10 * codes.static[:, 0] - 1).round()
        return painted(SIZE - 1 - codes.path if self.turned else codes.path, torch.zeros_like(digit) if self.faded else digit)


class Light:
    """A judge that reads the digit off the light."""

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        return {"digit": tuple("0123")}

    def read(self, clips: Clips) -> Verdicts:
        digit = (10 * clips.frames.flatten(1).amax(1) - 1).round().long()
        return Verdicts({"digit": nn.functional.one_hot(digit, 4).float()}, torch.zeros(len(digit), 1))


def found(model: Painter) -> dict[str, float]:
    clips = world()
    return {name: figure.value for name, figure in measured(Seen.of(model, Light(), clips), clips).items()}  # type: ignore[arg-type]


def test_a_perfect_swap_shows_the_digit_of_one_on_the_path_of_the_other() -> None:
    figures = found(Painter())
    for name in (
        "swap_digit_accuracy",
        "swap_path_followed",
        "swap_digit_and_path_followed",
        "rebuilt_digit_accuracy",
        "real_digit_accuracy",
    ):
        assert figures[name] == 1.0
    assert figures["path_correlation_swap"] == pytest.approx(1.0, abs=1e-4)
    assert figures["path_reach_rebuilt"] == pytest.approx(1.0, abs=1e-3)


def test_a_path_that_is_turned_keeps_the_digit_and_is_not_followed() -> None:
    figures = found(Painter(turned=True))
    assert figures["swap_digit_accuracy"] == 1.0
    assert figures["swap_path_followed"] == figures["swap_digit_and_path_followed"] == figures["rebuilt_path_followed"] == 0.0
    assert figures["path_correlation_swap"] == pytest.approx(-1.0, abs=1e-4)


def test_a_model_that_shows_one_digit_follows_the_path_alone() -> None:
    figures = found(Painter(faded=True))
    assert figures["swap_path_followed"] == 1.0
    assert figures["swap_digit_accuracy"] < 0.5
    assert figures["rebuilt_digit_accuracy"] == 0.25


def test_the_clips_of_a_swap_show_different_digits() -> None:
    digit = world().labels["digit"]
    assert (digit[strangers(digit)] != digit).all()
    with pytest.raises(UserError, match="two digits"):
        strangers(torch.ones(3, dtype=torch.int64))


def test_the_worst_swaps_are_those_of_another_digit_and_then_those_that_go_astray() -> None:
    clips = world(4)
    seen = Seen.of(Painter(), Light(), clips)  # type: ignore[arg-type]
    seen.swapped.paths[2] = -seen.swapped.paths[2]
    seen.swapped.verdicts.logits["digit"][1] = torch.tensor([9.0 * (k == int(clips.labels["digit"][1])) for k in range(4)])
    bad = failures(seen, clips, 2)
    assert [each["motion"] for each in bad] == [1, 2]
    assert bad[0] == {"motion": 1, "identity": int(seen.identity[1]), "seen": 1, "correlation": pytest.approx(1.0, abs=1e-4)}
    assert bad[1]["correlation"] == pytest.approx(-1.0, abs=1e-4)


def test_one_clip_of_each_digit_is_shown() -> None:
    assert one_of_each(world(), 6).labels["digit"].tolist() == [0, 1, 2, 3]
    assert one_of_each(world(), 2).labels["digit"].tolist() == [0, 3]


# What the judge learns from


def small() -> ClipSet:
    return digits.load(clips=12, validation=2, test=4, steps=3, size=32, source="sklearn").train


def test_without_distortion_clips_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURN", "SHEAR", "SCALE"):
        monkeypatch.setattr(module, name, 0.0)
    clips = small()
    assert torch.equal(distorted(clips, torch.Generator().manual_seed(0)).frames, clips.frames)


def test_a_distorted_digit_stays_where_it_is_and_is_distorted_alike_in_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 5)
    clips = small()
    before, after = clips.clips(), distorted(clips, torch.Generator().manual_seed(0)).clips()
    assert (centroids(after.frames) - centroids(before.frames)).abs().max() < 1.5
    assert ((after.frames - before.frames).abs().flatten(1).amax(1) > 0.1).all()
    mass = after.frames.flatten(2).sum(2)
    torch.testing.assert_close(mass, mass[:, :1].expand_as(mass), rtol=0.1, atol=0)
    assert after.frames.shape == before.frames.shape


def test_a_digit_turned_by_a_right_angle_lies_on_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = torch.zeros(1, 1, 15, 15, dtype=torch.uint8)
    bar[..., 7, 4:11] = 255
    turned = module._bent(bar, torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]))
    assert torch.equal(turned, bar.transpose(-1, -2))


def test_the_judge_learns_the_digit_alone_and_from_training_clips_in_other_hands() -> None:
    splits = digits.load(clips=12, validation=2, test=4, steps=3, size=32, source="sklearn")
    alone = handwritten(digits_alone(splits))
    assert all(set(part.labels) == set(part.classes) == {"digit"} for part in alone)
    assert not torch.equal(alone.train.frames, splits.train.frames)
    assert torch.equal(alone.test.frames, splits.test.frames)
