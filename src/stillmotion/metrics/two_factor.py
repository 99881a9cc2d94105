"""The two-factor protocol: keep one half of a clip, sample the other, and ask the judge (S3VAE, C-DSVAE, SPYL, DBSE, DiffSDA).

It takes two runs. In one, movement is the posterior mean of a clip and content is sampled; in the other, content is the posterior
mean and movement is sampled. Each is one Verdicts on the decoded clips, in the order of the clips' own labels. A model that ignores
one half is perfect in one run, so neither is to be shown without the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.accuracy import accuracies, judged, known
from stillmotion.metrics.entropies import entropy
from stillmotion.metrics.figure import Figures, bootstrap
from stillmotion.metrics.judge import Verdicts

NAME = "two_factor_accuracy_{}"


def kept_motion(
    verdicts: Verdicts,
    labels: Mapping[str, Tensor],
    moving: tuple[str, ...],
    generator: torch.Generator,
    clusters: Tensor | None = None,
    suffix: str = "",
    factor: str | None = None,
) -> Figures:
    """The run with movement kept and content sampled: Acc of every moving factor, and H(y|x), H(y) and IS of one of them.

    labels: factor -> (N,) int64 of the clips that the movement comes from, -1 where unknown. clusters: (N,), clips that are resampled
    together. suffix: added to the names, "_aggregate" where content comes from the aggregate posterior. factor: whose entropies;
    the first moving one that is judged, by default. Raises UserError where no moving factor is both judged and labelled.
    """
    factors = judged(verdicts, labels, moving)
    chosen = factors[0] if factor is None else factor
    if chosen not in factors:
        raise UserError(f"a moving factor that is judged and labelled ({', '.join(factors)})", chosen)
    found = accuracies(verdicts, labels, factors, generator, clusters, NAME + suffix)
    return found | _entropies(verdicts, labels, chosen, generator, clusters, suffix)


def kept_content(
    verdicts: Verdicts,
    labels: Mapping[str, Tensor],
    moving: tuple[str, ...],
    generator: torch.Generator,
    clusters: Tensor | None = None,
    suffix: str = "",
) -> Figures:
    """The run with content kept and movement sampled: Acc of every static factor, against the clips that the content comes from.

    Raises UserError where no static factor is both judged and labelled; otherwise as `kept_motion`.
    """
    static = [factor for factor in verdicts.logits if factor not in moving]
    return accuracies(verdicts, labels, static, generator, clusters, NAME + suffix)


def _entropies(
    verdicts: Verdicts, labels: Mapping[str, Tensor], factor: str, generator: torch.Generator, clusters: Tensor | None, suffix: str
) -> Figures:
    """H(y), H(y|x) in nats and IS = exp(H(y) - H(y|x)), which lies between 1 and the number of classes that the clips have.

    The protocol asks for as many clips of each class. All clips are used here, weighted so that each class counts alike: the same
    value where the classes are of one size, and no clip dropped where they are not.
    """
    index = known(verdicts, labels, factor)
    rows, classes = verdicts.probabilities(factor)[index], labels[factor][index]
    within = None if clusters is None else clusters[index]

    def varied(pick: Tensor) -> float:
        return float(entropy(_balanced(classes[pick]) @ rows[pick]))

    def unsure(pick: Tensor) -> float:
        return float(_balanced(classes[pick]) @ entropy(rows[pick]))

    def score(pick: Tensor) -> float:
        return math.exp(varied(pick) - unsure(pick))

    statistics = {"inception_score": score, "entropy": varied, "conditional_entropy": unsure}
    return {f"two_factor_{name}{suffix}": bootstrap(of, len(index), generator, within) for name, of in statistics.items()}


def _balanced(classes: Tensor) -> Tensor:
    """Weights (N,) that sum to one, and to the same for every class that is there."""
    sizes = torch.bincount(classes)
    return 1 / (sizes[classes].double() * (sizes > 0).sum())
