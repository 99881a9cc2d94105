"""A ball that bounces in a box, in a box with gravity, or in a polygon (the KVAE paper's worlds), with exact collisions.

Nothing stays but the ball itself, which is the same in all clips: these sets have no static factor. What moves is a state of four
numbers, and it is known. Places are in pixels from the upper left corner, x to the right and y down, the centre of the first pixel
being (0.5, 0.5); velocities are in pixels per frame. Walls are not drawn.

The released generator (github.com/simonkamronn/kvae) steps a physics engine five times per unit of time and draws with a game
library. Its distributions are kept and its units turned into frames; contacts are exact here, and its y axis, which points up, is
turned over. A pixel is lit where its centre is within DRAWN of the ball's: 33 of them, about as many as the library draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.collisions import Walls, path, room

SIZE = 32
RADIUS = 3.0
DRAWN = 3.25
STATES = ("x", "y", "vx", "vy")
DIRECTIONS = ("left and up", "right and up", "left and down", "right and down")
CLASSES = {"direction": DIRECTIONS}

SQUARE = ((2.0, 2.0), (30.0, 2.0), (30.0, 30.0), (2.0, 30.0))
HEXAGON = ((3.0, 31.0), (1.0, 17.0), (8.0, 2.0), (25.0, 2.0), (30.0, 24.0), (15.0, 31.0))
MIDDLE = SIZE / 2
MARGIN = 1.0  # px between a starting ball and the walls
CLEAR = (6.0, 26.0)  # where balls start, in each direction
CHUNK = 2048  # frames drawn at once

Draw = Callable[[int, int, torch.Generator], ClipSet]


class Throw(NamedTuple):
    """How balls start: around the middle with deviation `spread` (px), at a uniform speed (px/frame), in any direction."""

    spread: float
    slowest: float
    fastest: float


def box(*, clips: int = 5000, validation: int = 500, test: int = 1000, steps: int = 20, seed: int = 0) -> Splits:
    """A ball that bounces in a square box: straight flights, 2 to 3 pixels per frame, 32 x 32, black and white.

    The three splits are independent draws of `steps` frames, the same for the same seed; a smaller split holds the first clips of a
    larger one, and shorter clips are the beginnings of longer ones. Label: direction, the quadrant that the ball sets out to. States
    (x, y, vx, vy), see the module. Raises UserError for a number below 1.
    """
    return _in_room("box", Throw(10, 2, 3), room(SQUARE, RADIUS), (clips, validation, test), steps, seed)


def gravity(*, clips: int = 5000, validation: int = 500, test: int = 1000, steps: int = 20, seed: int = 0) -> Splits:
    """A ball that bounces in a square box under gravity: 0.2 pixels per squared frame, thrown at 1 to 2 pixels per frame.

    As `box` in everything else.
    """
    return _in_room("gravity", Throw(8, 1, 2), room(SQUARE, RADIUS, (0.0, 0.2)), (clips, validation, test), steps, seed)


def polygon(*, clips: int = 5000, validation: int = 500, test: int = 1000, steps: int = 20, seed: int = 0) -> Splits:
    """A ball that bounces in an uneven hexagon: straight flights, 2 to 3 pixels per frame.

    As `box` in everything else.
    """
    return _in_room("polygon", Throw(2.5, 2, 3), room(HEXAGON, RADIUS), (clips, validation, test), steps, seed)


def splits_of(name: str, draw: Draw, counts: tuple[int, int, int], steps: int, seed: int) -> Splits:
    """Three sets of `draw(clips, steps, generator)`, each from a generator of its own. Raises UserError for a number below 1."""
    if min(*counts, steps) < 1:
        raise UserError("at least 1 clip of 1 frame in each split", f"{counts} clips of {steps} frames")
    generators = (torch.Generator().manual_seed(seed_of(seed, name, split)) for split in Splits._fields)
    return Splits(*(draw(count, steps, generator) for count, generator in zip(counts, generators, strict=True)))


def thrown(clips: int, throw: Throw, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random places and velocities (clips, 2) float64."""
    # Normal numbers by the inverse of their distribution, a row for each clip: torch draws its own ones in blocks, and then the
    # first clips of a large set would not be those of a small one.
    chance = torch.rand(clips, 4, generator=generator, dtype=torch.float64)
    place = (MIDDLE + throw.spread * torch.special.ndtri(chance[:, :2])).clamp(*CLEAR)
    speed = throw.slowest + (throw.fastest - throw.slowest) * chance[:, 2]
    heading = 2 * math.pi * chance[:, 3]
    return place, speed[:, None] * torch.stack([heading.cos(), heading.sin()], 1)


def pulled_in(place: Tensor, walls: Walls) -> Tensor:
    """Places (N, 2), moved straight towards the middle where they are not MARGIN inside of all walls."""
    middle = torch.full((2,), MIDDLE, dtype=place.dtype)
    room_there, room_here = walls.depth(middle) - MARGIN, walls.depth(place) - MARGIN
    share = torch.where(room_here < 0, room_there / (room_there - room_here), 1.0).amin(1, keepdim=True)
    return middle + share * (place - middle)


def direction(velocity: Tensor) -> Tensor:
    """Index in DIRECTIONS (N,) int64 of velocities (N, 2)."""
    return (velocity > 0).long() @ torch.tensor([1, 2])


def render(place: Tensor) -> Tensor:
    """Frames (N, T, 1, 32, 32) uint8, 0 and 255, of balls at places (N, T, 2)."""
    flat, centres = place.flatten(0, 1).float(), torch.arange(SIZE) + 0.5
    frames = torch.empty(len(flat), 1, SIZE, SIZE, dtype=torch.uint8)
    for start in range(0, len(flat), CHUNK):
        part = slice(start, start + CHUNK)
        across, down = ((centres - flat[part, axis, None]).square_() for axis in (0, 1))
        frames[part, 0] = (across[:, None, :] + down[:, :, None] <= DRAWN**2).to(torch.uint8).mul_(255)
    return frames.view(*place.shape[:2], 1, SIZE, SIZE)


def _in_room(name: str, throw: Throw, walls: Walls, counts: tuple[int, int, int], steps: int, seed: int) -> Splits:
    def draw(clips: int, steps: int, generator: torch.Generator) -> ClipSet:
        place, velocity = thrown(clips, throw, generator)
        states = path(pulled_in(place, walls), velocity, walls, steps)
        frames, labels = render(states[:, :, :2]), {"direction": direction(velocity)}
        return ClipSet.whole(frames, labels, CLASSES, moving=("direction",), states=states, state_names=STATES)

    return splits_of(name, draw, counts, steps, seed)
