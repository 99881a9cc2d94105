"""What codes tell of factors, asked of clips that no probe has seen.

Two probes, a logistic regression and a network of one hidden layer. Both look at standardised codes, are fitted on training clips and
choose how far to fit on validation clips; test clips choose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import finite

PENALTIES = (100.0, 10.0, 1.0, 0.1)
"""Of the logistic regression, from strong to weak: each is 1 / C of scikit-learn."""
ITERATIONS = 150
TOLERANCE = 1e-5

WIDTH = 64
DECAYS = (0.01, 1.0)
RATE = 3e-3
BATCH = 128
STEPS, ROUNDS, PATIENCE = 32, 40, 4
"""Of the network: steps between two looks at the validation clips, the most looks, and looks without gain before it stops."""
GAIN = 1e-3
NEVER = -1e4

Labels = Mapping[str, Tensor]


class Labelled(NamedTuple):
    """A split: codes (N, D), and factor -> labels (N,) int64, -1 where unknown."""

    codes: Tensor
    labels: Labels


class Part(NamedTuple):
    """A split made ready: codes (N, D) float32, standardised; targets (N, F) int64, -1 for clips that are left out."""

    codes: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Probing:
    """All that a probe sees. Targets number the `classes` of each of the `factors`: those that training clips have, in order."""

    train: Part
    validation: Part
    test: Part
    factors: tuple[str, ...]
    classes: tuple[int, ...]


class Answers(NamedTuple):
    """clips: (K,) int64, the test clips that were asked of, whose class is known and is one that training clips have.

    hits: (K,) bool, which of them the probe told right.
    """

    clips: Tensor
    hits: Tensor


def check(train: Labelled, **held: Labelled) -> tuple[str, ...]:
    """The factors to probe for: those of the last split, the test clips.

    Raises UserError where codes are not finite numbers or do not fit their labels, where there are no labels, and where a factor has
    fewer than two classes among training clips or no clip of these in another split.
    """
    factors = tuple([*held.values()][-1].labels)
    if not factors:
        raise UserError("labelled clips to probe codes with", "clips without labels")
    for factor in factors:
        lacking = _lacking(factor, train.labels, {name: split.labels for name, split in held.items()})
        if lacking:
            raise UserError("at least two classes to probe for, and held-out clips of them", f"{lacking} for {factor}", "Leave it out.")
    for codes, labels in (train, *held.values()):
        finite(codes, "codes")
        for factor in factors:
            if len(labels[factor]) != len(codes):
                raise UserError(f"a label of {factor} for each of {len(codes)} clips", f"{len(labels[factor])} labels")
    return factors


def prepare(train: Labelled, validation: Labelled, test: Labelled) -> Probing:
    """The splits as probes want them, by mean and deviation of the training codes. Raises UserError as `check` does."""
    factors = check(train, validation=validation, test=test)
    splits = (train, validation, test)
    codes = standardised(*(split.codes for split in splits))
    parts = [Part(code, targets(train.labels, split.labels, factors)) for code, split in zip(codes, splits, strict=True)]
    return Probing(parts[0], parts[1], parts[2], factors, counts(train.labels, factors))


def targets(train: Labels, told: Labels, factors: Sequence[str]) -> Tensor:
    """Where among the classes that training clips have each label stands, (N, F) int64; -1 for clips of none of them."""
    return torch.stack([_positions(told[factor], _classes(train[factor])) for factor in factors], 1)


def counts(train: Labels, factors: Sequence[str]) -> tuple[int, ...]:
    """How many classes training clips have of each factor."""
    return tuple(len(_classes(train[factor])) for factor in factors)


def standardised(train: Tensor, *others: Tensor) -> list[Tensor]:
    """Each (N, D), float32, less the mean and over the deviation of `train`; numbers that never vary in `train` become zero."""
    mean, deviation = train.double().mean(0), train.double().std(0, correction=0)
    varies = deviation > 1e-10 * mean.abs()
    scale = torch.where(varies, 1 / deviation, 0.0)
    return [((codes.double() - mean) * scale).float() for codes in (train, *others)]


# The logistic regression


def linear(ready: Probing) -> dict[str, Answers]:
    """A logistic regression for each factor, of the penalty of PENALTIES under which validation clips are likeliest."""
    weights = [_chosen(ready, column) for column in range(len(ready.factors))]
    codes = _with_one(ready.test.codes)
    return answers(ready.factors, torch.stack([(codes @ weight).argmax(1) for weight in weights], 1), ready.test.targets)


def logistic(codes: Tensor, wanted: Tensor, classes: int, penalty: float, start: Tensor | None = None) -> Tensor:
    """Weights (D + 1, classes), the last row the intercept, that minimise cross-entropy + penalty / 2 * |weights but the intercept|^2.

    codes: (N, D). wanted: (N,) int64. The cross-entropy is the sum over clips in nats; the optimum is that of scikit-learn's
    multinomial LogisticRegression with C = 1 / penalty, found by L-BFGS from `start` or from zero.
    """
    inputs, truth = _with_one(codes), F.one_hot(wanted, classes).to(codes)
    weights = inputs.new_zeros(inputs.shape[1], classes) if start is None else start.clone()
    shrink = inputs.new_full((inputs.shape[1], 1), penalty / len(inputs))
    shrink[-1] = 0

    def closure() -> Tensor:
        log_p = (inputs @ weights).log_softmax(1)
        weights.grad = inputs.T @ (log_p.exp() - truth) / len(inputs) + shrink * weights
        return -(log_p * truth).sum() / len(inputs) + (shrink * weights.square()).sum() / 2

    ends = {"max_iter": ITERATIONS, "tolerance_grad": TOLERANCE, "tolerance_change": 1e-9}
    torch.optim.LBFGS([weights], line_search_fn="strong_wolfe", **ends).step(closure)  # type: ignore[arg-type, no-untyped-call]
    return weights.detach()


def _chosen(ready: Probing, column: int) -> Tensor:
    """From the strongest penalty on, each fit starting where the last one ended, until validation clips become less likely."""
    codes, wanted = _known(ready.train, column)
    held, truth = _known(ready.validation, column)
    chosen, least, weights = torch.empty(0), float("inf"), None
    for penalty in PENALTIES:
        weights = logistic(codes, wanted, ready.classes[column], penalty, weights)
        loss = float(F.cross_entropy(_with_one(held) @ weights, truth))
        if loss >= least:
            break
        chosen, least = weights, loss
    return chosen


def _known(part: Part, column: int) -> Part:
    known = part.targets[:, column] >= 0
    return Part(part.codes[known], part.targets[known, column])


def _with_one(codes: Tensor) -> Tensor:
    return F.pad(codes, (0, 1), value=1.0)


# The network


class _Nets(NamedTuple):
    """P networks side by side: inner (P, D, WIDTH), its bias (P, 1, WIDTH), outer (P, WIDTH, K), its bias (P, 1, K)."""

    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor

    def logits(self, codes: Tensor) -> Tensor:
        """(N, D) to (P, N, K)."""
        hidden = torch.baddbmm(self.inner_bias, codes.expand(len(self.inner), -1, -1), self.inner).relu()
        return torch.baddbmm(self.outer_bias, hidden, self.outer)


def mlp(ready: Probing, generator: torch.Generator) -> dict[str, Answers]:
    """A network of WIDTH rectified units for each factor, of the weight decay and at the step where validation clips are likeliest.

    All factors and decays are trained side by side on the same batches by Adam, whose steps are taken number by number: no network
    knows of the others.
    """
    nets, losses = _trained(ready, generator)
    best = losses.view(len(ready.factors), len(DECAYS)).argmin(1) + torch.arange(len(ready.factors)) * len(DECAYS)
    guesses = _Nets(*(value[best] for value in nets)).logits(ready.test.codes).argmax(2).T
    return answers(ready.factors, guesses, ready.test.targets)


def _trained(ready: Probing, generator: torch.Generator) -> tuple[_Nets, Tensor]:
    """The best state of each network, and the cross-entropy (P,) of validation clips there."""
    nets = _fresh(ready, generator)
    kept = _Nets(*(value.detach().clone() for value in nets))
    adam = torch.optim.Adam(nets, RATE, fused=True)
    keep = 1 - RATE * torch.tensor(DECAYS).repeat(len(ready.factors))[:, None, None]
    least = torch.full((len(keep),), float("inf"))
    waited = torch.zeros(len(keep))
    for _ in range(ROUNDS):
        for _ in range(STEPS):
            _step(nets, adam, keep, ready.train, generator)
        with torch.no_grad():
            loss = _losses(nets, ready.validation)
        better = loss < least - GAIN
        least = torch.where(better, loss, least)
        waited = torch.where(better, 0, waited + 1)
        for best, now in zip(kept, nets, strict=True):
            best[better] = now.detach()[better]
        if bool((waited >= PATIENCE).all()):
            break
    return kept, least


def _fresh(ready: Probing, generator: torch.Generator) -> _Nets:
    """Networks as drawn, factor by factor and decay by decay; what is no class of a factor can never be said."""
    count, inputs, most = len(ready.factors) * len(DECAYS), ready.train.codes.shape[1], max(ready.classes)
    inner = torch.randn(count, inputs, WIDTH, generator=generator) * (2 / inputs) ** 0.5
    outer = torch.randn(count, WIDTH, most, generator=generator) * (1 / WIDTH) ** 0.5
    absent = torch.arange(most) >= torch.tensor(ready.classes).repeat_interleave(len(DECAYS))[:, None, None]
    nets = _Nets(inner, torch.zeros(count, 1, WIDTH), outer, torch.where(absent, NEVER, 0.0))
    return _Nets(*(value.requires_grad_() for value in nets))


def _step(nets: _Nets, adam: torch.optim.Adam, keep: Tensor, train: Part, generator: torch.Generator) -> None:
    pick = torch.randint(len(train.codes), (min(BATCH, len(train.codes)),), generator=generator)
    adam.zero_grad()
    _losses(nets, Part(train.codes[pick], train.targets[pick])).sum().backward()  # type: ignore[no-untyped-call]
    adam.step()
    with torch.no_grad():
        nets.inner.mul_(keep)
        nets.outer.mul_(keep)


def _losses(nets: _Nets, part: Part) -> Tensor:
    """Cross-entropy of each network over the clips of known class, in nats, (P,)."""
    logits, wanted = nets.logits(part.codes), part.targets.T.repeat_interleave(len(DECAYS), 0)
    each = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none", ignore_index=-1).view(wanted.shape)
    return each.sum(1) / (wanted >= 0).sum(1).clamp(min=1)


# Labels and answers


def answers(factors: Sequence[str], guesses: Tensor, truth: Tensor) -> dict[str, Answers]:
    """From guesses and targets, both (M, F)."""
    found = {}
    for column, factor in enumerate(factors):
        clips = (truth[:, column] >= 0).nonzero().flatten()
        found[factor] = Answers(clips, guesses[clips, column] == truth[clips, column])
    return found


def _classes(labels: Tensor) -> Tensor:
    seen: Tensor = torch.unique(labels[labels >= 0])
    return seen


def _positions(labels: Tensor, seen: Tensor) -> Tensor:
    """Where among the classes seen each label is, -1 where nowhere."""
    where = torch.searchsorted(seen, labels).clamp(max=len(seen) - 1)
    return where.where(seen[where] == labels, torch.tensor(-1))


def _lacking(factor: str, train: Labels, held: Mapping[str, Labels]) -> str:
    """What keeps a factor from being probed; empty where nothing does."""
    unlabelled = torch.empty(0, dtype=torch.int64)
    seen = _classes(train.get(factor, unlabelled))
    if len(seen) < 2:
        return f"{len(seen)} among training clips"
    without = (name for name, labels in held.items() if not torch.isin(labels.get(factor, unlabelled), seen).any())
    return next((f"no {name} clip of a class that is trained on" for name in without), "")
