"""A pendulum under random torque (DVBF, Karl et al. 2017, and KVAE table 1): the angle is seen, the velocity is not.

m l^2 a'' = -mu a' + m g l sin(a) + u with the published m = l = 1, mu = 0.5, g = 9.81, and the angle a counted from upright,
clockwise, in radians. Nothing stays but the bob, which is the same in all clips: there is no static factor, and no label. The
controls of frame t are the torque that acts on the way from frame t - 1 into it, constant for that time; those of frame 0 are zero.

Neither paper tells the time between frames, the range of the torques, how clips start or how they are drawn: these are ours.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.data.balls import splits_of
from stillmotion.data.base import ClipSet, Splits
from stillmotion.data.integrate import runge_kutta

MASS, LENGTH, FRICTION, GRAVITY = 1.0, 1.0, 0.5, 9.81
FRAME = 0.1  # seconds
TORQUE = 6.0  # newton metres, either way; to hold the bob out sideways takes 9.81
SPREAD = 2.0  # standard deviation of the first velocity, rad/s
SUBSTEPS = 20  # per frame; the error of 15 frames is then below 1e-6

SIZE = 16
ARM, BOB = 5.0, 1.0  # px: the bob's distance from the middle, and the deviation of the Gaussian that is drawn
BLACK, CONTRAST = 0.1, 0.8  # of frames with noise: the background, and what the bob adds to it, so that noise is not cut off at 0 and 1
STATES = ("angle", "velocity")
MOST_NOISE = 0.03  # a draw beyond BLACK then happens in one of 2,300 pixels


def load(
    *, clips: int = 500, validation: int = 500, test: int = 500, steps: int = 15, noise: float = 0.0, seed: int = 0
) -> Splits:
    """16 x 16, grey: a Gaussian bob; controls (1,), and states (angle, velocity), in radians and seconds, not wrapped.

    noise: standard deviation of a camera's noise in each pixel, of white. Frames are then paler. Without it a frame can be told to the
    last bit, and a likelihood says how sharp a decoder is; with it there is a limit, and what a model knows of the movement counts.

    Starts: any angle, velocity normal with deviation SPREAD. Torque: uniform in -TORQUE to TORQUE, anew for each frame. The three
    splits are independent draws of `steps` frames, the same for the same seed; a smaller split holds the first clips of a larger one.
    Raises UserError for a number below 1, and for noise that is not in 0 to MOST_NOISE.
    """
    if not 0 <= noise <= MOST_NOISE:
        raise UserError(f"noise from 0 to {MOST_NOISE} of white", f"{noise:g}")
    return splits_of("torque", partial(_draw, noise=noise), (clips, validation, test), steps, seed)


def swing(start: Tensor, torque: Tensor) -> Tensor:
    """States (N, T, 2) float64 from starts (N, 2) and torques (N, T); the torque of frame 0 has no effect."""
    states = [start]
    for push in torque.unbind(1)[1:]:
        states.append(_next_frame(states[-1], push))
    return torch.stack(states, 1)


def _next_frame(state: Tensor, torque: Tensor) -> Tensor:
    for _ in range(SUBSTEPS):
        state = runge_kutta(lambda at: slope(at, torque), state, FRAME / SUBSTEPS)
    return state


def slope(state: Tensor, torque: Tensor) -> Tensor:
    """The change per second of states (N, 2) under torques (N,)."""
    angle, velocity = state.unbind(1)
    push = torque - FRICTION * velocity + MASS * GRAVITY * LENGTH * angle.sin()
    return torch.stack([velocity, push / (MASS * LENGTH**2)], 1)


def light(angle: Tensor) -> Tensor:
    """The bob as it is drawn before noise and rounding, (..., 16, 16) from 0 to 1, for angles (...)."""
    return _bob(angle.sin(), angle.cos())


def _bob(sine: Tensor, cosine: Tensor) -> Tensor:
    centres = torch.arange(SIZE).to(sine) + 0.5
    across, down = SIZE / 2 + ARM * sine, SIZE / 2 - ARM * cosine
    column, row = (torch.exp(-((centres - place[..., None]) ** 2) / (2 * BOB**2)) for place in (across, down))
    return row[..., :, None] * column[..., None, :]


def render(angle: Tensor, noise: Tensor | None = None) -> Tensor:
    """Frames (N, T, 1, 16, 16) uint8 of angles (N, T), and of what a camera adds to each pixel, (N, T, 16, 16) of white."""
    bob = _bob(angle.sin().float(), angle.cos().float())
    shown = bob if noise is None else BLACK + CONTRAST * bob + noise
    return (shown * 255).round_().clamp_(0, 255).to(torch.uint8)[:, :, None]


def _draw(clips: int, steps: int, generator: torch.Generator, noise: float = 0.0) -> ClipSet:
    seed = int(torch.randint(2**62, (1,), generator=generator))
    chance = torch.rand(clips, 2, generator=generator, dtype=torch.float64)
    start = torch.stack([math.pi * (2 * chance[:, 0] - 1), SPREAD * torch.special.ndtri(chance[:, 1])], 1)
    torque = _babble(clips, steps, seed)
    states = swing(start, torque)
    controls = torque[:, :, None].float()
    grain = noise * _grain(clips, steps, seed) if noise else None
    return ClipSet.whole(render(states[:, :, 0], grain), {}, {}, controls=controls, states=states, state_names=STATES)


def _grain(clips: int, steps: int, seed: int) -> Tensor:
    """Normal numbers (clips, steps, 16, 16); each frame has a seed of its own, as in `_babble`."""
    frames = []
    for frame in range(steps):
        generator = torch.Generator().manual_seed(seed_of(seed, "grain", frame))
        chance = torch.rand(clips, SIZE, SIZE, generator=generator, dtype=torch.float64)
        frames.append(torch.special.ndtri(chance.clamp(min=1e-12)).float())
    return torch.stack(frames, 1)


def _babble(clips: int, steps: int, seed: int) -> Tensor:
    """Torques (clips, steps) float64, zero at frame 0; each frame has a seed of its own, so that longer clips continue shorter ones."""
    torque = torch.zeros(clips, steps, dtype=torch.float64)
    for frame in range(1, steps):
        generator = torch.Generator().manual_seed(seed_of(seed, frame))
        torque[:, frame] = TORQUE * (2 * torch.rand(clips, generator=generator, dtype=torch.float64) - 1)
    return torque
