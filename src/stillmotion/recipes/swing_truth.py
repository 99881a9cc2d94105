"""How likely clips of the pushed pendulum are under the very world that made them: what no model's bound can pass, on average."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet
from stillmotion.data.torque import BLACK, CONTRAST, SPREAD, light, swing

ROUNDS = 3
"""Of Gauss and Newton's method, from the true start."""
SHIFT = 1e-4
"""Of the start either way, in radians and radians per second, for slopes as central differences."""


def true_log_likelihood(clips: ClipSet, noise: float) -> Tensor:
    """log p(x | u) of each clip in nats, (N,) float64, of a pendulum that starts and is drawn as in `data.torque`.

    All that is unknown is the start, two numbers: they are integrated out by Laplace's method, which is exact as far as frames are
    linear in the start over its posterior, a few thousandths of a radian. Rounding to 255 steps counts as noise of its own.
    Raises UserError for no noise, with which the density has no limit, and for clips without controls or without a grey background.
    """
    if noise <= 0:
        raise UserError("clips with noise", "noise of 0", "Load the pendulum with noise=0.01, say.")
    all_clips = clips.clips()
    if all_clips.controls is None:
        raise UserError("clips with the torques as controls", "clips without", "Load them with data.torque.")
    frames, torque = all_clips.frames[:, :, 0].double(), all_clips.controls[..., 0].double()
    if abs(float(frames.median()) - BLACK) > 0.02:
        raise UserError(f"clips with a background of {BLACK}", f"a median of {float(frames.median()):.2f}", "Load them with this noise.")
    variance = noise**2 + 1 / 255**2 / 12
    start = clips.truth()[:, 0].double()
    for _ in range(ROUNDS):
        left, slopes = _around(start, torque, frames)
        start = start + torch.linalg.solve(_precision(slopes, variance), _pull(start, left, slopes, variance))
    left, slopes = _around(start, torque, frames)
    pixels = -0.5 * (left.square() / variance + math.log(2 * math.pi * variance)).sum(-1)
    prior = -math.log(2 * math.pi) - 0.5 * ((start[:, 1] / SPREAD).square() + math.log(2 * math.pi * SPREAD**2))
    room = math.log(2 * math.pi) - 0.5 * torch.logdet(_precision(slopes, variance))
    return pixels + prior + room


def _around(start: Tensor, torque: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """What the frames of starts (N, 2) leave over of the clips, (N, P), and how they change with the start, (N, P, 2)."""
    shifts = SHIFT * torch.eye(2, dtype=start.dtype)
    starts = torch.cat([start, *(start + way for way in shifts), *(start - way for way in shifts)])
    here, *moved = (BLACK + CONTRAST * light(swing(starts, torque.repeat(5, 1))[..., 0])).flatten(1).chunk(5)
    slopes = [(up - down) / (2 * SHIFT) for up, down in zip(moved[:2], moved[2:], strict=True)]
    return frames.flatten(1) - here, torch.stack(slopes, -1)


def _precision(slopes: Tensor, variance: float) -> Tensor:
    """Of the start given the clip, (N, 2, 2): what the pixels tell, and the prior of the velocity."""
    prior = torch.diag(torch.tensor([0.0, SPREAD**-2], dtype=slopes.dtype))
    precision: Tensor = slopes.mT @ slopes / variance + prior
    return precision


def _pull(start: Tensor, left: Tensor, slopes: Tensor, variance: float) -> Tensor:
    prior = torch.stack([torch.zeros_like(start[:, 1]), start[:, 1] / SPREAD**2], -1)
    pull: Tensor = (slopes.mT @ left[..., None])[..., 0] / variance - prior
    return pull
