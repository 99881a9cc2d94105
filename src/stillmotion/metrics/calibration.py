"""Does the judge know how sure it may be? Its calibration on held-out real clips, which travels with every score that it gives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.metrics.accuracy import judged, known, right
from stillmotion.metrics.figure import Figures, bootstrap, mean
from stillmotion.metrics.judge import Verdicts

BINS = 15


def calibration(
    verdicts: Verdicts, labels: Mapping[str, Tensor], generator: torch.Generator, clusters: Tensor | None = None
) -> Figures:
    """Expected calibration error (Guo et al. 2017, equation 3) and negative log-likelihood in nats, of every factor that is labelled.

    judge_ece_<factor>: mean distance between confidence (the top probability) and accuracy in 15 bins of confidence of equal width,
    each weighted by its clips. A resample repeats clips and so scatters more: the interval reaches further up than down.
    judge_nll_<factor>: mean of -ln p(true class); ln K for a judge that knows nothing.
    labels: factor -> (N,) int64, -1 where unknown. clusters: (N,), clips that are resampled together. Raises UserError where no
    factor is both judged and labelled, and for verdicts that are not numbers.
    """
    found = {}
    for factor in judged(verdicts, labels, verdicts.logits):
        index = known(verdicts, labels, factor)
        within = None if clusters is None else clusters[index]
        confidence = verdicts.probabilities(factor)[index].max(1).values
        gap = confidence - right(verdicts, labels, factor)[index].double()

        def error(pick: Tensor, confidence: Tensor = confidence, gap: Tensor = gap) -> float:
            return _calibration_error(confidence[pick], gap[pick])

        found[f"judge_ece_{factor}"] = bootstrap(error, len(index), generator, within)
        losses = F.cross_entropy(verdicts.logits[factor][index].double(), labels[factor][index], reduction="none")
        found[f"judge_nll_{factor}"] = mean(losses, generator, within)
    return found


def _calibration_error(confidence: Tensor, gap: Tensor) -> float:
    """gap: (N,), confidence less one where right, so that the sum over a bin is that of both means."""
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    return float(torch.bincount(bins, gap).abs().sum() / len(gap))
