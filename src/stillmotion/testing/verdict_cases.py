"""What theory says of the metrics of a judge's verdicts: the truth, any class, all classes alike, always the first, others' labels."""

from __future__ import annotations

from collections.abc import Callable
from math import log

from stillmotion.metrics import leakage, swaps, two_factor
from stillmotion.metrics.accuracy import accuracies
from stillmotion.metrics.calibration import calibration
from stillmotion.metrics.consistency import consistency
from stillmotion.metrics.disagreement import LEAST, disagreement
from stillmotion.metrics.entropies import entropies
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.intervention import intervention
from stillmotion.testing.metric_laws import Expected, Metric, Sample, chance, near
from stillmotion.testing.metric_samples import CLASSES, MOVING, SURE, Noise, pairs, redrawn, resampled, said, truth_of, verdicts
from stillmotion.testing.metric_theory import BEST, BOTH_GUESSED, NOTHING, alike, each, guessed


def _swapped(sample: Sample, noise: Noise) -> Figures:
    identity, motion = truth_of(sample, "identity_"), truth_of(sample, "motion_")
    return swaps.swap_accuracy(said(sample), identity, motion, MOVING, noise, sample["pair"])


def _two_factor(accuracy: Expected, score: Expected, entropy: Expected, conditional: Expected) -> dict[str, Expected]:
    found = {"accuracy_what": accuracy, "inception_score": score, "entropy": entropy, "conditional_entropy": conditional}
    return {f"two_factor_{name}": value for name, value in found.items()}


def _entropies(varied: Callable[[int], float], unsure: Callable[[int], float], tolerance: float = 1e-6) -> dict[str, Expected]:
    found = {}
    for name, value in (("generation_entropy", varied), ("generation_conditional_entropy", unsure)):
        found[name] = near((value(4) + value(3)) / 2, tolerance)
        found |= {f"{name}_{factor}": near(value(count), tolerance) for factor, count in CLASSES.items()}
    return found


def _none(classes: int) -> float:
    return 0.0


def _apart(classes: int) -> float:
    """KL in nats of sure verdicts on different classes, where no class is given less than LEAST."""
    return (1 - LEAST) / (1 + (classes - 1) * LEAST) * -log(LEAST)


def _from_any(classes: int) -> float:
    """KL in nats from all classes alike to a sure verdict."""
    return log(1 + (classes - 1) * LEAST) - log(classes) - (classes - 1) / classes * log(LEAST)


def _disagreement(share: Callable[[int], Expected], kl: Callable[[int], Expected]) -> dict[str, Expected]:
    random = each("disagreement_kl_random_{}", lambda classes: near(_from_any(classes), 1e-4))
    return each("disagreement_{}", share) | each("disagreement_kl_{}", kl) | random


def _calibration(error: Callable[[int], Expected], loss: Callable[[int], Expected]) -> dict[str, Expected]:
    return each("judge_ece_{}", error) | each("judge_nll_{}", loss)


def _swaps(who: Expected, what: Expected, both: Expected) -> dict[str, Expected]:
    found = {"who": who, "static": who, "what": what, "dynamic": what, "both": both}
    return {f"swap_{name}_accuracy": value for name, value in found.items()}


def _resampled(who: Expected, what: Expected) -> dict[str, Expected]:
    return {"resampled_static_who": who, "resampled_dynamic_what": what}


ONE_SET = ("who", "what", "shown_who", "shown_what")
TWO_SETS = ("real_who", "real_what", "shown_who", "shown_what")
FLAT = near(log(3))
"""The entropy of all classes of `what` alike."""
SURELY_WRONG = 2 * SURE
"""Loss in nats."""
ONLY_NONE = ("no_clips",)

VERDICT_CASES: dict[str, Metric] = {
    "accuracy": Metric(
        lambda sample, noise: accuracies(said(sample), truth_of(sample), CLASSES, noise),
        verdicts(*ONE_SET),
        {
            "ideal": each("{}", lambda classes: BEST),
            **alike(guessed("{}"), "useless", "shuffled"),
            "collapsed": each("{}", lambda classes: near(1 / classes)),
        },
        refuses=ONLY_NONE,
    ),
    "two_factor": Metric(
        lambda sample, noise: two_factor.kept_motion(said(sample), truth_of(sample), MOVING, noise),
        verdicts("what", "shown_what"),
        {
            "ideal": _two_factor(BEST, near(3), FLAT, NOTHING),
            **alike(_two_factor(chance(1 / 3), near(3, 0.15), near(log(3), 0.05), NOTHING), "useless", "shuffled"),
            "unsure": _two_factor(near(1 / 3), BEST, FLAT, FLAT),
            "collapsed": _two_factor(near(1 / 3), BEST, NOTHING, NOTHING),
        },
        refuses=ONLY_NONE,
    ),
    "two_factor.kept_content": Metric(
        lambda sample, noise: two_factor.kept_content(said(sample), truth_of(sample), MOVING, noise),
        verdicts("who", "shown_who"),
        {
            "ideal": {"two_factor_accuracy_who": BEST},
            **alike({"two_factor_accuracy_who": chance(1 / 4)}, "useless", "shuffled"),
        },
        refuses=ONLY_NONE,
    ),
    "swaps": Metric(
        _swapped,
        pairs,
        {
            "ideal": _swaps(BEST, BEST, BEST),
            "useless": _swaps(chance(1 / 4), chance(1 / 3), chance(1 / 12)),
            "cheat": _swaps(chance(1 / 4), BEST, chance(1 / 4)),
        },
        refuses=ONLY_NONE,
    ),
    "consistency": Metric(
        lambda sample, noise: consistency(said(sample, "real"), said(sample), noise),
        verdicts(*TWO_SETS),
        {
            "ideal": each("consistency_{}", lambda classes: BEST) | {"consistency_mean": BEST},
            **alike(guessed("consistency_{}") | {"consistency_mean": BOTH_GUESSED}, "useless", "shuffled"),
        },
        refuses=ONLY_NONE,
    ),
    "entropies": Metric(
        lambda sample, noise: entropies(said(sample), noise),
        verdicts("shown_who", "shown_what"),
        {
            "ideal": _entropies(log, _none),
            "unsure": _entropies(log, log),
            "collapsed": _entropies(_none, _none),
            "useless": _entropies(log, _none, 0.05),  # sure of any class: nothing in it tells that it is wrong
        },
        refuses=ONLY_NONE,
    ),
    "disagreement": Metric(
        lambda sample, noise: disagreement(said(sample, "real"), said(sample), CLASSES, noise),
        verdicts(*TWO_SETS),
        {
            "ideal": _disagreement(lambda classes: NOTHING, lambda classes: NOTHING),
            **alike(
                _disagreement(lambda classes: chance(1 - 1 / classes), lambda classes: chance((1 - 1 / classes) * _apart(classes))),
                "useless", "shuffled",
            ),
            "unsure": _disagreement(lambda classes: near(1 - 1 / classes), lambda classes: near(_from_any(classes), 1e-4)),
        },
        refuses=ONLY_NONE,
    ),
    "calibration": Metric(
        lambda sample, noise: calibration(said(sample), truth_of(sample), noise),
        verdicts(*ONE_SET),
        {
            "ideal": _calibration(lambda classes: NOTHING, lambda classes: NOTHING),
            "unsure": _calibration(lambda classes: NOTHING, lambda classes: near(log(classes))),
            "useless": _calibration(lambda classes: chance(1 - 1 / classes), lambda classes: chance((1 - 1 / classes) * SURELY_WRONG)),
        },
        refuses=ONLY_NONE,
    ),
    "leakage.resampled": Metric(
        lambda sample, noise: leakage.resampled(said(sample), said(sample), truth_of(sample), moving=MOVING, generator=noise),
        redrawn,
        {"ideal": _resampled(near(1 / 4), near(1 / 3)), "useless": _resampled(BEST, BEST)},
        refuses=ONLY_NONE,
    ),
    "intervention": Metric(
        lambda sample, noise: intervention("score", said(sample), truth_of(sample), ("who",), noise),
        resampled,
        {
            "ideal": {"score": BEST},
            "copied": {"score": near(1 - 2 / 3 / 2)},
            "useless": {"score": near(1 - 3 / 4 / 2, 0.06)},
        },
        refuses=ONLY_NONE,
    ),
}  # fmt: skip
"""By module of `metrics`; where one module has several metrics, with the name of another behind a point."""
