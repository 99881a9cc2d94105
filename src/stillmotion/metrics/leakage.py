"""What leaks: how much of the movement the static code tells, and of the identity the codes of movement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.accuracy import accuracies
from stillmotion.metrics.figure import Figure, Figures, share
from stillmotion.metrics.judge import Verdicts
from stillmotion.metrics.probes import Answers, Labelled, Labels, linear, mlp, prepare


class Three(NamedTuple):
    """The labels of the three splits, factor -> (N,) int64, -1 where unknown."""

    train: Labels
    validation: Labels
    test: Labels


def leakage(
    train: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    test: Mapping[str, Tensor],
    labels: Three,
    *,
    moving: Collection[str],
    way: Literal["mean", "sample"],
    generator: torch.Generator,
    clusters: Tensor | None = None,
) -> Figures:
    """How well test clips are told by linear and MLP probes, for every code and every factor of the test labels.

    train, validation, test: code -> (N, D), as `pooled` gives them: posterior means, or samples where `way` says so. The code named
    static is to tell the factors that stay, the others the `moving` ones. Names: `probe_<code>_<factor>_<way>` for these,
    `leak_<code>_to_<factor>_<way>` for what a code should not tell, `_mlp` at the end for the network, and `chance_<factor>`, the share
    of the largest class. Test clips of a class that no training clip has are left out. clusters: (N,) of the test clips.
    All training clips are used: two ways of three codes of seven factors of 8,100 clips take some 25 s on one core.
    Raises UserError for codes that are not finite and factors that cannot be probed, as `probes.check` does.
    """
    found: Figures = {}
    for code in test:
        parts = [Labelled(codes[code], told) for codes, told in zip((train, validation, test), labels, strict=True)]
        ready = prepare(*parts)
        for kind, answers in (("", linear(ready)), ("_mlp", mlp(ready, generator))):
            for factor, answer in answers.items():
                found[f"{_name(code, factor, moving)}_{way}{kind}"] = _share(answer, generator, clusters)
    return found | _chances(labels, generator, clusters)


def resampled(
    static: Verdicts,
    dynamic: Verdicts,
    labels: Labels,
    *,
    moving: Collection[str],
    generator: torch.Generator,
    clusters: Tensor | None = None,
) -> Figures:
    """How often clips still show what they showed after the code that should tell it was drawn anew: chance, if nothing leaks.

    static: of clips decoded with another static code and their own movement; asked for the factors that stay. dynamic: the
    other way round. labels: of the clips as they were. Single factors that the judge does not know, or without any label, are left out.
    Raises UserError as `accuracies` does, where nothing is left of either kind, and for clips without labels.
    """
    if not labels:
        raise UserError("labelled clips to judge", "clips without labels")
    found: Figures = {}
    for code, verdicts in (("static", static), ("dynamic", dynamic)):
        factors = [factor for factor in labels if (factor in moving) == (code == "dynamic")]
        if factors:
            found |= accuracies(verdicts, labels, factors, generator, clusters, f"resampled_{code}_{{}}")
    return found


def _chances(labels: Three, generator: torch.Generator, clusters: Tensor | None) -> Figures:
    found: Figures = {}
    for factor, told in labels.test.items():
        trained = labels.train[factor]
        clips = torch.isin(told, trained[trained >= 0]).nonzero().flatten()
        found[f"chance_{factor}"] = _share(Answers(clips, told[clips] == told[clips].mode().values), generator, clusters)
    return found


def _share(answer: Answers, generator: torch.Generator, clusters: Tensor | None) -> Figure:
    return share(answer.hits, generator, None if clusters is None else clusters[answer.clips])


def _name(code: str, factor: str, moving: Collection[str]) -> str:
    own = (code == "static") == (factor not in moving)
    return f"probe_{code}_{factor}" if own else f"leak_{code}_to_{factor}"
