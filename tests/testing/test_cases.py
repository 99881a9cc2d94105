"""Lessons and cases."""

from __future__ import annotations

import torch

from stillmotion.core.random import Noise
from stillmotion.core.registry import MODELS
from stillmotion.testing.cases import CASES, Case, Lesson, taught
from stillmotion.testing.toys import toy


def test_weights_go_straight_to_their_end_and_stay_there() -> None:
    lesson = Lesson(100, start={"a": 1.0, "b": 8.0}, end={"a": 4.0, "b": 2.0})
    assert lesson.weights(0) == {"a": 1.0, "b": 8.0}
    assert lesson.weights(30) == {"a": 2.5, "b": 5.0}
    assert lesson.weights(60) == lesson.weights(99) == {"a": 4.0, "b": 2.0}
    assert Lesson(5).weights(3) == {}


def test_the_cases_are_those_of_registered_models() -> None:
    assert set(CASES) <= set(MODELS)


def test_a_case_builds_the_same_model_from_the_same_seed_and_leaves_the_global_noise_alone() -> None:
    case, before = CASES["vdsm"], torch.get_rng_state()
    first, again, other = (torch.cat([p.flatten() for p in case.model(seed).parameters()]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_lesson_moves_what_it_names_and_nothing_else() -> None:
    whole = CASES["vdsm"]
    case, noise = Case(whole.build, (Lesson(1, "sequence", ("f_s",)),)), Noise()
    noise.manual_seed(0)
    before, after = case.model(3), taught(case, toy(20, 3, noise).clips(), 3)
    pairs = zip(before.named_parameters(), after.parameters(), strict=True)
    moved = {name.split(".")[0] for (name, old), new in pairs if not torch.equal(old, new)}
    assert moved == {"static_mean", "static_scale"}
    assert not after.training
