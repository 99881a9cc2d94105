"""Pendula that are rolled on by models that know the truth, and by some that err in a known way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stillmotion.core.abilities import Predicts, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.data import pendula
from stillmotion.recipes.vdsm_rollouts import LONGEST, Known, Seen, by_speed_alone, measured, near, roll, spans
from stillmotion.tasks.codes import encode

SEEN = 16
SPANS = ("16", "40", "60", "17_to_60")


class Oracle(nn.Module, Swaps, Predicts):
    """static: the colour; dynamic: which clip it is; path: the true angles, at a pace that may be wrong from frame `errs` on."""

    name = "oracle"

    def __init__(self, known: Known, pace: float = 1.0, errs: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.known, self.pace, self.errs = known, pace, errs

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        angle, truth = pendula.read_angle(clips.frames), self.known.swings.angle.float()
        which = torch.cdist(angle, truth[:, : angle.shape[1]]).argmin(1, keepdim=True).float()
        return Codes(pendula.read_colour(clips.frames)[:, None].float(), which, angle[..., None], clips.mask)

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        assert codes.dynamic is not None
        time = torch.arange(steps).double()
        time = torch.where(time < self.errs, time, self.errs + self.pace * (time - self.errs))
        swings, which = self.known.swings, codes.dynamic[:, 0].long()
        turn = 2 * torch.pi * swings.frequency[which, None] * time  # nearly the true swing, and at the true frequency
        return replace(codes, path=(swings.amplitude[which, None] * turn.cos())[..., None].float())

    def decode(self, codes: Codes) -> Tensor:
        assert codes.static is not None
        assert codes.path is not None
        colour, angle = codes.static[:, 0].long(), codes.path[..., 0].double()
        none = torch.zeros(len(colour))
        return pendula.render(pendula.Swings(colour, none.long(), none, none, angle), 32).float() / 255


class Stuck(Oracle):
    """Takes the movement from the wrong clip."""

    def swap(self, identity: Codes, motion: Codes) -> Codes:
        return identity


@pytest.fixture(scope="module")
def known() -> Known:
    return Known.of(14, SEEN, 32)


def test_clips_go_on_as_they_began_and_their_truth_is_known(known: Known) -> None:
    whole, begun = known.whole.clips().frames, known.begun.clips().frames
    assert whole.shape[:2] == (14, LONGEST)
    assert torch.equal(whole[:, :SEEN], begun)
    assert begun.shape[1] == SEEN
    torch.testing.assert_close(pendula.read_frequency(whole), known.swings.frequency, rtol=0.03, atol=0)


def test_an_identity_is_taken_from_a_clip_of_another_colour_and_speed(known: Known) -> None:
    other, labels = known.strangers(), known.begun.labels
    assert (labels["colour"][other] != labels["colour"]).all()
    assert (labels["speed"][other] != labels["speed"]).all()


def test_shown_clips_are_slow_and_fast_by_turns_and_others_each_time(known: Known) -> None:
    first, second = known.some(3, 0), known.some(3, 1)
    assert known.swings.speed[first].tolist() == [0, 1, 0]
    assert not set(first.tolist()) & set(second.tolist())


def test_a_model_that_knows_the_truth_is_right_everywhere(known: Known) -> None:
    figures, astray, _ = measured(Oracle(known), known)  # type: ignore[arg-type]
    assert set(spans(SEEN)) == set(SPANS)
    names = [f"{way}_frequency_within_{bound}_percent_{span}" for way in ("rollout", "swap") for bound in (5, 2) for span in SPANS]
    assert {figures[name].value for name in names} == {1.0}
    assert [figures[f"{way}_colour_accuracy"].value for way in ("rollout", "swap", "real")] == [1.0] * 3
    assert figures["real_frequency_within_2_percent_60"].value == 1.0
    assert figures["swap_both_accuracy"].value == 1.0
    assert figures["swap_both_accuracy"].low < 0.85  # fourteen clips prove little
    assert {figure.clips for figure in figures.values()} == {14}
    assert max(astray["real, as read"]) < 0.02
    assert astray["a bob that hangs still"] == pytest.approx(known.swings.angle.abs().mean(0).tolist(), rel=1e-5)


def test_a_swing_that_is_a_tenth_too_fast_is_wrong_and_its_colour_right(known: Known) -> None:
    figures, *_ = measured(Oracle(known, pace=1.1), known)  # type: ignore[arg-type]
    assert figures["rollout_frequency_within_5_percent_60"].value == 0.0
    assert figures["swap_frequency_within_5_percent_60"].value == 0.0
    assert figures["rollout_colour_accuracy"].value == figures["swap_colour_accuracy"].value == 1.0


def test_a_model_that_does_not_know_the_amplitude_is_right_within_5_percent_and_wrong_within_2(known: Known) -> None:
    class Rigid(Oracle):
        def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
            assert codes.dynamic is not None
            which = codes.dynamic[:, 0].long()
            middle = torch.tensor([14.7, 7.35], dtype=torch.float64)[self.known.swings.speed[which]]  # periods go up to 1.098 of 14 and 7
            turn = 2 * torch.pi * torch.arange(steps).double() / middle[:, None]
            return replace(codes, path=(self.known.swings.amplitude[which, None] * turn.cos())[..., None].float())

    figures, *_ = measured(Rigid(known), known)  # type: ignore[arg-type]
    assert figures["rollout_frequency_within_5_percent_60"].value == figures["swap_frequency_within_5_percent_60"].value == 1.0
    assert figures["rollout_by_speed_alone_within_5_percent"].value == 1.0
    rigid, best = figures["rollout_frequency_within_2_percent_60"].value, figures["rollout_by_speed_alone_within_2_percent"].value
    assert rigid <= best < 0.9 < figures["real_frequency_within_2_percent_60"].value


def test_the_best_frequency_of_each_speed_is_that_which_is_right_most_often(known: Known) -> None:
    slow, fast = [1.0, 1.015, 1.03, 1.1], [5.0, 7.0, 7.1, 7.2]
    frequency = torch.tensor([value for pair in zip(slow, fast, strict=True) for value in pair], dtype=torch.float64)
    swings = replace(known.swings, speed=torch.arange(8) % 2, frequency=frequency)
    hits = by_speed_alone(swings, 2)
    assert hits[::2].tolist() == [True, True, True, False]
    assert hits[1::2].tolist() == [False, True, True, True]


def test_what_goes_wrong_after_the_frames_that_were_seen_is_found_there(known: Known) -> None:
    figures, *_ = measured(Oracle(known, pace=1.3, errs=SEEN), known)  # type: ignore[arg-type]
    assert figures["rollout_frequency_within_5_percent_16"].value == 1.0
    assert figures["rollout_frequency_within_5_percent_17_to_60"].value == 0.0


def test_a_model_that_does_not_swap_the_movement_is_always_found_out(known: Known) -> None:
    figures, *_ = measured(Stuck(known), known)  # type: ignore[arg-type]
    assert figures["swap_frequency_within_5_percent_60"].value == 0.0
    assert figures["swap_both_accuracy"].value == 0.0
    assert figures["swap_colour_accuracy"].value == figures["rollout_frequency_within_5_percent_60"].value == 1.0


def test_clips_in_which_nothing_swings_are_wrong_and_the_worst(known: Known) -> None:
    class Dark(Oracle):
        def decode(self, codes: Codes) -> Tensor:
            frames = super().decode(codes)
            assert codes.dynamic is not None
            frames[codes.dynamic[:, 0].long() == 5] = 0
            return frames

    model = Dark(known)
    seen = Seen.of(model, encode(model, known.begun))  # type: ignore[arg-type]
    wrong = ~near(seen.frequency(0, LONGEST), known.swings.frequency, 5)
    assert wrong.nonzero().flatten().tolist() == [5]
    assert seen.colour[5] == -1
    assert seen.worst(known.swings.frequency)[0] == 5
    assert sorted(seen.worst(known.swings.frequency).tolist()) == list(range(14))
    assert torch.isfinite(seen.astray(known.swings.angle)).all()


def test_a_rollout_has_as_many_frames_as_asked_for(known: Known) -> None:
    model = Oracle(known)
    assert roll(model, encode(model, known.begun.subset(torch.arange(2))), 40).shape == (2, 40, 3, 32, 32)  # type: ignore[arg-type]
