"""Models made of the truth, for data whose factors determine every pixel: what a metric must say of them is known beforehand.

    world = World(sprites.compose(folder, (6, 6, 6, 6)))
    model, judge = PerfectSwapper(world), ExactJudge(world)

They know a clip by its pixels, so nothing is trained, and they answer with clips of the same world alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import prod

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.abilities import Generates, Model, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.random import normal
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet
from stillmotion.metrics.judge import Verdicts
from stillmotion.testing.toys import SIZE, toy

SCALE = 0.1
"""Of the posteriors around one-hot codes: the largest entry of a sample is the right one, but for one draw in a million millions."""
SURE = 20.0
"""The logit of the true class; that of all others is its negative."""


class World:
    """Every clip that there can be, one of each: all combinations of the factors that stay with those that move.

    static, moving: the factors that tell the clips apart; those that only join others are left out (the character of Sprites is
    its body, trousers, shirt and hair).
    Raises UserError where a combination is lacking and where two clips with different labels look the same.
    """

    def __init__(self, clips: ClipSet) -> None:
        self.clips = clips
        self.static = _telling(clips, (factor for factor in clips.labels if factor not in clips.moving))
        self.moving = _telling(clips, clips.moving)
        self._row = self._rows_of_combinations()
        self._seen = {_mark(clips.frames[start : start + clips.steps]): row for row, start in enumerate(clips.starts.tolist())}
        if len(self._seen) != len(clips):
            raise UserError("clips that their labels and their pixels tell apart", f"{len(self._seen)} sights of {len(clips)} clips")

    def find(self, clips: Clips) -> Tensor:
        """Which clips these are: rows of the world, (B,) int64. Raises UserError for a clip that is not one of them."""
        frames = (clips.frames.cpu() * 255).round().to(torch.uint8)
        rows = [self._seen.get(_mark(clip), -1) for clip in frames]
        if -1 in rows:
            raise UserError("clips of the known world", f"{rows.count(-1)} of {len(rows)} that are not, pixel by pixel")
        return torch.tensor(rows)

    def code(self, rows: Tensor, factors: tuple[str, ...]) -> Tensor:
        """The classes of these clips as one one-hot block per factor, (B, sum of classes)."""
        labels, classes = self.clips.labels, self.clips.classes
        return torch.cat([F.one_hot(labels[factor][rows], len(classes[factor])).float() for factor in factors], -1)

    def rank(self, code: Tensor, factors: tuple[str, ...]) -> Tensor:
        """Which combination of the factors a code (..., sum of classes) tells of: the largest entry of each block counts."""
        blocks = torch.split(code, self.sizes(factors), -1)
        return self._rank([block.argmax(-1) for block in blocks], factors)

    def show(self, who: Tensor, what: Tensor, when: Tensor) -> Tensor:
        """Frame `when` of each clip of character `who` with movement `what` (ranks; all broadcast to (B, T)), (B, T, C, H, W) in [0, 1]."""
        where = self.clips.starts[self._row[who, what]] + when
        return self.clips.frames[where].float() / 255

    def sizes(self, factors: tuple[str, ...]) -> list[int]:
        """Numbers of classes."""
        return [len(self.clips.classes[factor]) for factor in factors]

    def _rank(self, values: list[Tensor], factors: tuple[str, ...]) -> Tensor:
        rank = torch.zeros_like(values[0])
        for value, size in zip(values, self.sizes(factors), strict=True):
            rank = rank * size + value
        return rank

    def _rows_of_combinations(self) -> Tensor:
        labels = self.clips.labels
        who, what = (self._rank([labels[factor] for factor in factors], factors) for factors in (self.static, self.moving))
        rows = torch.full((prod(self.sizes(self.static)), prod(self.sizes(self.moving))), -1)
        rows[who, what] = torch.arange(len(self.clips))
        if len(self.clips) != rows.numel() or bool((rows < 0).any()):
            got = f"{len(self.clips)} clips, {int((rows < 0).sum())} combinations of {rows.numel()} lacking"
            raise UserError("one clip of each combination of factors", got, "Hand in the whole composed set, not a split of it.")
        return rows


def toy_world(steps: int) -> World:
    """The world of the toy: 4 colours times 2 directions times 8 places to start from."""
    drawn = toy(2000, steps, torch.Generator().manual_seed(0))  # enough for every combination to come up
    lit = drawn.clips().frames[:, 0, :, 0].amax(1) > 0
    start = (lit & ~lit.roll(1, 1)).long().argmax(1)
    colour, direction = drawn.labels["colour"], drawn.labels["direction"]
    rank = (colour * 2 + direction) * SIZE + start
    first = torch.stack([(rank == k).nonzero()[0, 0] for k in range(4 * 2 * SIZE)])
    frames = drawn.frames.view(-1, steps, *drawn.frame_shape)[first]
    labels = {"colour": colour[first], "direction": direction[first], "start": start[first]}
    classes = {**drawn.classes, "start": tuple(map(str, range(SIZE)))}
    return World(ClipSet.whole(frames, labels, classes, moving=("direction", "start")))


class Nothing(BaseModel):
    """The options of a model that has none."""


class Reference(Model, Swaps, Generates):
    """What the three have in common: there is nothing to learn, and new clips are drawn evenly from the world."""

    config_type = Nothing
    schedules = ()

    def __init__(self, world: World, seed: int = 0) -> None:
        super().__init__()
        self.world, self.config, self.frame_shape = world, Nothing(), world.clips.frame_shape
        self.noise = torch.Generator().manual_seed(seed)
        self.idle = nn.Parameter(torch.zeros(()))  # whoever asks a model for its device looks at its parameters

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        return Terms({"nothing": 0 * self.idle})

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return self.codes(self.world.find(clips), clips.frames.shape[1], self.noise, generator)

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        return self.codes(self._any(count, generator), steps, generator, generator)

    def codes(self, rows: Tensor, steps: int, noise: torch.Generator, generator: torch.Generator | None) -> Codes:
        """Codes of clips of the world: one-hot blocks, in the path followed by the place of each frame in the clip."""
        static, dynamic = _sharp(self.world.code(rows, self.world.static)), _sharp(self.world.code(rows, self.world.moving))
        return self._joined(static, dynamic, steps, generator)

    def decode(self, codes: Codes) -> Tensor:
        """The clip that the codes tell of; the largest entry of each block counts, so a sample shows what its mean shows."""
        assert codes.static is not None
        assert codes.path is not None
        what, when = self._path(codes.path, self.world.moving)
        who = self.world.rank(codes.static.cpu(), self.world.static)[:, None]
        return self.world.show(who, what, when).to(codes.path)

    def _joined(self, static: Gaussian, dynamic: Gaussian, steps: int, generator: torch.Generator | None) -> Codes:
        count, length = len(dynamic.mean), self.world.clips.steps
        place = F.one_hot(torch.arange(steps) % length, length).float().expand(count, -1, -1)
        path = _sharp(torch.cat([dynamic.mean[:, None].expand(-1, steps, -1), place], -1))
        mask = torch.ones(count, steps, dtype=torch.bool)
        drawn = [part.sample(generator) for part in (static, dynamic, path)]
        return Codes(drawn[0], drawn[1], drawn[2], mask, static, dynamic, path).to(self.idle.device)

    def _path(self, path: Tensor, factors: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        width = sum(self.world.sizes(factors))
        told, place = torch.split(path.cpu(), [width, path.shape[-1] - width], -1)
        return self.world.rank(told, factors), place.argmax(-1)

    def _any(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.world.clips), (count,), generator=generator, device=generator.device).cpu()


class PerfectSwapper(Reference):
    """All that stays is in the static code and nothing else is; all that moves is in the dynamic code and the path."""

    name = "perfect_swapper"


class IdentityCheat(Reference):
    """The movement's codes tell of everything; the static code is noise that the decoder does not read."""

    name = "identity_cheat"

    def codes(self, rows: Tensor, steps: int, noise: torch.Generator, generator: torch.Generator | None) -> Codes:
        everything = self.world.code(rows, self.world.static + self.world.moving)
        shape = (len(rows), sum(self.world.sizes(self.world.static)))
        return self._joined(_sharp(normal(shape, noise, everything)), _sharp(everything), steps, generator)

    def decode(self, codes: Codes) -> Tensor:
        assert codes.path is not None
        told, when = self._path(codes.path, self.world.static + self.world.moving)
        movements = prod(self.world.sizes(self.world.moving))
        return self.world.show(told // movements, told % movements, when).to(codes.path)


class RandomCoder(Reference):
    """Takes each clip for another one, drawn evenly from the world: its codes have nothing to do with what it sees."""

    name = "random_coder"

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return self.codes(self._any(len(clips), self.noise), clips.frames.shape[1], self.noise, generator)


REFERENCES: dict[str, type[Reference]] = {kind.name: kind for kind in (PerfectSwapper, IdentityCheat, RandomCoder)}


class ExactJudge:
    """A judge that is never wrong: it knows each clip of the world by its pixels. Its features are the one-hot classes."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        return self.world.clips.classes

    def read(self, clips: Clips) -> Verdicts:
        """The truth about a batch. Raises UserError for a clip that is not of the world."""
        rows = self.world.find(clips)
        logits = {factor: SURE * (2 * self.world.code(rows, (factor,)) - 1) for factor in self.world.clips.labels}
        return Verdicts(logits, self.world.code(rows, self.world.static + self.world.moving))


def _telling(clips: ClipSet, factors: Iterable[str]) -> tuple[str, ...]:
    """Of the factors, the smallest first, those without which the classes of the ones before do not tell."""
    kept: list[str] = []
    told = 1
    for factor in sorted(factors, key=lambda factor: len(clips.classes[factor])):
        rows = torch.stack([clips.labels[name] for name in (*kept, factor)], 1)
        count = len(torch.unique(rows, dim=0))
        if count > told:
            kept, told = [*kept, factor], count
    return tuple(kept)


def _sharp(mean: Tensor) -> Gaussian:
    return Gaussian(mean, torch.full_like(mean, SCALE))


def _mark(frames: Tensor) -> bytes:
    return blake2b(frames.contiguous().numpy().tobytes(), digest_size=16).digest()
