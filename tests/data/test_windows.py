from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.core.errors import UserError
from stillmotion.data.labels import Labels, label
from stillmotion.data.windows import HoldOut, Plan, Window, cut, parse_pairs, plan

NONE = Labels({}, {})
NAMES = [f"person-{person}_{action}.mp4" for person in range(3) for action in ("bend", "jump")]
PEOPLE = label(NAMES, r"person-(?P<person>\d+)_(?P<action>.+)")


@pytest.mark.parametrize(
    ("length", "steps", "hop", "expected"),
    [
        (0, 4, 1, []),
        (3, 4, 1, [(0, 3)]),
        (4, 4, 2, [(0, 4)]),
        (6, 4, 1, [(0, 4), (1, 4), (2, 4)]),
        (9, 4, 4, [(0, 4), (4, 4), (5, 4)]),
        (10, 4, 3, [(0, 4), (3, 4), (6, 4)]),
    ],
)
def test_cut(length: int, steps: int, hop: int, expected: list[tuple[int, int]]) -> None:
    assert cut(length, steps, hop) == expected


def frames(windows: Sequence[Window]) -> set[tuple[int, int]]:
    return {(window.source, window.start + step) for window in windows for step in range(window.length)}


rules = st.builds(
    HoldOut,
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    tail=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
    clip_per=st.none() | st.just("person"),
    pairs=st.sampled_from([(), ({"person": "1"},), ({"person": "0", "action": "bend"}, {"action": "jump", "person": "2"})]),
)


six = st.lists(st.integers(2, 60), min_size=6, max_size=6)


@given(lengths=six, steps=st.integers(2, 20), hop=st.integers(1, 20), rule=rules, seed=st.integers(0, 9))
def test_every_frame_is_in_windows_of_exactly_one_split(lengths: list[int], steps: int, hop: int, rule: HoldOut, seed: int) -> None:
    chosen = plan(lengths, PEOPLE, steps, min(hop, steps), rule, seed)
    parts = [frames(chosen.train), frames(chosen.validation), frames(chosen.test)]
    assert parts[0]
    assert sum(len(part) for part in parts) == sum(lengths)
    assert set().union(*parts) == {(source, frame) for source, length in enumerate(lengths) for frame in range(length)}
    assert all(1 < window.length <= steps for windows in (chosen.train, chosen.validation, chosen.test) for window in windows)


@given(count=st.integers(1, 8), length=st.integers(2, 50), steps=st.integers(2, 16), seed=st.integers(0, 9))
def test_default_splits_keep_clips_apart_where_there_are_enough(count: int, length: int, steps: int, seed: int) -> None:
    chosen = plan([length] * count, NONE, steps, 1, HoldOut(), seed)
    clips = [{window.source for window in windows} for windows in (chosen.train, chosen.validation, chosen.test)]
    if count >= 3:
        assert all(clips)
        assert sum(map(len, clips)) == count
        assert not chosen.notes
    else:
        assert clips[0] == set(range(count))
        assert "too few clips" in chosen.notes[0]


def test_few_long_clips_hold_out_their_ends_in_order() -> None:
    chosen = plan([100], NONE, 10, 5, HoldOut(0.2, 0.1))
    assert frames(chosen.train) == {(0, frame) for frame in range(70)}
    assert frames(chosen.validation) == {(0, frame) for frame in range(70, 90)}
    assert frames(chosen.test) == {(0, frame) for frame in range(90, 100)}


def test_training_windows_hop_as_asked_and_held_out_ones_by_half() -> None:
    chosen = plan([40] * 3, NONE, 10, 3, HoldOut(0.3, 0.3), 1)
    assert [window.start for window in chosen.train] == [*range(0, 31, 3)]
    assert [window.start for window in chosen.test] == [0, 5, 10, 15, 20, 25, 30]


def test_tail_of_every_training_clip_validates() -> None:
    chosen = plan([50, 100, 10], NONE, 16, 1, HoldOut(tail=0.2, test=0.0))
    assert {source: min(f for s, f in frames(chosen.validation) if s == source) for source in range(3)} == {0: 40, 1: 80, 2: 8}
    assert max(window.start + window.length for window in chosen.train if window.source == 1) == 80
    assert not chosen.test


def test_a_tail_of_one_frame_is_left_in_training() -> None:
    chosen = plan([6], NONE, 4, 1, HoldOut(tail=0.2, test=0.0))
    assert not chosen.validation
    assert frames(chosen.train) == {(0, frame) for frame in range(6)}


def held(chosen: Plan) -> list[str]:
    return [NAMES[source] for source in sorted({window.source for window in chosen.test})]


def test_one_clip_of_each_class_by_seed() -> None:
    picks = [held(plan([20] * 6, PEOPLE, 8, 1, HoldOut(clip_per="person"), seed)) for seed in range(8)]
    assert all([name[7] for name in pick] == ["0", "1", "2"] for pick in picks)
    assert len({tuple(pick) for pick in picks}) > 1
    assert picks[3] == held(plan([20] * 6, PEOPLE, 8, 1, HoldOut(clip_per="person"), 3))


def test_exact_pairs_are_held_out_and_nothing_else() -> None:
    chosen = plan([20] * 6, PEOPLE, 8, 1, HoldOut(pairs=[{"person": "1", "action": "jump"}]))
    assert held(chosen) == ["person-1_jump.mp4"]
    assert held(plan([20] * 6, PEOPLE, 8, 1, HoldOut(pairs=[{"action": "bend"}]))) == [n for n in NAMES if "bend" in n]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "windows of 2 frames or more, got 1. A clip of one frame has no movement."),
        ({"hop": 0}, "a hop from 1 to the window's 8 frames, got 0"),
        ({"hop": 9}, "a hop from 1 to the window's 8 frames, got 9"),
        ({"hold_out": HoldOut(clip_per="colour")}, "got 'colour'. Known: person, action."),
        ({"hold_out": HoldOut(pairs=[{"person": "7"}])}, "a class of person, got '7'. Known: 0, 1, 2."),
        ({"hold_out": HoldOut(pairs=[{"action": "bend"}, {"action": "jump"}])}, "a clip left to train on"),
        ({"labels": NONE, "hold_out": HoldOut(clip_per="person")}, "Known: none: give a pattern"),
    ],
)
def test_plans_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(**{"lengths": [20] * 6, "labels": PEOPLE, "steps": 8, "hop": 1, "hold_out": HoldOut(), **options})
    assert message in str(caught.value)


def test_labels_that_no_clip_has_together() -> None:
    lonely = label(["person-0_bend.mp4", "person-1_jump.mp4"], r"person-(?P<person>\d+)_(?P<action>.+)")
    with pytest.raises(UserError, match=r"got person=0, action=jump\. No clip has them all"):
        plan([20] * 2, lonely, 8, 1, HoldOut(pairs=[{"person": "0", "action": "jump"}]))


@pytest.mark.parametrize("options", [{"validation": -0.1}, {"test": 1.0}, {"tail": 1.5}, {"validation": 0.5, "test": 0.5}])
def test_fractions_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="fraction"):
        HoldOut(**options)  # type: ignore[arg-type]


def test_pairs_from_text() -> None:
    assert parse_pairs("person=3, action=wave=hello") == {"person": "3", "action": "wave=hello"}
    for text in ("person", "person=", "=3", "person=3,"):
        with pytest.raises(UserError, match="factor=class"):
            parse_pairs(text)
