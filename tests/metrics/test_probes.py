from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import share
from stillmotion.metrics.probes import PENALTIES, Answers, Labelled, Probing, check, linear, logistic, mlp, prepare, standardised

CLASSES = 4
COUNTS = (400, 150, 200)

Kind = Callable[[Probing], dict[str, Answers]]


def network(ready: Probing) -> dict[str, Answers]:
    return mlp(ready, torch.Generator().manual_seed(0))


both = pytest.mark.parametrize("probe", [linear, network])


def labels(count: int, seed: int, classes: int = CLASSES) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def noise(count: int, seed: int, width: int = 5) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1000 + seed))


def ideal(of: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(of, CLASSES).float()


def mixed(of: Tensor, seed: int) -> Tensor:
    """A code that tells of the labels through noise."""
    return torch.cat([ideal(of) + 0.7 * noise(len(of), seed, CLASSES), noise(len(of), seed + 50)], 1)


def three(code: Callable[[Tensor, int], Tensor], factor: str = "kind") -> list[Labelled]:
    told = [labels(count, seed) for seed, count in enumerate(COUNTS)]
    return [Labelled(code(of, seed), {factor: of}) for seed, of in enumerate(told)]


def accuracy(answer: Answers) -> float:
    return float(answer.hits.float().mean())


def at_chance(answer: Answers, chance: float) -> bool:
    """Within four standard errors."""
    return abs(accuracy(answer) - chance) < 4 * math.sqrt(chance * (1 - chance) / len(answer.hits))


@pytest.mark.parametrize("penalty", [100.0, 1.0, 0.01])
def test_the_logistic_regression_is_that_of_scikit_learn(penalty: float) -> None:
    told = labels(300, 0)
    codes = mixed(told, 1).double()
    ours = logistic(codes, told, CLASSES, penalty)
    theirs = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=5000).fit(codes.numpy(), told.numpy())
    expected = np.vstack([theirs.coef_.T, theirs.intercept_])
    # the same amount on all classes of a row changes no probability
    assert np.abs((ours - ours.mean(1, keepdim=True)).numpy() - (expected - expected.mean(1, keepdims=True))).max() < 2e-3


def test_a_regression_started_elsewhere_ends_in_the_same_place() -> None:
    told = labels(300, 0)
    codes = mixed(told, 1).double()
    start = noise(codes.shape[1] + 1, 3, CLASSES).double()
    probabilities = [(codes @ w[:-1] + w[-1]).softmax(1) for w in (logistic(codes, told, CLASSES, 1.0, s) for s in (None, start))]
    assert torch.allclose(probabilities[0], probabilities[1], atol=1e-3)


@pytest.mark.parametrize("strength", [0.2, 10.0])
def test_the_penalty_is_the_one_under_which_validation_clips_are_likeliest(strength: float) -> None:
    parts = three(lambda of, seed: torch.cat([strength * ideal(of) + noise(len(of), seed, CLASSES), noise(len(of), seed, 30)], 1))
    codes = [c.numpy() for c in standardised(*(part.codes for part in parts))]
    truth = [part.labels["kind"].numpy() for part in parts]
    fits = [LogisticRegression(C=1 / p, max_iter=5000).fit(codes[0], truth[0]) for p in PENALTIES]
    losses = [log_loss(truth[1], fit.predict_proba(codes[1])) for fit in fits]
    expected = fits[int(np.argmin(losses))].predict(codes[2]) == truth[2]
    assert int(np.argmin(losses)) == (0 if strength < 1 else len(PENALTIES) - 1)
    hits = linear(prepare(*parts))["kind"].hits.numpy()
    assert (hits != expected).mean() <= 0.01


@both
def test_an_ideal_code_tells_all(probe: Kind) -> None:
    answer = probe(prepare(*three(lambda of, _: ideal(of) * 1e3 + 7)))["kind"]
    assert (accuracy(answer), len(answer.hits)) == (1.0, COUNTS[2])


@both
def test_a_useless_code_stays_at_chance(probe: Kind) -> None:
    parts = three(lambda of, seed: noise(len(of), seed))
    answer = probe(prepare(*parts))["kind"]
    assert at_chance(answer, 1 / CLASSES)
    interval = share(answer.hits, torch.Generator().manual_seed(0))
    assert interval.low < 0.32
    assert interval.high > 0.20


@both
def test_shuffled_labels_are_told_by_chance(probe: Kind) -> None:
    parts = three(mixed)
    order = torch.randperm(COUNTS[0], generator=torch.Generator().manual_seed(4))
    parts[0] = Labelled(parts[0].codes, {"kind": parts[0].labels["kind"][order]})
    assert at_chance(probe(prepare(*parts))["kind"], 1 / CLASSES)


def test_only_the_network_tells_what_two_numbers_say_together() -> None:
    parts = []
    for seed, count in enumerate((1500, 300, 400)):
        codes = noise(count, seed)
        parts.append(Labelled(codes, {"xor": ((codes[:, 0] > 0) ^ (codes[:, 1] > 0)).long()}))
    ready = prepare(*parts)
    assert at_chance(linear(ready)["xor"], 0.5)
    assert accuracy(network(ready)["xor"]) > 0.93


@both
def test_a_code_written_twice_tells_no_more_and_no_less(probe: Kind) -> None:
    parts = three(mixed)
    once = probe(prepare(*parts))["kind"]
    twice = probe(prepare(*(Labelled(codes.repeat(1, 2), told) for codes, told in parts)))["kind"]
    assert 0.5 < accuracy(once) < 1.0
    assert accuracy(twice) == pytest.approx(accuracy(once), abs=0.04)


@both
def test_a_code_that_is_the_same_for_all_tells_the_largest_class(probe: Kind) -> None:
    parts = [Labelled(torch.full((count, 3), 0.1), {"kind": torch.arange(count) % 5 // 4}) for count in (100, 20, 50)]
    assert accuracy(probe(prepare(*parts))["kind"]) == pytest.approx(0.8)


@both
def test_several_factors_are_told_at_once(probe: Kind) -> None:
    parts = []
    for seed, count in enumerate((600, 150, 200)):
        kind, pair = labels(count, seed), labels(count, seed + 9, 2)
        parts.append(Labelled(torch.cat([ideal(kind), noise(count, seed)], 1), {"kind": kind, "pair": pair}))
    found = probe(prepare(*parts))
    assert accuracy(found["kind"]) == 1.0
    assert at_chance(found["pair"], 0.5)


@both
def test_test_clips_choose_nothing(probe: Kind) -> None:
    parts = three(mixed)
    whole = probe(prepare(*parts))["kind"].hits
    few = Labelled(parts[2].codes[:40], {"kind": parts[2].labels["kind"][:40]})
    assert torch.equal(probe(prepare(parts[0], parts[1], few))["kind"].hits, whole[:40])


@both
def test_clips_of_unknown_class_and_of_classes_never_trained_on_are_left_out(probe: Kind) -> None:
    parts = three(lambda of, _: ideal(of))
    train, _, test = (part.labels["kind"] for part in parts)
    for part in parts:
        part.labels["kind"].copy_(torch.tensor([3, 40, 2, 700])[part.labels["kind"]])[:60] = -1
    train[train == 40] = -1
    answer = probe(prepare(*parts))["kind"]
    assert answer.clips.tolist() == [k for k, label in enumerate(test.tolist()) if label not in (-1, 40)]
    assert accuracy(answer) == 1.0


def test_the_network_is_that_of_its_generator() -> None:
    ready = prepare(*three(mixed))
    state = torch.random.get_rng_state()
    first, again, other = (mlp(ready, torch.Generator().manual_seed(seed))["kind"].hits for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_codes_are_standardised_by_the_training_clips() -> None:
    train, other = noise(300, 0) * 5 + 100, noise(10, 1)
    ours, moved = standardised(train, other)
    assert torch.allclose(ours.mean(0), torch.zeros(5), atol=1e-4)
    assert torch.allclose(ours.std(0, correction=0), torch.ones(5), atol=1e-4)
    assert torch.allclose(moved, (other - train.mean(0)) / train.std(0, correction=0), atol=1e-3)


@pytest.mark.parametrize(
    ("train", "validation", "test", "got"),
    [
        ([1, 1, 1], [0, 1, 1], [0, 1, 1], "1 among training clips for kind"),
        ([0, 1, 1], [-1, 5, 5], [0, 1, 1], "no validation clip of a class that is trained on for kind"),
        ([0, 1, 1], [0, 1, 1], [-1, -1, 4], "no test clip of a class that is trained on for kind"),
    ],
)
def test_one_class_or_nothing_held_out_is_refused(train: list[int], validation: list[int], test: list[int], got: str) -> None:
    told = {"train": train, "validation": validation, "test": test}
    parts = {split: Labelled(noise(3, 0), {"kind": torch.tensor(values)}) for split, values in told.items()}
    with pytest.raises(UserError, match=f"at least two classes to probe for, and held-out clips of them, got {got}"):
        check(**parts)


def test_a_factor_that_a_split_does_not_label_is_refused() -> None:
    parts = three(mixed)
    with pytest.raises(UserError, match="no validation clip of a class that is trained on for kind"):
        prepare(parts[0], Labelled(parts[1].codes, {}), parts[2])


def test_codes_that_are_not_numbers_are_refused() -> None:
    parts = three(mixed)
    parts[2].codes[3, 1] = torch.nan
    with pytest.raises(UserError, match="finite codes, got 1 of 200 clips"):
        prepare(*parts)


def test_labels_of_other_clips_are_refused() -> None:
    parts = three(mixed)
    with pytest.raises(UserError, match="a label of kind for each of 100 clips, got 400 labels"):
        prepare(Labelled(parts[0].codes[:100], parts[0].labels), *parts[1:])


def test_clips_without_labels_are_refused() -> None:
    with pytest.raises(UserError, match="labelled clips to probe codes with, got clips without labels"):
        prepare(*(Labelled(part.codes, {}) for part in three(mixed)))
