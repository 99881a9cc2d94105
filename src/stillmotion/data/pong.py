"""Pong (the KVAE paper's fourth world): a ball between floor and roof and two paddles that follow it.

Nothing stays but the ball and the paddles, which are the same in all clips: there is no static factor. States, and how they are
counted, are those of the ball worlds, and the heights of the two paddles' middles.

Rules, after the released generator: in each frame a paddle whose middle is more than a pixel above or below the ball moves two pixels
towards it, as far as the frame reaches, and then stands still until the next frame; a ball that it misses leaves the picture and
nobody scores. Contacts with paddles (rounded at their ends), floor and roof are exact and all lose the same share of speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillmotion.data import balls
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.collisions import Walls, circle_contact, earliest, fly

STATES = (*balls.STATES, "left paddle", "right paddle")
PADDLES = (0.0, 30.0)  # x of the two; the outer half of the left one is outside of the picture
HALF, THICK = 3.0, 1.0  # a paddle is a line of twice HALF, thickened by THICK on all sides
FLOOR, ROOF = 31.0, 0.0
SPEED = 2.0
BOUNCE = 0.9 * 0.99  # of the ball times of what it meets, as the engine multiplies them
THROW = balls.Throw(3, 2, 2)


def load(*, clips: int = 5000, validation: int = 500, test: int = 1000, steps: int = 20, seed: int = 0) -> Splits:
    """32 x 32, black and white; the ball sets out at 2 pixels per frame in any direction, the paddles from the middle.

    The three splits are independent draws of `steps` frames, the same for the same seed; a smaller split holds the first clips of a
    larger one, and shorter clips are the beginnings of longer ones. Label: direction, the quadrant that the ball sets out to. States
    (x, y, vx, vy, left paddle, right paddle). Raises UserError for a number below 1.
    """
    return balls.splits_of("pong", _draw, (clips, validation, test), steps, seed)


def play(place: Tensor, velocity: Tensor, steps: int) -> Tensor:
    """States (N, steps, 6) of games that begin with balls at places with velocities (N, 2), float64."""
    paddles = torch.full_like(place, balls.MIDDLE)
    states = [torch.cat([place, velocity, paddles], 1)]
    for _ in range(steps - 1):
        paddles = follow(paddles, place[:, 1:])
        place, velocity = fly(place, velocity, Table(paddles).contact, bounce=BOUNCE)
        states.append(torch.cat([place, velocity, paddles], 1))
    return torch.stack(states, 1)


def follow(paddles: Tensor, ball: Tensor) -> Tensor:
    """Heights (N, 2) of the paddles' middles one frame later, with the ball at heights (N, 1)."""
    away = ball - paddles
    moved = paddles + SPEED * away.sign() * (away.abs() > SPEED / 2)
    return moved.clamp(HALF, balls.SIZE - HALF)


@dataclass(frozen=True)
class Table:
    """What a ball can meet during one frame: floor, roof, and paddles at heights (N, 2)."""

    paddles: Tensor

    def contact(self, place: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """A `Contact`, see `fly`."""
        sides = (self._paddle(side, place, velocity) for side in range(2))
        return earliest(_floor_and_roof(place.dtype).contact(place, velocity), *sides)

    def _paddle(self, side: int, place: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        across, height = PADDLES[side], self.paddles[:, side]
        ends = (torch.stack([torch.full_like(height, across), height + end], 1) for end in (-HALF, HALF))
        return earliest(self._face(side, place, velocity), *(circle_contact(place, velocity, e, THICK + balls.RADIUS) for e in ends))

    def _face(self, side: int, place: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        inward = 1.0 - 2.0 * side
        ahead = inward * (place[:, 0] - PADDLES[side])
        wait = (ahead - THICK - balls.RADIUS).clamp_min(0) / -(inward * velocity[:, 0])
        meets = (place[:, 1] + velocity[:, 1] * wait - self.paddles[:, side]).abs() <= HALF
        there = meets & (ahead > 0) & (inward * velocity[:, 0] < 0)
        normal = torch.tensor([inward, 0], dtype=place.dtype).expand_as(place)
        return wait.where(there, torch.inf), normal


def render(states: Tensor) -> Tensor:
    """Frames (N, T, 1, 32, 32) uint8, 0 and 255, of states (N, T, 6)."""
    frames = balls.render(states[:, :, :2])
    centres = torch.arange(balls.SIZE) + 0.5
    for side, across in enumerate(PADDLES):
        near = (centres - across).abs() <= THICK
        beyond = ((centres - states[:, :, 4 + side, None].float()).abs() - HALF).clamp_min(0)
        columns = torch.hypot(beyond[..., None], centres[near] - across) <= THICK
        frames[:, :, 0, :, near] |= columns.to(torch.uint8) * 255
    return frames


def _floor_and_roof(dtype: torch.dtype) -> Walls:
    normals = torch.tensor([[0, 1], [0, -1]], dtype=dtype)
    offsets = torch.tensor([ROOF + balls.RADIUS, balls.RADIUS - FLOOR], dtype=dtype)
    return Walls(normals, offsets, torch.zeros(2, dtype=dtype))


def _draw(clips: int, steps: int, generator: torch.Generator) -> ClipSet:
    place, velocity = balls.thrown(clips, THROW, generator)
    states = play(place, velocity, steps)
    labels = {"direction": balls.direction(velocity)}
    return ClipSet.whole(render(states), labels, balls.CLASSES, moving=("direction",), states=states, state_names=STATES)
