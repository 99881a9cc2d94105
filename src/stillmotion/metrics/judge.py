"""The judge: a supervised classifier of clips, trained on real clips alone, that says what a model's clips show.

The architecture is the one that C-DSVAE, SPYL, DBSE, DiffSDA and MSD share: convolutions of 4 x 4 with stride 2, a bidirectional
LSTM, and one small head per factor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.abilities import Model
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.precision import full_precision
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet
from stillmotion.nn.encoders import doublings
from stillmotion.nn.recurrent import read_both_ways

Count = Annotated[int, Field(ge=1)]
CHANNELS = (64, 128, 256, 512)
"""Of 64 x 64 frames; smaller ones leave out the first, larger ones repeat the last."""
BATCH = 64
LEAST_GRADIENT = 1e-6


@dataclass(frozen=True)
class Verdicts:
    """What a judge says of N clips.

    logits: factor -> (N, classes) float32, unnormalised log-probabilities. features: (N, F) float32, for Fréchet distances.
    """

    logits: Mapping[str, Tensor]
    features: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: Tensor | slice) -> Verdicts:
        return Verdicts({factor: value[index] for factor, value in self.logits.items()}, self.features[index])

    def top(self, factor: str) -> Tensor:
        """The most probable class, (N,) int64."""
        best: Tensor = self.logits[factor].argmax(1)
        return best

    def probabilities(self, factor: str) -> Tensor:
        """(N, classes) float64, each row a distribution."""
        return self.logits[factor].double().softmax(1)

    @staticmethod
    def cat(parts: list[Verdicts]) -> Verdicts:
        """The verdicts on several batches as one."""
        factors = parts[0].logits
        return Verdicts({f: torch.cat([part.logits[f] for part in parts]) for f in factors}, torch.cat([part.features for part in parts]))


class Judges(Protocol):
    """Whatever can tell classes from pixels: a trained judge, or readers that know the truth of made data."""

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Factor -> names of its classes, in the order of the logits."""

    def read(self, clips: Clips) -> Verdicts:
        """The verdicts on a batch of clips, on the CPU."""


class JudgeConfig(BaseModel):
    """channels: four, as of 64 x 64 frames, whatever the size. code: features of a frame. rnn: units per direction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: dict[str, tuple[str, ...]] = Field(min_length=1)
    size: int = 64
    colours: Literal[1, 3] = 3
    channels: tuple[Count, Count, Count, Count] = CHANNELS
    code: Count = 128
    rnn: Count = 256
    hidden: Count = 256


class Judge(Model):
    """Frames -> convolutions -> bidirectional LSTM -> a clip feature of 2 * rnn -> one head per factor."""

    name = "judge"
    config_type = JudgeConfig
    schedules = ()

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        more = doublings(config.size) - 4
        channels = config.channels[-more:] if more < 0 else config.channels + config.channels[-1:] * more
        self.config, self.frame_shape = config, (config.colours, config.size, config.size)
        widths = [config.colours, *channels]
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, inplace=True)) for a, b in pairwise(widths)
        ]
        last = nn.Sequential(nn.Conv2d(widths[-1], config.code, 4), nn.BatchNorm2d(config.code), nn.Tanh())
        self.frames = nn.Sequential(*blocks, last)
        self.rnn = nn.LSTM(config.code, config.rnn, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleDict()
        for factor, names in config.classes.items():
            head = nn.Sequential(nn.Linear(2 * config.rnn, config.hidden), nn.ReLU(), nn.Linear(config.hidden, len(names)))
            self.heads._modules[factor] = head  # add_module refuses factors called like a method of modules, such as "type"

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        names: Mapping[str, tuple[str, ...]] = self.config.classes
        return names

    def features(self, clips: Clips) -> Tensor:
        """(B, 2 * rnn): the forward state at the last frame that is there, joined to the backward state at the first."""
        self.check(clips)
        pixels = clips.frames[clips.mask].contiguous(memory_format=torch.channels_last)
        code = self.frames(pixels).flatten(1)
        with full_precision(code):
            x = code.new_zeros(*clips.mask.shape, code.shape[1], dtype=torch.float32)
            x[clips.mask] = code.float()
            return read_both_ways(self.rnn, x, clips.mask)

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Cross-entropy of each factor in nats, over the clips whose class is known; in training they are balanced.

        The published judges take the plain sum. A factor that is seen at a glance then shapes all features before one that only
        movement tells has any pull on them, and the second is never learned. So in training each factor pulls at the features as
        strongly as it is unknown: its loss over that of a guess, whatever the size of its gradient.
        """
        features = self.features(clips)
        with full_precision(features):
            values = {factor: _cross_entropy(head(features), clips.labels[factor]) for factor, head in self.heads.items()}
            balanced = self.training and torch.is_grad_enabled()
            return Terms(values, {factor: self._pull(factor, value, features) for factor, value in values.items()} if balanced else {})

    def _pull(self, factor: str, value: Tensor, features: Tensor) -> float:
        """The weight with which the gradient of a factor's loss at the features has the length of what is unknown of the factor."""
        (gradient,) = torch.autograd.grad(value, features, retain_graph=True)
        unknown = float(value.detach()) / math.log(max(2, len(self.classes[factor])))
        return unknown / max(float(gradient.norm()), LEAST_GRADIENT)

    def read(self, clips: Clips) -> Verdicts:
        """The verdicts on a batch, on the CPU. Raises UserError for frames of another size than it was trained on."""
        with torch.inference_mode():
            features = self.features(clips.to(next(self.parameters()).device))
            with full_precision(features):
                logits = {factor: head(features).cpu() for factor, head in self.heads.items()}
        return Verdicts(logits, features.cpu())


def read_all(judge: Judges, clips: ClipSet | Iterable[Clips]) -> Verdicts:
    """The verdicts on all clips, batch by batch; never more than one batch of frames as floats. Raises UserError for no clips."""
    batches = (clips.clips(part) for part in torch.split(torch.arange(len(clips)), BATCH)) if isinstance(clips, ClipSet) else clips
    found = [judge.read(batch) for batch in batches if len(batch)]
    if not found:
        raise UserError("at least one clip to judge", "none")
    return Verdicts.cat(found)


def check_judge(judge: Judges, data: ClipSet, factors: Iterable[str] = ()) -> list[str]:
    """The factors that judge and data share.

    Raises UserError where there are none, where their classes differ, and where one of `factors` is lacking.
    """
    shared = [factor for factor in judge.classes if factor in data.labels]
    lacking = [factor for factor in factors if factor not in shared]
    if lacking or not shared:
        got = f"a judge of {', '.join(judge.classes)} and clips labelled {', '.join(data.labels) or 'with nothing'}"
        raise UserError(f"a judge of {', '.join(lacking) or 'factors of this data'}", got, REMEDY)
    for factor in shared:
        mine, theirs = tuple(judge.classes[factor]), tuple(data.classes.get(factor, ()))
        if mine != theirs:
            raise UserError(f"a judge of the classes {_few(theirs)} of {factor}", f"one of {_few(mine)}", REMEDY)
    return shared


REMEDY = "Train one on this data with `stillmotion judge train`."


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:9]) + (f", ... ({len(names)})" if len(names) > 9 else "")


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    known = labels >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    return F.cross_entropy(logits[known], labels[known])
