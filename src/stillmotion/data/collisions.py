"""Balls that fly and bounce, exactly: from contact to contact, each found in closed form, never by small steps.

Lengths are in pixels and times in frames. A ball is followed by its centre, so walls and obstacles are drawn in, or grown, by its
radius. All balls of a batch advance together; those that have no contact left wait for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillmotion.core.errors import UserError

MOST = 1000  # contacts in one flight; only a ball that is wedged in, or rests on a wall, has more

# From places and velocities (N, 2): the wait until the next contact (N,), infinite where there is none, and the unit normal (N, 2).
Contact = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Walls:
    """A convex room: the places p at which normals @ p >= offsets.

    normals: (W, 2) float64, unit, into the room. offsets: (W,) float64. pull: (2,) float64, acceleration in px/frame^2.
    """

    normals: Tensor
    offsets: Tensor
    pull: Tensor

    def depth(self, place: Tensor) -> Tensor:
        """How far places (..., 2) lie inside of each wall, (..., W)."""
        return self.into(place) - self.offsets

    def into(self, vectors: Tensor) -> Tensor:
        """How far vectors (..., 2) reach into the room, (..., W). No product of matrices: its last digits depend on how many there are."""
        return vectors[..., :1] * self.normals[:, 0] + vectors[..., 1:] * self.normals[:, 1]

    def contact(self, place: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """A `Contact`: the first wall that each ball flies through."""
        wait = _fall(self.depth(place).clamp_min(0), self.into(velocity), self.into(self.pull))
        first, wall = wait.min(1)
        return first, self.normals[wall]


def room(corners: Sequence[tuple[float, float]], radius: float, pull: tuple[float, float] = (0.0, 0.0)) -> Walls:
    """Where the centre of a ball of `radius` can be in a convex polygon. Raises UserError for a polygon that is not convex."""
    corner = torch.tensor(corners, dtype=torch.float64)
    edge = corner.roll(-1, 0) - corner
    following = edge.roll(-1, 0)
    turn = edge[:, 0] * following[:, 1] - edge[:, 1] * following[:, 0]
    if len(corners) < 3 or not ((turn > 0).all() or (turn < 0).all()):
        raise UserError("the corners of a convex polygon, in order", f"{list(corners)}")
    normals = turn.sign()[:, None] * torch.stack([-edge[:, 1], edge[:, 0]], 1) / edge.norm(dim=1, keepdim=True)
    return Walls(normals, (normals * corner).sum(1) + radius, torch.tensor(pull, dtype=torch.float64))


def _fall(depth: Tensor, speed: Tensor, pull: Tensor) -> Tensor:
    """The wait until depth + speed t + pull t^2 / 2 falls through zero, for depths from zero on; infinite where it never does.

    A ball that has just bounced is at depth zero and rises: the root at zero is not the one that is meant, and rounding cannot bring
    it back, as only roots at which the depth falls are looked for.
    """
    square = speed**2 - 2 * pull * depth
    root = square.clamp_min(0).sqrt()
    falling = torch.where(square >= 0, 2 * depth / (root - speed), math.inf)
    rising = torch.where(pull < 0, (speed + root) / -pull, math.inf)
    return torch.where(speed < 0, falling, rising)


def circle_contact(place: Tensor, velocity: Tensor, centre: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Wait and normal of balls that fly straight, (N, 2), against circles from outside, centres (N, 2), grown by the ball's radius."""
    apart = place - centre
    approach = -(apart * velocity).sum(1)
    gap = (apart.square().sum(1) - radius**2).clamp_min(0)
    square = approach**2 - velocity.square().sum(1) * gap
    touches = (approach > 0) & (square >= 0)
    wait = torch.where(touches, gap / (approach + square.clamp_min(0).sqrt()), math.inf)
    normal = apart + velocity * wait.where(touches, 0)[:, None]
    return wait, normal / normal.norm(dim=1, keepdim=True)


def earliest(*contacts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Of several contacts of the same balls the one that comes first."""
    waits, normals = (torch.stack(part) for part in zip(*contacts, strict=True))
    first, which = waits.min(0)
    return first, normals[which, torch.arange(waits.shape[1])]


def reflect(velocity: Tensor, normal: Tensor, bounce: float = 1.0) -> Tensor:
    """Velocities (N, 2) after contacts; the part along the normal is turned round, and scaled by `bounce`."""
    return velocity - (1 + bounce) * (velocity * normal).sum(1, keepdim=True) * normal


def fly(
    place: Tensor, velocity: Tensor, contact: Contact, *, pull: Tensor | None = None, bounce: float = 1.0, frames: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Places and velocities (N, 2) float64 after so many frames of free flight and bounces.

    Raises UserError for a ball that has no end of contacts.
    """
    left = torch.full(place.shape[:1], frames, dtype=place.dtype)
    force = torch.zeros(2, dtype=place.dtype) if pull is None else pull
    for _ in range(MOST):
        wait, normal = contact(place, velocity)
        touching = wait <= left
        step = torch.minimum(wait, left)[:, None]
        place = place + velocity * step + force / 2 * step**2
        velocity = velocity + force * step
        velocity = torch.where(touching[:, None], reflect(velocity, normal, bounce), velocity)
        left = left - step[:, 0]
        if not touching.any():
            return place, velocity
    raise UserError(f"balls with fewer than {MOST} contacts", f"one at {place[touching][0].tolist()}", "Start it clear of the walls.")


def path(place: Tensor, velocity: Tensor, walls: Walls, steps: int) -> Tensor:
    """States (N, steps, 4), places and velocities at frames 0 to steps - 1, of balls in a room."""
    states = [torch.cat([place, velocity], 1)]
    for _ in range(steps - 1):
        place, velocity = fly(place, velocity, walls.contact, pull=walls.pull)
        states.append(torch.cat([place, velocity], 1))
    return torch.stack(states, 1)
