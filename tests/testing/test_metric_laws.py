"""Every metric under every law, and every law on metrics that break it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import stillmotion.metrics
from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import Figure, Figures, finite, share
from stillmotion.testing.code_cases import CODE_CASES
from stillmotion.testing.metric_cases import EXEMPT, FRAME_CASES, METRICS, uncovered
from stillmotion.testing.metric_laws import METRIC_LAWS, Expected, Metric, Sample, chance, near, rows_of, size
from stillmotion.testing.metric_samples import CLASSES, CLIPS, blocks, labels, numbers, pairs, verdicts
from stillmotion.testing.metric_theory import guessed
from stillmotion.testing.verdict_cases import VERDICT_CASES

MODULES = {module.name for module in pkgutil.iter_modules(stillmotion.metrics.__path__)}


@pytest.mark.parametrize("law", METRIC_LAWS)
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_keeps_every_law(name: str, law: str) -> None:
    METRIC_LAWS[law](METRICS[name])


def test_every_module_of_metrics_has_a_case_or_a_reason_to_have_none() -> None:
    assert len(MODULES) > 20
    missing = uncovered(MODULES)
    assert not missing, f"no law is asked of {sorted(missing)}: add METRICS[...] = Metric(...) to stillmotion/testing/metric_cases.py"


def test_nothing_is_exempt_or_covered_that_is_not_there() -> None:
    covered = {name.split(".")[0] for name in METRICS}
    assert covered | EXEMPT.keys() <= MODULES
    assert not covered & EXEMPT.keys()
    assert all(EXEMPT.values())


def test_no_case_hides_another_of_the_same_name() -> None:
    assert len(METRICS) == len(CODE_CASES) + len(VERDICT_CASES) + len(FRAME_CASES)


def test_a_module_without_a_case_is_found() -> None:
    assert uncovered({"mig", "figure", "brand_new"}) == {"brand_new"}


# A lawful metric, and metrics that each break one law


def lawful(sample: Sample, noise: torch.Generator) -> Figures:
    """Share of clips of known class for which the judge says the truth."""
    logits, truth = finite(sample["shown_who"], "verdicts"), sample["who"]
    known = truth >= 0
    return {"right": share((logits.argmax(1) == truth)[known], noise)}


def case(measure: Callable[[Sample, torch.Generator], Figures]) -> Metric:
    expected: dict[str, dict[str, Expected]] = {"ideal": {"right": near(1)}, "useless": {"right": chance(1 / 4)}}
    return Metric(measure, verdicts("who", "shown_who"), expected, refuses=("no_clips",))


@pytest.mark.parametrize("law", METRIC_LAWS)
def test_a_lawful_metric_breaks_no_law(law: str) -> None:
    METRIC_LAWS[law](case(lawful))


def changed(change: Callable[[Figure], Figure]) -> Callable[[Sample, torch.Generator], Figures]:
    return lambda sample, noise: {name: change(figure) for name, figure in lawful(sample, noise).items()}


def generous(sample: Sample, noise: torch.Generator) -> Figures:
    """Takes the second guess too."""
    hits = (sample["shown_who"].topk(2).indices == sample["who"][:, None]).any(1)
    return {"right": share(hits, noise)}


def pessimist(sample: Sample, noise: torch.Generator) -> Figures:
    return {"right": replace(share(sample["who"] < 0, noise), low=-1, high=1)}


def talkative(sample: Sample, noise: torch.Generator) -> Figures:
    found = lawful(sample, noise)
    return found | {"wrong": found["right"]}


def global_noise(sample: Sample, noise: torch.Generator) -> Figures:
    found = lawful(sample, noise)["right"]
    return {"right": replace(found, low=found.low - 1e-3 * float(torch.rand(())))}


def global_draw(sample: Sample, noise: torch.Generator) -> Figures:
    torch.rand(())
    return lawful(sample, noise)


def of_the_first(sample: Sample, noise: torch.Generator) -> Figures:
    found = lawful(rows_of(sample, slice(100)), noise)["right"]
    return {"right": replace(found, clips=size(sample))}


def counts_unknown(sample: Sample, noise: torch.Generator) -> Figures:
    found = lawful(sample, noise)["right"]
    return {"right": replace(found, clips=size(sample))}


def wrong_if_unknown(sample: Sample, noise: torch.Generator) -> Figures:
    value = float((finite(sample["shown_who"], "verdicts").argmax(1) == sample["who"]).float().mean())
    return {"right": replace(lawful(sample, noise)["right"], value=value, low=0, high=1)}


def overwriting(sample: Sample, noise: torch.Generator) -> Figures:
    found = lawful(sample, noise)
    sample["shown_who"].zero_()
    return found


def unchecked(sample: Sample, noise: torch.Generator) -> Figures:
    return {"right": share(sample["shown_who"].argmax(1) == sample["who"], noise)}


def crashing(sample: Sample, noise: torch.Generator) -> Figures:
    int(sample["who"].max())
    return lawful(sample, noise)


def silent(sample: Sample, noise: torch.Generator) -> Figures:
    return lawful(sample, noise) if size(sample) else {}


def reluctant(sample: Sample, noise: torch.Generator) -> Figures:
    if len(set(sample["who"].tolist()) - {-1}) < 2:
        raise UserError("two classes", "one")
    return lawful(sample, noise)


BROKEN: list[tuple[Callable[[Sample, torch.Generator], Figures], str, str]] = [
    (generous, "theory", r"useless: right is 0\.\d+ .* in theory 0.25"),
    (pessimist, "theory", r"ideal: right is 0.0000 .* in theory 1.0000"),
    (talkative, "theory", r"figures \['right', 'wrong'\], theory tells of \['right'\]"),
    (changed(lambda figure: replace(figure, low=figure.value + 0.1)), "interval", "lies outside"),
    (changed(lambda figure: replace(figure, high=float("nan"))), "interval", "nan"),
    (changed(lambda figure: replace(figure, clips=7)), "interval", "said to be of 7 clips, it is of 288"),
    (global_noise, "seed", "one seed gave two results"),
    (global_draw, "seed", "draws from the global generator"),
    (of_the_first, "order", "when the clips come in another order"),
    (counts_unknown, "unknown", "288 clips are counted"),
    (wrong_if_unknown, "unknown", "with clips of unknown labels"),
    (overwriting, "input", "it changes shown_who"),
    (unchecked, "not_a_number", "nan among the shown_who: passes for right = "),
    (crashing, "unusual", "RuntimeError instead of UserError"),
    (silent, "unusual", "no_clips: passes for no figures"),
    (reluctant, "unusual", "one_clip: refused"),
]


@pytest.mark.parametrize(("measure", "law", "message"), BROKEN)
def test_a_broken_metric_is_caught_by_the_law_it_breaks(
    measure: Callable[[Sample, torch.Generator], Figures], law: str, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        METRIC_LAWS[law](case(measure))


def test_a_metric_must_expect_something_of_useless_codes() -> None:
    with pytest.raises(AssertionError, match="ideal and of useless"):
        METRIC_LAWS["theory"](replace(case(lawful), expected={"ideal": {"right": near(1)}}))


def test_chance_allows_twice_the_interval_and_no_more() -> None:
    figure = Figure(0.30, 0.26, 0.35, 100)
    assert [chance(value).met_by(figure) for value in (0.21, 0.23, 0.30, 0.39, 0.41)] == [False, True, True, True, False]


def test_divergences_of_sure_verdicts_in_theory_are_those_of_a_plain_sum() -> None:
    expected = VERDICT_CASES["disagreement"].expected
    for factor, count in CLASSES.items():
        sure, other, flat = [torch.full((count,), 1e-6, dtype=torch.double) for _ in range(3)]
        sure[0], other[1] = 1, 1
        flat[:] = 1
        p, q, u = (row / row.sum() for row in (sure, other, flat))
        apart, from_any = (float((a * (a / b).log()).sum()) for a, b in ((p, q), (u, p)))
        assert expected["useless"][f"disagreement_kl_{factor}"].value == pytest.approx((1 - 1 / count) * apart)
        assert expected["unsure"][f"disagreement_kl_{factor}"].value == pytest.approx(from_any)


def test_a_guess_is_right_once_in_as_many_times_as_there_are_classes() -> None:
    assert guessed("on_{}", what=near(1)) == {"on_who": chance(1 / 4), "on_what": near(1)}


# The samples


def test_all_combinations_of_the_two_factors_come_equally_often() -> None:
    truth = labels()
    assert torch.bincount(truth["who"] * 3 + truth["what"]).tolist() == [CLIPS // 12] * 12


def test_held_out_clips_have_labels_of_their_own_when_they_are_shuffled() -> None:
    sample = numbers("shuffled", torch.Generator().manual_seed(0))
    for factor, count in CLASSES.items():
        assert (sample[f"train_{factor}"] == sample[f"test_{factor}"]).float().mean() < 1 / count + 0.15
    assert torch.equal(sample["train_codes"], numbers("ideal", torch.Generator())["train_codes"])


def test_duplicated_codes_have_every_number_twice() -> None:
    once, twice = (blocks(situation, torch.Generator())["test_codes"] for situation in ("ideal", "duplicated"))
    assert torch.equal(twice, torch.cat([once, once], 1))
    assert once.sum(1).eq(2).all()


def test_a_swap_is_of_the_two_clips_that_it_names() -> None:
    sample, truth = pairs("ideal", torch.Generator().manual_seed(0)), labels()
    for row in (0, 5, 100):
        identity, motion = sample["pair"][row].tolist()
        assert sample["shown_who"][row].argmax() == sample["identity_who"][row] == truth["who"][identity]
        assert sample["shown_what"][row].argmax() == sample["motion_what"][row] == truth["what"][motion]
