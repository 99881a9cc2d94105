"""The best posterior of a family found by gradient descent, as the report does it, for many worlds and data sets at once.

Each world has an encoder of its own: every parameter has a first axis of worlds, layers are batched products, and as Adam works entry
by entry the sum of all bounds trains each as if it were alone. Encoders: a linear recurrent network of 8 units reads the whole
sequence, its last state gives q(f | x); for dsa a layer of 8 ReLU units reads each x_t and gives q(z_t | x_t). The two families that the
report does not fit have q(z_t | x) off the recurrent network's last state too, for `full` with a linear map of f.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.core.random import normal, uniform
from stillmotion.recipes.bias_world import COORDINATES, FRAMES, Posterior, Scales

HIDDEN, LEARNING_RATE, STEPS, PASSES = 8, 0.01, 1000, 1000
PATH = FRAMES * COORDINATES
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Fitted:
    """The bound of each world, (E,): a mean over its sequences and over Monte-Carlo passes, and its standard error over the passes."""

    elbo: Tensor
    error: Tensor


def fit(
    posterior: Posterior, x: Tensor, worlds: Scales, generator: torch.Generator, steps: int = STEPS, passes: int = PASSES
) -> Fitted:
    """Encoders fitted to x (E, N, T, 2), one for each of the worlds (E,), in float32.

    Each step takes all sequences and one draw of the latents. Raises UserError for the exact posterior, which is not fitted.
    """
    if posterior not in LAYERS:
        raise UserError(f"one of {', '.join(LAYERS)}", repr(posterior))
    x, worlds = x.float(), Scales(worlds.f.float(), worlds.z.float(), worlds.x.float())
    parameters = begin(posterior, len(x), generator)
    adam = torch.optim.Adam(list(parameters.values()), LEARNING_RATE)
    for _ in range(steps):
        bound = one_draw(posterior, parameters, read(parameters, x), x, worlds, generator)
        adam.zero_grad()
        (-bound.mean(1).sum()).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return evaluate(posterior, parameters, x, worlds, generator, passes)


@torch.no_grad()
def evaluate(
    posterior: Posterior, parameters: Parameters, x: Tensor, worlds: Scales, generator: torch.Generator, passes: int
) -> Fitted:
    """The bound under fixed encoders, from `passes` draws of the latents of all sequences."""
    features = read(parameters, x)
    bounds = torch.stack([one_draw(posterior, parameters, features, x, worlds, generator).mean(1) for _ in range(passes)]).double()
    return Fitted(bounds.mean(0), bounds.std(0) / math.sqrt(passes))


def begin(posterior: Posterior, count: int, generator: torch.Generator) -> Parameters:
    """Layers of `count` encoders: weights (count, inputs, outputs) and biases, uniform within 1 / sqrt(inputs) as is usual."""
    made: Parameters = {}
    for name, (inputs, outputs) in LAYERS[posterior].items():
        for part, rows in (("weight", inputs), ("bias", 1)):
            noise = uniform((count, rows, outputs), generator, torch.empty(0))
            made[f"{name}.{part}"] = ((2 * noise - 1) / math.sqrt(inputs)).requires_grad_()
    return made


def read(parameters: Parameters, x: Tensor) -> Tensor:
    """Last states of the recurrent network, (E, N, 8)."""
    state = x.new_zeros(*x.shape[:2], HIDDEN)
    for frame in x.unbind(2):
        state = _linear(parameters, "state", torch.cat([frame, state], -1))
    return state


def one_draw(
    posterior: Posterior, parameters: Parameters, features: Tensor, x: Tensor, worlds: Scales, generator: torch.Generator
) -> Tensor:
    """The bound of each sequence (E, N) from one draw of its latents; the entropy of q is exact given the draw of f."""
    mean, log_variance = _linear(parameters, "static", features).chunk(2, -1)
    noise = normal((*x.shape[:2], COORDINATES + PATH), generator, x)
    f = mean + (0.5 * log_variance).exp() * noise[..., :COORDINATES]
    path_mean, path_log_variance = PATHS[posterior](parameters, features, f, x).chunk(2, -1)
    z = path_mean + (0.5 * path_log_variance).exp() * noise[..., COORDINATES:].view_as(path_mean)
    entropies = 0.5 * (log_variance.sum(-1) + path_log_variance.flatten(2).sum(-1) + (COORDINATES + PATH) * (1 + math.log(2 * math.pi)))
    return log_joint(worlds, f, z.reshape_as(x), x) + entropies


def log_joint(worlds: Scales, f: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """log p(f, z, x), (E, N), of f (E, N, 2), z and x (E, N, T, 2)."""
    steps = torch.cat([z[:, :, :1], z[:, :, 1:] - z[:, :, :-1]], 2)
    total = x.new_zeros(())
    for apart, scale in ((f, worlds.f), (steps, worlds.z), (x - z - f[:, :, None], worlds.x)):
        squares, count = apart.square().flatten(2), apart.shape[2:].numel()
        total = total - 0.5 * squares.sum(-1) / scale.square()[:, None] - count * (scale.log() + 0.5 * math.log(2 * math.pi))[:, None]
    return total


def _linear(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    return torch.baddbmm(parameters[f"{name}.bias"], inputs, parameters[f"{name}.weight"])


def _each_frame(parameters: Parameters, features: Tensor, f: Tensor, x: Tensor) -> Tensor:
    hidden = _linear(parameters, "frame", x.flatten(1, 2)).relu()
    return _linear(parameters, "path", hidden).view(*x.shape[:3], 2 * COORDINATES)


def _all_frames(parameters: Parameters, features: Tensor, f: Tensor, x: Tensor) -> Tensor:
    return _linear(parameters, "path", features)


def _all_frames_and_f(parameters: Parameters, features: Tensor, f: Tensor, x: Tensor) -> Tensor:
    return _linear(parameters, "path", torch.cat([features, f], -1))


_READER = {"state": (COORDINATES + HIDDEN, HIDDEN), "static": (HIDDEN, 2 * COORDINATES)}
LAYERS: dict[str, dict[str, tuple[int, int]]] = {
    "dsa": {**_READER, "frame": (COORDINATES, HIDDEN), "path": (HIDDEN, 2 * COORDINATES)},
    "factorised": {**_READER, "path": (HIDDEN, 2 * PATH)},
    "full": {**_READER, "path": (HIDDEN + COORDINATES, 2 * PATH)},
}
"""Inputs and outputs of each layer."""

PATHS: dict[str, Callable[[Parameters, Tensor, Tensor, Tensor], Tensor]] = {
    "dsa": _each_frame, "factorised": _all_frames, "full": _all_frames_and_f,
}  # fmt: skip
"""Means and logarithms of the variances of the path from (parameters, features, f, x)."""
