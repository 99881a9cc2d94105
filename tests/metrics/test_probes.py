from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.probes import linear_probe

CLASSES = 4


def labels(count: int, seed: int) -> Tensor:
    return torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(seed))


def ideal(of: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(of, CLASSES).float()


def noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def test_an_ideal_code_tells_all() -> None:
    train, held = labels(200, 0), labels(100, 1)
    probe = linear_probe(ideal(train) * 1e3 + 7, train, ideal(held) * 1e3 + 7, held)
    assert probe.accuracy == 1.0
    assert probe.clips == 100
    assert probe.chance == pytest.approx(float(torch.bincount(held).max()) / 100)


def test_a_useless_code_stays_at_chance() -> None:
    train, held = labels(400, 0), labels(400, 1)
    probe = linear_probe(noise(400, 2), train, noise(400, 3), held)
    assert abs(probe.accuracy - 1 / CLASSES) < 4 * (0.25 * 0.75 / 400) ** 0.5


def test_a_code_that_is_the_same_for_all_tells_nothing() -> None:
    train, held = torch.arange(100) % 5 // 4, torch.arange(50) % 5 // 4
    probe = linear_probe(torch.ones(100, 3), train, torch.ones(50, 3), held)
    assert probe.accuracy == probe.chance == pytest.approx(0.8)


def test_a_code_written_twice_tells_no_more_and_no_less() -> None:
    train, held = labels(200, 0), labels(100, 1)
    mixed = [torch.cat([ideal(of) + 0.7 * noise(len(of), 4)[:, :CLASSES], noise(len(of), 5)], 1) for of in (train, held)]
    once = linear_probe(mixed[0], train, mixed[1], held)
    twice = linear_probe(mixed[0].repeat(1, 2), train, mixed[1].repeat(1, 2), held)
    assert 0.5 < once.accuracy < 1.0
    assert twice.accuracy == pytest.approx(once.accuracy, abs=0.03)


def test_clips_of_unknown_class_are_left_out() -> None:
    train, held = labels(200, 0), labels(100, 1)
    code, held_code = ideal(train), ideal(held)
    train[:100], held[:60] = -1, -1
    code[:100], held_code[:60] = 50.0, -50.0
    probe = linear_probe(code, train, held_code, held)
    assert (probe.accuracy, probe.clips) == (1.0, 40)


@pytest.mark.parametrize(("train", "held"), [([1, 1, 1], [0, 1, 1]), ([0, -1, -1], [0, 1, 1]), ([0, 1, 1], [-1, -1, -1])])
def test_one_class_or_nothing_held_out_is_refused(train: list[int], held: list[int]) -> None:
    with pytest.raises(UserError, match="at least two classes to probe for, and held-out clips"):
        linear_probe(noise(3, 0), torch.tensor(train), noise(3, 1), torch.tensor(held))
