"""What theory says of the metrics of codes: of ideal codes, of useless ones, of codes with every number twice, of others' labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stillmotion.metrics import embedding, leakage, probes
from stillmotion.metrics.dci import dci
from stillmotion.metrics.factor_vae import factor_vae
from stillmotion.metrics.figure import Figures, share
from stillmotion.metrics.mig import mig
from stillmotion.metrics.modularity import explicitness, modularity
from stillmotion.metrics.sap import sap
from stillmotion.testing.metric_laws import Expected, Metric, Sample, chance, near
from stillmotion.testing.metric_samples import MOVING, Noise, blocks, numbers, one_part, parted, truth_of
from stillmotion.testing.metric_theory import BEST, BOTH_GUESSED, NOTHING, alike, each, guessed


def _fitted(metric: Callable[..., Figures], sample: Sample, noise: Noise) -> Figures:
    """A metric that is fitted on training clips and asked of held-out ones."""
    return metric(sample["train_codes"], truth_of(sample, "train_"), sample["test_codes"], truth_of(sample, "test_"), noise)


def _direct(metric: Callable[..., Figures], sample: Sample, noise: Noise) -> Figures:
    return metric(sample["test_codes"], truth_of(sample, "test_"), noise)


def _linear(sample: Sample, noise: Noise) -> Figures:
    train, test = (probes.Labelled(sample[f"{part}_codes"], truth_of(sample, f"{part}_")) for part in ("train", "test"))
    told = probes.linear(probes.prepare(train, train, test))
    return {factor: share(answers.hits, noise) for factor, answers in told.items()}


def _leaks(sample: Sample, noise: Noise) -> Figures:
    train, test = ({code: sample[f"{part}_{code}"] for code in ("static", "dynamic")} for part in ("train", "test"))
    told = leakage.Three(truth_of(sample, "train_"), truth_of(sample, "train_"), truth_of(sample, "test_"))
    return leakage.leakage(train, train, test, told, moving=MOVING, way="mean", generator=noise)


def _embedded(sample: Sample, noise: Noise) -> Figures:
    train, test = ({code: sample[f"{part}_{code}"] for code in ("static", "dynamic")} for part in ("train", "test"))
    quick = dict.fromkeys(train, embedding.Schedule(rate=3e-3, epochs=12))
    told = truth_of(sample, "train_"), truth_of(sample, "test_")
    return embedding.embedding(train, test, *told, generator=noise, schedules=quick)


def _all_leaks(own: Callable[[int], Expected]) -> dict[str, Expected]:
    """Chance for what a code should not tell; `own`, by the number of classes, for what it should."""
    found = each("chance_{}", lambda classes: near(1 / classes))
    for probe in ("_mean", "_mean_mlp"):
        found |= {f"probe_static_who{probe}": own(4), f"probe_dynamic_what{probe}": own(3)}
        found |= {f"leak_static_to_what{probe}": chance(1 / 3), f"leak_dynamic_to_who{probe}": chance(1 / 4)}
    return found


def _embeddings(who: Expected, what: Expected) -> dict[str, Expected]:
    return guessed("embedding_static_{}", who=who) | guessed("embedding_dynamic_{}", what=what)


MIG = ("mig", "mig_who", "mig_what")
DCI = ("dci_disentanglement", "dci_completeness", "dci_informativeness")
USELESS_DCI = dict(zip(DCI, (near(0, 0.3), near(0, 0.3), BOTH_GUESSED), strict=True))
TOLD = each("{}", lambda classes: BEST)

CODE_CASES: dict[str, Metric] = {
    "mig": Metric(
        partial(_direct, mig),
        one_part,
        {
            "ideal": dict.fromkeys(MIG, BEST),
            "duplicated": dict.fromkeys(MIG, NOTHING),
            **alike(dict.fromkeys(MIG, near(0, 0.07)), "useless", "shuffled"),  # the bias of 288 clips, over the entropy
        },
    ),
    "sap": Metric(
        partial(_fitted, sap),
        numbers,
        {
            "ideal": {"sap": near((3 / 4 + 2 / 3) / 2)},
            "duplicated": {"sap": NOTHING},
            **alike({"sap": near(0, 0.09)}, "useless", "shuffled"),  # three deviations of a balanced accuracy
        },
    ),
    "modularity": Metric(
        partial(_direct, modularity),
        one_part,
        {
            **alike({"modularity": BEST}, "ideal", "duplicated"),
            "useless": {"modularity": near(1 - (2 / 3) ** 2, 0.4)},  # all information is bias, in proportion to classes - 1
        },
    ),
    "modularity.explicitness": Metric(
        partial(_fitted, explicitness),
        blocks,
        {**alike({"explicitness": BEST}, "ideal", "duplicated"), **alike({"explicitness": chance(0.5)}, "useless", "shuffled")},
        order=0.01,
    ),
    "dci": Metric(
        partial(_fitted, dci),
        numbers,
        {**alike(dict.fromkeys(DCI, near(1, 1e-3)), "ideal", "duplicated"), **alike(USELESS_DCI, "useless", "shuffled")},
        order=0.05,
    ),
    "factor_vae": Metric(
        partial(_fitted, factor_vae),
        numbers,
        {**alike({"factor_vae": BEST}, "ideal", "duplicated"), **alike({"factor_vae": chance(0.5)}, "useless", "shuffled")},
        order=0.2,
    ),
    "probes": Metric(  # the other probe, the network, is measured in the leaks
        _linear,
        blocks,
        {**alike(TOLD, "ideal", "duplicated"), **alike(guessed("{}"), "useless", "shuffled")},
        order=0.01,
    ),
    "leakage": Metric(
        _leaks,
        parted,
        {
            **alike(_all_leaks(lambda classes: BEST), "ideal", "duplicated"),
            **alike(_all_leaks(lambda classes: chance(1 / classes)), "useless", "shuffled"),
        },
        order=0.1,
    ),
    "embedding": Metric(
        _embedded,
        parted,
        {
            **alike(_embeddings(BEST, BEST), "ideal", "duplicated"),
            **alike(_embeddings(chance(1 / 4), chance(1 / 3)), "useless", "shuffled"),
        },
        order=0.1,
    ),
}
"""By module of `metrics`; where one module has several metrics, with the name of another behind a point."""
