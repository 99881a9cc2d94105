"""Batches: every clip in turn, by position alone, shared among processes, grouped by class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.training.feed import Batches
from stillmotion.training.settings import Feed

STEPS = 6


def numbered(lengths: list[int], kinds: list[int] | None = None) -> ClipSet:
    """Clips of 1 x 1 frames whose grey value tells clip and frame: 10 * clip + frame + 1."""
    values = [10 * clip + frame + 1 for clip, length in enumerate(lengths) for frame in range(length)]
    size = torch.tensor(lengths)
    labels = {} if kinds is None else {"kind": torch.tensor(kinds)}
    frames = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1)
    return ClipSet(frames, size.cumsum(0) - size, size, STEPS, labels)


def values(batches: Batches, step: int) -> Tensor:
    """(B, T) the number of each frame, 0 where there is none."""
    clips = batches(step)
    assert torch.equal(clips.mask, clips.frames[:, :, 0, 0, 0] > 0)
    return (clips.frames[:, :, 0, 0, 0] * 255).round().long()


def clip_of(batch: Tensor) -> list[int]:
    return ((batch[:, 0] - 1) // 10).tolist()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 5))
def test_every_clip_comes_once_in_each_pass(count: int, batch: int, seed: int) -> None:
    batches = Batches(numbered([3] * count), Feed(batch=batch), seed)
    drawn = [clip for step in range(3 * count) for clip in clip_of(values(batches, step))]
    passes = [drawn[k * count : (k + 1) * count] for k in range(3)]
    assert all(sorted(one) == list(range(count)) for one in passes)


def test_passes_differ_from_one_another_and_between_seeds() -> None:
    data = numbered([3] * 20)
    passes = {tuple(clip_of(values(Batches(data, Feed(batch=20), seed), step))) for seed in range(3) for step in range(3)}
    assert len(passes) == 9


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_a_batch_depends_on_its_position_alone(order: list[int]) -> None:
    data = numbered([3, 4, 5, 6, 2, 1, 6], [0, 0, 1, 1, 1, -1, 2])
    feed = Feed(batch=4, group_by="kind", clips_per_group=2, frames=4)
    one = Batches(data, feed, 5)
    assert all(torch.equal(values(one, step), values(Batches(data, feed, 5), step)) for step in order)


@pytest.mark.parametrize(
    "feed", [{}, {"frames": 3}, {"group_by": "kind", "clips_per_group": 2, "frames": 4}, {"hidden": 0.4}, {"gaps": 0.9}]
)
def test_batches_of_two_processes_joined_are_one_of_twice_the_size(feed: dict[str, object]) -> None:
    data = numbered([3, 4, 5, 6, 2, 1, 6], [0, 0, 1, 1, 1, -1, 2])
    alone = Batches(data, Feed.model_validate({"batch": 6, **feed}), 1)
    ranks = [Batches(data, Feed.model_validate({"batch": 3, **feed}), 1, rank, 2) for rank in range(2)]
    for step in range(8):
        assert torch.equal(torch.cat([values(rank, step) for rank in ranks]), values(alone, step))


def test_a_group_is_two_different_clips_of_one_class_where_there_are_two() -> None:
    kinds = [0, 1, 0, 2, 1, 0, -1, -1, 1]
    batches = Batches(numbered([STEPS] * len(kinds), kinds), Feed(batch=9, group_by="kind", clips_per_group=2), 0)
    partners: dict[int, set[int]] = {}
    for step in range(60):
        batch = values(batches, step)
        assert batch.shape == (9, 2 * STEPS)
        for anchor, partner in zip(clip_of(batch), clip_of(batch[:, STEPS:]), strict=True):
            partners.setdefault(anchor, set()).add(partner)
    classes = {0: {0, 2, 5}, 1: {1, 4, 8}}
    expected = {clip: classes[kind] - {clip} if kind in classes else {clip} for clip, kind in enumerate(kinds)}
    assert partners == expected


def windows(starts: list[int], kinds: list[int]) -> ClipSet:
    """Windows of STEPS frames of one long clip of numbered frames."""
    frames = torch.arange(1, max(starts) + STEPS + 1, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1)
    return ClipSet(frames, torch.tensor(starts), torch.full((len(starts),), STEPS), STEPS, {"kind": torch.tensor(kinds)})


def partners_of(data: ClipSet, clips: int = 2) -> dict[int, list[int]]:
    """First frame of each window -> the first frames of its partners in many batches, sorted."""
    batches = Batches(data, Feed(batch=len(data), group_by="kind", clips_per_group=clips), 0)
    found: dict[int, list[int]] = {}
    for step in range(100):
        for row in values(batches, step):
            found.setdefault(int(row[0]) - 1, []).extend((row[STEPS::STEPS] - 1).tolist())
    return {first: sorted(others) for first, others in found.items()}


def test_windows_of_a_clip_share_no_frame_with_their_partner_where_there_are_any_that_do_not() -> None:
    found = partners_of(windows([*range(13), 50, 52], [0] * 13 + [1, 1]))
    assert {first: set(others) for first, others in found.items()} == {
        # the one in the middle finds a window on either side, and those of kind 1 overlap whatever is done
        **{first: {other for other in range(13) if abs(other - first) >= STEPS} for first in range(13)}, 50: {52}, 52: {50},
    }  # fmt: skip
    counts = torch.tensor(found[0]).bincount(minlength=13)[STEPS:]
    assert ((counts / 100 - 1 / 7).abs() < 0.12).all()  # evenly
    for others in partners_of(windows([0, 1, 2, 6, 7, 8], [0] * 6), clips=3).values():
        assert len(others) == 200


def test_clips_that_share_no_frames_are_drawn_as_if_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    data, feed = numbered([3, 4, 5, 6, 2, 1, 6], [0, 0, 1, 1, 1, -1, 2]), Feed(batch=4, group_by="kind", clips_per_group=2, frames=4)
    asked = [values(Batches(data, feed, 5), step) for step in range(20)]
    monkeypatch.setattr(Batches, "_apart", lambda self, anchors, picked, generator: picked)
    assert all(torch.equal(values(Batches(data, feed, 5), step), one) for step, one in enumerate(asked))


def test_partners_are_drawn_evenly() -> None:
    batches = Batches(numbered([STEPS] * 4, [0] * 4), Feed(batch=4, group_by="kind", clips_per_group=2), 0)
    drawn = [torch.tensor(clip_of(values(batches, step)[:, STEPS:])) for step in range(300)]
    counts = torch.cat(drawn).bincount(minlength=4)
    assert ((counts / 1200 - 0.25).abs() < 0.05).all()


def test_chosen_frames_are_a_random_choice_in_order() -> None:
    batches = Batches(numbered([STEPS] * 5), Feed(batch=5, frames=3), 0)
    choices = set()
    for step in range(80):
        batch = values(batches, step)
        assert batch.shape == (5, 3)
        frames = (batch - 1) % 10
        assert (frames.diff(dim=1) > 0).all()
        choices |= {tuple(row) for row in frames.tolist()}
    assert len(choices) == 20  # all the choices of 3 out of 6


@pytest.mark.parametrize("clips", [2, 3])
def test_the_clips_of_a_group_share_the_chosen_frames_and_can_be_told_apart(clips: int) -> None:
    lengths = [STEPS, 1, 4, STEPS, STEPS, 2]
    batches = Batches(numbered(lengths, [0] * 6), Feed(batch=6, group_by="kind", clips_per_group=clips, frames=3 * clips), 0)
    choices = set()
    for step in range(30):
        assert batches(step).joined == clips
        batch = values(batches, step)
        assert batch.shape == (6, 3 * clips)
        for stretch in batch.chunk(clips, 1):
            for row in stretch:
                there = row[row > 0] - 1
                assert len(there) == min(3, lengths[int(there[0]) // 10])
                assert (there // 10 == there[0] // 10).all()
                assert (there.diff() > 0).all()
                choices.add(tuple((there % 10).tolist()))
    assert {choice for choice in choices if choice[-1] == STEPS - 1 and len(choice) == 3} == {
        (a, b, STEPS - 1) for a in range(STEPS) for b in range(a + 1, STEPS - 1)
    }


def test_whole_clips_of_a_group_can_be_told_apart_too() -> None:
    data = numbered([STEPS] * 4, [0] * 4)
    assert Batches(data, Feed(batch=4, group_by="kind", clips_per_group=2), 0)(0).joined == 2
    assert Batches(data, Feed(batch=4, frames=3), 0)(0).joined == 1


@pytest.mark.parametrize("length", [1, 2, 3, 5, 6])
def test_frames_that_are_there_are_chosen_first(length: int) -> None:
    batches = Batches(numbered([length] * 3), Feed(batch=3, frames=3), 0)
    there = torch.stack([(values(batches, step) > 0).sum(1) for step in range(20)])
    assert (there == min(3, length)).all()


def test_more_frames_than_there_are_means_all_of_them() -> None:
    assert torch.equal(values(Batches(numbered([4]), Feed(batch=1, frames=99), 0), 0), torch.tensor([[1, 2, 3, 4, 0, 0]]))


def test_labels_never_travel_with_a_batch() -> None:
    batches = Batches(numbered([3, 4], [0, 1]), Feed(batch=2), 0)
    assert not batches(0).labels


@pytest.mark.parametrize("frames", [None, 2])
def test_a_labelled_feed_carries_the_labels_of_its_very_clips(frames: int | None) -> None:
    kinds = [3, 1, 4, -1, 5, 9, 2]
    batches = Batches(numbered([3, 4, 5, 6, 2, 1, 6], kinds), Feed(batch=4, labelled=True, frames=frames), 0)
    for step in range(5):
        clips = batches(step)
        numbers = (clips.frames[:, 0, 0, 0, 0] * 255).round().long()
        assert clips.labels["kind"].tolist() == [kinds[(number - 1) // 10] for number in numbers.tolist()]


def test_labels_change_nothing_else_in_a_batch() -> None:
    data = numbered([3, 4, 5, 6], [0, 1, 0, 1])
    plain, told = Batches(data, Feed(batch=3), 1), Batches(data, Feed(batch=3, labelled=True), 1)
    assert all(torch.equal(values(plain, step), values(told, step)) for step in range(6))


def test_labels_of_two_processes_are_those_of_their_own_clips() -> None:
    data = numbered([3] * 6, [5, 4, 3, 2, 1, 0])
    alone = Batches(data, Feed(batch=4, labelled=True), 1)
    ranks = [Batches(data, Feed(batch=2, labelled=True), 1, rank, 2) for rank in range(2)]
    for step in range(4):
        joined = torch.cat([rank(step).labels["kind"] for rank in ranks])
        assert torch.equal(joined, alone(step).labels["kind"])


def test_a_labelled_feed_of_clips_without_labels_has_none() -> None:
    assert not Batches(numbered([3, 4]), Feed(batch=2, labelled=True), 0)(0).labels


@pytest.mark.parametrize("feed", [{}, {"frames": 3}, {"group_by": "kind", "clips_per_group": 2, "frames": 8}])
def test_controls_go_with_their_frames_and_true_states_stay_behind(feed: dict[str, object]) -> None:
    data = numbered([3, 4, 6, 6, 2], [0, 0, 1, 1, 1])
    number = data.frames[:, 0, 0].float()
    data = replace(data, controls=torch.cat([number, -number], 1), states=number, state_names=("number",))
    batches = Batches(data, Feed.model_validate({"batch": 3, **feed}), 2)
    for step in range(6):
        clips = batches(step)
        assert clips.controls is not None
        expected = (clips.frames[:, :, 0, 0, :] * 255).round()
        torch.testing.assert_close(clips.controls, torch.cat([expected, -expected], 2))
        assert not hasattr(clips, "states")


@pytest.mark.parametrize(("kinds", "known"), [([0, 1], "kind"), (None, "none")])
def test_an_unknown_factor_is_refused_with_those_that_there_are(kinds: list[int] | None, known: str) -> None:
    with pytest.raises(UserError, match=known):
        Batches(numbered([3, 4], kinds), Feed(group_by="person", clips_per_group=2), 0)


def test_data_without_a_clip_is_refused() -> None:
    with pytest.raises(UserError, match="at least one training clip"):
        Batches(numbered([3, 4]).subset(torch.tensor([], dtype=torch.long)), Feed(), 0)


def test_windows_of_one_clip_can_be_joined_without_a_label() -> None:
    data = replace(numbered([4] * 6), source=torch.tensor([0, 0, 0, 1, 1, 2]))
    batches = Batches(data, Feed(batch=6, group_by="clip", clips_per_group=2), 0)
    for step in range(5):
        groups = values(batches, step)
        first, second = ((groups[:, start] - 1) // 10 for start in (0, STEPS))
        assert torch.equal(data.source[first], data.source[second])
        assert ((first != second) | (data.source[first] == 2)).all(), "a clip of one window has itself alone"


def test_hidden_frames_are_the_same_at_every_turn_and_never_the_first_three() -> None:
    data, patterns = numbered([6] * 24), []
    for seed in range(20):
        batches = Batches(data, Feed(batch=24, hidden=0.4), seed)
        turns = []
        for step in range(2):
            batch = batches(step)
            assert bool(batch.mask[:, :3].all())
            assert not batch.frames[~batch.mask].any()
            turns.append(batch.mask[batch.frames[:, 0, 0, 0, 0].argsort()])
        assert torch.equal(turns[0], turns[1])
        patterns.append(turns[0])
    hidden = ~torch.stack(patterns)[:, :, 3:]
    assert abs(hidden.float().mean().item() - 0.4) < 5 * (0.24 / hidden.numel()) ** 0.5
    assert not torch.equal(patterns[0], patterns[1])


def test_what_is_hidden_for_good_is_so_in_every_stage_of_a_run() -> None:
    data = numbered([6] * 24)
    one, other, another = (
        Batches(data, Feed(batch=24, hidden=0.4), seed, for_good=run)(0) for seed, run in ((1, 7), (2, 7), (1, 8))
    )
    masks = [batch.mask[batch.frames[:, 0, 0, 0, 0].argsort()] for batch in (one, other, another)]
    assert not torch.equal(one.frames, other.frames)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_gaps_are_others_at_every_turn_of_all_shares_and_never_the_first_three() -> None:
    data, lacking = numbered([6] * 24), []
    batches = Batches(data, Feed(batch=24, gaps=0.8), 0)
    for step in range(400):
        batch = batches(step)
        assert bool(batch.mask[:, :3].all())
        assert not batch.frames[~batch.mask].any()
        assert torch.equal(batches(step).mask, batch.mask), "a batch is known by its step"
        lacking.append(~batch.mask[batch.frames[:, 0, 0, 0, 0].argsort()][:, 3:])
    assert not torch.equal(lacking[0], lacking[1])
    count = torch.stack(lacking).sum(2).flatten()
    # of three frames with shares that are uniform on [0, 0.8]: mean 1.2, none in (1 - 0.2 ** 4) / 3.2, all in 0.8 ** 3 / 4 of the clips
    assert count.double().mean().item() == pytest.approx(1.2, abs=0.05)
    assert (count == 0).double().mean().item() == pytest.approx((1 - 0.2**4) / 3.2, abs=0.025)
    assert (count == 3).double().mean().item() == pytest.approx(0.8**3 / 4, abs=0.02)
    # one share for a whole batch would scatter by 0.50; shares of 24 clips of their own by 1.04 / 24
    assert count.view(400, 24).double().mean(1).var().item() == pytest.approx(1.04 / 24, rel=0.3)


def test_gaps_come_on_top_of_frames_that_are_hidden_for_good() -> None:
    data = numbered([6] * 24)
    for_good, both = (Batches(data, Feed(batch=24, hidden=0.4, gaps=gaps), 3)(0).mask for gaps in (0.0, 1.0))
    assert bool((both <= for_good).all())
    assert int(both.sum()) < int(for_good.sum())


def test_frames_that_were_never_there_stay_away_where_others_are_hidden() -> None:
    assert int(Batches(numbered([2]), Feed(batch=1, hidden=0.5), 0)(0).mask.sum()) == 2
