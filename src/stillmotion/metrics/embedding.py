"""ID Acc. and Dyn. Acc. of the VDSM paper (table 1): what a small classifier reads off a single code, asked of clips it never saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.metrics.figure import Figures, share
from stillmotion.metrics.probes import Labelled, Labels, Part, answers, check, counts, targets

HIDDEN, HEAD = 256, 128
SLOPE = 0.2
BATCH, LARGEST, STEPS = 32, 128, 22
"""An epoch has as many steps as 700 clips, those of the published figures, give in batches of 32. More make batches of up to LARGEST."""


class Schedule(NamedTuple):
    """rate: of Adam. epochs: of at most STEPS steps."""

    rate: float
    epochs: int


PUBLISHED = {"static": Schedule(3e-4, 50), "dynamic": Schedule(4e-4, 100)}


class CodeClassifier(nn.Module):
    """Linear to HIDDEN, batch normalisation, LeakyReLU; for each factor the same again to HEAD, then a linear layer to its classes."""

    def __init__(self, inputs: int, classes: Sequence[int]) -> None:
        super().__init__()
        wide = HEAD * len(classes)
        self.shared = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.LeakyReLU(SLOPE))
        # the first layers of all heads are one layer: each of its numbers belongs to one head
        self.heads = nn.Sequential(nn.Linear(HIDDEN, wide), nn.BatchNorm1d(wide), nn.LeakyReLU(SLOPE))
        self.last = nn.ModuleList(nn.Linear(HEAD, count) for count in classes)

    def forward(self, codes: Tensor) -> list[Tensor]:
        """(N, D) to logits (N, classes) of each factor."""
        parts = self.heads(self.shared(codes)).split(HEAD, 1)
        return [last(part) for last, part in zip(self.last, parts, strict=True)]


def embedding(
    train: Mapping[str, Tensor],
    test: Mapping[str, Tensor],
    train_labels: Labels,
    test_labels: Labels,
    *,
    generator: torch.Generator,
    clusters: Tensor | None = None,
    schedules: Mapping[str, Schedule] = PUBLISHED,
) -> Figures:
    """`embedding_<code>_<factor>`: share of test clips whose class of each factor is told from the static or the dynamic code alone.

    train, test: code -> (N, D), posterior means as `pooled` gives them; codes without a schedule are passed over. One classifier for
    each code learns all factors at once from the training clips, at the published rate for the published number of epochs unless told
    otherwise, and is asked in evaluation mode. The released classifier saw the weights of a model's experts
    where this one sees the code itself. Test clips of a class that no training clip has are left out. clusters: (M,) of the test clips.
    Raises UserError as `probes.check` does.
    """
    found: Figures = {}
    for code in schedules:
        if code not in test:
            continue
        factors = check(Labelled(train[code], train_labels), test=Labelled(test[code], test_labels))
        fitted = Part(train[code].float(), targets(train_labels, train_labels, factors))
        net = _trained(fitted, counts(train_labels, factors), schedules[code], generator)
        with torch.no_grad():
            guesses = torch.stack([logits.argmax(1) for logits in net(test[code].float())], 1)
        for factor, answer in answers(factors, guesses, targets(train_labels, test_labels, factors)).items():
            chosen = None if clusters is None else clusters[answer.clips]
            found[f"embedding_{code}_{factor}"] = share(answer.hits, generator, chosen)
    return found


def _trained(train: Part, classes: Sequence[int], schedule: Schedule, generator: torch.Generator) -> CodeClassifier:
    """In evaluation mode, after the epochs of the schedule; no clip twice in an epoch, batches that differ by one clip at most."""
    net = _drawn(train.codes.shape[1], classes, generator)
    adam = torch.optim.Adam(net.parameters(), schedule.rate, fused=True)
    batches = min(math.ceil(len(train.codes) / BATCH), STEPS)
    for _ in range(schedule.epochs):
        drawn = torch.randperm(len(train.codes), generator=generator)[: STEPS * LARGEST]
        for pick in drawn.tensor_split(batches):
            adam.zero_grad()
            _loss(net(train.codes[pick]), train.targets[pick]).backward()  # type: ignore[no-untyped-call]
            adam.step()
    return net.eval()


def _drawn(inputs: int, classes: Sequence[int], generator: torch.Generator) -> CodeClassifier:
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return CodeClassifier(inputs, classes)


def _loss(logits: Sequence[Tensor], wanted: Tensor) -> Tensor:
    """Sum over factors of the mean cross-entropy of the clips of known class, in nats."""
    each = [F.cross_entropy(head, wanted[:, k], ignore_index=-1, reduction="sum") for k, head in enumerate(logits)]
    known = (wanted >= 0).sum(0).clamp(min=1)
    return (torch.stack(each) / known).sum()
