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
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.abilities import Model
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.precision import full_precision
from stillmotion.core.random import uniform
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet
from stillmotion.metrics.paths import centroids
from stillmotion.nn.convolutions import Conv2d
from stillmotion.nn.encoders import doublings
from stillmotion.nn.recurrent import read_both_ways

Count = Annotated[int, Field(ge=1)]
CHANNELS = (64, 128, 256, 512)
"""Of 64 x 64 frames; smaller ones leave out the first, larger ones repeat the last."""
BATCH = 64
LEAST_GRADIENT = 1e-6
GAIN = 4.0
"""Of changes from frame to frame, which are small beside the frames."""
SHIFT = 0.1
"""Share of the width by which changes are moved about in training: where someone stands says nothing of what he does."""


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
    """channels: four, as of 64 x 64 frames, whatever the size. code: features of a frame. rnn: units per direction.

    changes: factors that are told by what changes from frame to frame alone, by networks of their own, which cannot see who is there:
    where few persons were filmed, each at few actions, a judge of frames learns who does what.
    centred: whether frames are seen through a window of half their side about their centre of light. For one thing that wanders over black,
    which then looks alike wherever it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: dict[str, tuple[str, ...]] = Field(min_length=1)
    size: int = 64
    colours: Literal[1, 3] = 3
    channels: tuple[Count, Count, Count, Count] = CHANNELS
    code: Count = 128
    rnn: Count = 256
    hidden: Count = 256
    changes: tuple[str, ...] = ()
    centred: bool = False

    @model_validator(mode="after")
    def _known(self) -> JudgeConfig:
        if unknown := set(self.changes) - set(self.classes):
            raise ValueError(f"factors that are told by changes are among its classes, got {', '.join(sorted(unknown))}")
        return self


class Judge(Model):
    """Frames -> convolutions -> bidirectional LSTM -> a clip feature of 2 * rnn -> one head per factor."""

    name = "judge"
    config_type = JudgeConfig
    schedules = ()

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.colours, config.size, config.size)
        self.frames, self.rnn = self._eye(config.colours, config.size // 2 if config.centred else config.size)
        if config.changes:
            self.changes, self.changes_rnn = self._eye(1, config.size)
        self.heads = nn.ModuleDict()
        for factor, names in config.classes.items():
            head = nn.Sequential(nn.Linear(2 * config.rnn, config.hidden), nn.ReLU(), nn.Linear(config.hidden, len(names)))
            self.heads._modules[factor] = head  # add_module refuses factors called like a method of modules, such as "type"

    def _eye(self, colours: int, size: int) -> tuple[nn.Sequential, nn.LSTM]:
        config, more = self.config, doublings(size) - 4
        channels = config.channels[-more:] if more < 0 else config.channels + config.channels[-1:] * more
        widths = [colours, *channels]
        blocks = [
            nn.Sequential(Conv2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, inplace=True)) for a, b in pairwise(widths)
        ]
        last = nn.Sequential(Conv2d(widths[-1], config.code, 4), nn.BatchNorm2d(config.code), nn.Tanh())
        return nn.Sequential(*blocks, last), nn.LSTM(config.code, config.rnn, batch_first=True, bidirectional=True)

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        names: Mapping[str, tuple[str, ...]] = self.config.classes
        return names

    def features(self, clips: Clips, generator: torch.Generator | None = None) -> Tensor:
        """(B, 2 * rnn): the forward state at the last frame that is there, joined to the backward state at the first.

        With factors that are told by changes (B, 4 * rnn), the second half those of the changes; a generator moves the latter about.
        """
        self.check(clips)
        frames = centred(clips.frames) if self.config.centred else clips.frames
        seen = self._seen(self.frames, self.rnn, frames, clips.mask)
        if not self.config.changes:
            return seen
        moved = changes(clips)
        if generator is not None:
            moved = shifted(moved, generator)
        return torch.cat([seen, self._seen(self.changes, self.changes_rnn, moved, clips.mask)], -1)

    @staticmethod
    def _seen(eye: nn.Sequential, rnn: nn.LSTM, frames: Tensor, mask: Tensor) -> Tensor:
        pixels = frames[mask].contiguous(memory_format=torch.channels_last)
        code = eye(pixels).flatten(1)
        with full_precision(code):
            x = code.new_zeros(*mask.shape, code.shape[1], dtype=torch.float32)
            x[mask] = code.float()
            return read_both_ways(rnn, x, mask)

    def _logits(self, features: Tensor) -> dict[str, Tensor]:
        """Of each factor, from the features that tell it."""
        seen, told = features[:, : 2 * self.config.rnn], features[:, 2 * self.config.rnn :]
        return {factor: head(told if factor in self.config.changes else seen) for factor, head in self.heads.items()}

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Cross-entropy of each factor in nats, over the clips whose class is known; in training they are balanced.

        The published judges take the plain sum. A factor that is seen at a glance then shapes all features before one that only
        movement tells has any pull on them, and the second is never learned. So in training each factor pulls at the features as
        strongly as it is unknown: its loss over that of a guess, whatever the size of its gradient.
        """
        features = self.features(clips, generator if self.training else None)
        with full_precision(features):
            values = {factor: _cross_entropy(logits, clips.labels[factor]) for factor, logits in self._logits(features).items()}
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
                logits = {factor: each.cpu() for factor, each in self._logits(features).items()}
        return Verdicts(logits, features.cpu())


def changes(clips: Clips) -> Tensor:
    """What changes from each frame to the next, (B, T, 1, H, W): differences of the mean of the colours, without sign, times GAIN.

    The first frame is given the change of the second. Where one of the two frames is missing nothing changes.
    """
    grey = clips.frames.mean(2, keepdim=True)
    both = (clips.mask[:, 1:] & clips.mask[:, :-1])[:, :, None, None, None]
    moved = torch.where(both, GAIN * (grey[:, 1:] - grey[:, :-1]).abs(), 0.0).clamp(max=1)
    return torch.cat([moved[:, :1] if moved.shape[1] else torch.zeros_like(grey), moved], 1)


def centred(frames: Tensor) -> Tensor:
    """Of frames (B, T, C, H, H) the window (B, T, C, H // 2, H // 2) about the centre of light of each; of dark ones that in the middle."""
    size, window = frames.shape[-1], frames.shape[-1] // 2
    centre = centroids(frames.float()).flatten(0, 1).nan_to_num((size - 1) / 2)
    first = (centre - (window - 1) / 2).round().long() + window  # in frames with a border of that width
    wide, along = F.pad(frames.flatten(0, 1), (window,) * 4), torch.arange(window, device=frames.device)
    columns, rows = (first[:, axis, None] + along for axis in (0, 1))
    each = torch.arange(len(wide), device=frames.device)[:, None, None]
    cut = wide.movedim(1, -1)[each, rows[:, :, None], columns[:, None, :]]
    return cut.movedim(-1, 1).view(*frames.shape[:3], window, window)


def shifted(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Each clip (B, T, C, H, W) moved by up to SHIFT of its width to any side, all of its frames alike; what comes in is black."""
    count, size = len(frames), frames.shape[-1]
    reach = round(SHIFT * size)
    by = (uniform((count, 2), generator, frames) * (2 * reach + 1)).long()
    wide = F.pad(frames, (reach,) * 4)
    along = torch.arange(size, device=frames.device)
    rows, columns = (by[:, k, None] + along for k in (0, 1))
    clip = torch.arange(count, device=frames.device)
    moved: Tensor = wide.transpose(1, 3)[clip[:, None, None], rows[:, :, None], :, :, columns[:, None, :]]  # (B, H, W, C, T)
    return moved.permute(0, 4, 3, 1, 2)


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
