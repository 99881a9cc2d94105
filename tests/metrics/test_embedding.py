from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.embedding import PUBLISHED, CodeClassifier, Schedule, embedding
from stillmotion.metrics.figure import Figures

SHORT = {"static": Schedule(3e-3, 8), "dynamic": Schedule(3e-3, 8)}
TRAIN, TEST = 450, 200


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def told(seed: int, count: int) -> dict[str, Tensor]:
    g = seeded(seed)
    return {"who": torch.randint(4, (count,), generator=g), "act": torch.randint(3, (count,), generator=g)}


def ideal(labels: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Each code holds its own factor, scaled and with a number of noise."""
    g = seeded(seed)
    pairs = {"static": "who", "dynamic": "act"}
    return {
        code: torch.cat([3 * torch.nn.functional.one_hot(labels[f], 4).float() - 7, torch.randn(len(labels[f]), 1, generator=g)], 1)
        for code, f in pairs.items()
    }


A, B = told(0, TRAIN), told(1, TEST)
CODES, HELD = ideal(A, 2), ideal(B, 3)


def run(train: dict[str, Tensor], test: dict[str, Tensor], labels: dict[str, Tensor] = B) -> Figures:
    return embedding(train, test, A, labels, generator=seeded(0), schedules=SHORT)


def test_each_code_tells_its_own_factor_and_not_the_other() -> None:
    found = run(CODES, HELD)
    assert set(found) == {f"embedding_{code}_{factor}" for code in ("static", "dynamic") for factor in ("who", "act")}
    assert found["embedding_static_who"].value == found["embedding_dynamic_act"].value == 1.0
    assert found["embedding_static_act"].value == pytest.approx(1 / 3, abs=0.14)
    assert found["embedding_dynamic_who"].value == pytest.approx(1 / 4, abs=0.13)
    assert found["embedding_static_act"].clips == TEST


def test_what_is_learned_by_heart_does_not_count() -> None:
    train, test = ({"static": torch.randn(count, 30, generator=seeded(count))} for count in (TRAIN, TEST))
    assert run(train, test)["embedding_static_who"].value == pytest.approx(1 / 4, abs=0.13)
    assert run(train, train, A)["embedding_static_who"].value > 0.9


def test_a_verdict_does_not_depend_on_the_clips_beside_it() -> None:
    noisy = {code: value + 1.5 * torch.randn(value.shape, generator=seeded(5)) for code, value in HELD.items()}
    whole = run(CODES, noisy)["embedding_static_who"].value
    halves = [{name: value[part] for name, value in noisy.items()} for part in (slice(20), slice(20, None))]
    labels = [{factor: value[part] for factor, value in B.items()} for part in (slice(20), slice(20, None))]
    apart = [run(CODES, half, known)["embedding_static_who"] for half, known in zip(halves, labels, strict=True)]
    assert whole < 1.0
    assert sum(figure.value * figure.clips for figure in apart) == pytest.approx(whole * TEST)


def test_clips_of_unknown_class_and_of_classes_never_trained_on_are_left_out() -> None:
    labels = {f: v.clone() for f, v in B.items()}
    labels["who"][:50], labels["who"][50:60] = -1, 99
    found = run(CODES, HELD, labels)
    assert (found["embedding_static_who"].value, found["embedding_static_who"].clips) == (1.0, TEST - 60)
    assert found["embedding_static_act"].clips == TEST


def test_figures_are_those_of_their_generator_and_the_global_one_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    noisy = {"static": torch.randn(TEST, 5, generator=seeded(1))}
    assert run(CODES, noisy) == run(CODES, noisy)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_codes_without_a_schedule_are_passed_over() -> None:
    assert run({"path": CODES["static"]}, {"path": HELD["static"]}) == {}


def test_the_classifier_has_the_published_layers() -> None:
    net, classes = CodeClassifier(40, (7, 9)), (7, 9)
    heads = [256 * 128 + 128 + 2 * 128 + 128 * count + count for count in classes]
    assert sum(value.numel() for value in net.parameters()) == 40 * 256 + 256 + 2 * 256 + sum(heads)
    assert [logits.shape for logits in net(torch.zeros(3, 40))] == [(3, 7), (3, 9)]
    assert PUBLISHED == {"static": (3e-4, 50), "dynamic": (4e-4, 100)}


def test_the_heads_do_not_see_one_another() -> None:
    net = CodeClassifier(5, (3, 4)).eval()
    layer, codes = net.heads[0], torch.randn(6, 5, generator=seeded(0))
    assert isinstance(layer, torch.nn.Linear)
    first, second = net(codes)
    with torch.no_grad():
        layer.weight[128:] = 0.0
    again = net(codes)
    assert torch.equal(again[0], first)
    assert not torch.allclose(again[1], second)


def test_one_class_is_refused() -> None:
    one = {"who": torch.zeros(TRAIN, dtype=torch.int64)}
    with pytest.raises(UserError, match="at least two classes to probe for.*got 1 among training clips for who"):
        embedding(CODES, HELD, one, {"who": B["who"]}, generator=seeded(0), schedules=SHORT)


def test_codes_that_are_not_numbers_are_refused() -> None:
    broken = {code: value.clone() for code, value in HELD.items()}
    broken["static"][0] = torch.nan
    with pytest.raises(UserError, match="finite codes, got 1 of 200 clips"):
        run(CODES, broken)
