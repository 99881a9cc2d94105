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
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.core.random import normal, uniform
from stillmotion.recipes.bias_world import COORDINATES, FRAMES, Posterior, Scales

HIDDEN, LEARNING_RATE, STEPS, PASSES = 8, 0.01, 1000, 1000
PATH = FRAMES * COORDINATES
Parameters = dict[str, Tensor]
Bound = Callable[["Heads"], Tensor]
"""From what encoders say to the mean bound of each world, (E,)."""


class Heads(NamedTuple):
    """Means and logarithms of variances, side by side: of f (E, N, 4) and of the path given f = 0 (E, N, 12); what f adds, (E, 2, 12)."""

    static: Tensor
    path: Tensor
    of_static: Tensor | None


@dataclass(frozen=True)
class Fitted:
    """The bound of each world, (D, G): a mean over its sequences and over Monte-Carlo passes, and its standard error over the passes."""

    elbo: Tensor
    error: Tensor


def fit(
    posterior: Posterior, x: Tensor, worlds: Scales, generator: torch.Generator, steps: int = STEPS, passes: int = PASSES
) -> Fitted:
    """Encoders fitted to D data sets x (D, N, T, 2), for each under G worlds (D, G), in float32.

    Each step takes all sequences. Raises UserError for the exact posterior, which is not fitted.
    """
    if posterior not in LAYERS:
        raise UserError(f"one of {', '.join(LAYERS)}", repr(posterior))
    shape = worlds.f.shape
    flat = Scales(*(value.float().flatten() for value in (worlds.f, worlds.z, worlds.x)))
    x = x.float()[:, None].expand(*shape, *x.shape[1:]).flatten(0, 1)
    bound = partial(_bound, x=x, worlds=flat, data_sets=shape[0], generator=generator)
    parameters = _descend(posterior, bound, begin(posterior, len(x), generator), x, steps)
    elbo, error = evaluate(bound, read(posterior, parameters, x), passes)
    return Fitted(elbo.view(shape), error.view(shape))


def _descend(posterior: Posterior, bound: Bound, parameters: Parameters, x: Tensor, steps: int) -> Parameters:
    """Adam; the mean of the parameters over the last fifth of the steps, because at this constant rate they never come to rest."""
    adam = torch.optim.Adam(list(parameters.values()), LEARNING_RATE)
    last = max(1, steps // 5)
    sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for step in range(steps):
        adam.zero_grad()
        (-bound(read(posterior, parameters, x)).sum()).backward()  # type: ignore[no-untyped-call]
        adam.step()
        if step >= steps - last:
            for name, value in parameters.items():
                sums[name] += value.detach() / last
    return sums


@torch.no_grad()
def evaluate(bound: Bound, heads: Heads, passes: int) -> tuple[Tensor, Tensor]:
    """The bounds (E,) under fixed encoders as means over `passes` draws, and their standard errors."""
    bounds = torch.stack([bound(heads) for _ in range(passes)]).double()
    return bounds.mean(0), bounds.std(0) / math.sqrt(passes)


def _bound(heads: Heads, x: Tensor, worlds: Scales, data_sets: int, generator: torch.Generator) -> Tensor:
    """Mean bound of each world, (E,), from a draw and its mirror image, which leaves hardly any noise in the gradient of the means of q.

    All worlds of a data set see the same noise, so that it lifts their curve as a whole and hardly moves its peak.
    """
    noise = normal((data_sets, 1, x.shape[1], COORDINATES + PATH), generator, x)
    noise = noise.expand(-1, len(x) // data_sets, -1, -1).flatten(0, 1)
    return (one_draw(heads, x, worlds, noise) + one_draw(heads, x, worlds, -noise)) / 2


def begin(posterior: Posterior, count: int, generator: torch.Generator) -> Parameters:
    """Layers of `count` encoders: weights (count, inputs, outputs) and biases, uniform within 1 / sqrt(inputs) as is usual.

    Recurrent networks have 1 / sqrt(units) in all layers.
    """
    made: Parameters = {}
    for name, (inputs, outputs) in LAYERS[posterior].items():
        for part, rows in (("weight", inputs),) if name in WITHOUT_BIAS else (("weight", inputs), ("bias", 1)):
            noise = uniform((count, rows, outputs), generator, torch.empty(0))
            made[f"{name}.{part}"] = ((2 * noise - 1) / math.sqrt(HIDDEN if name == "input" else inputs)).requires_grad_()
    return made


def read(posterior: Posterior, parameters: Parameters, x: Tensor) -> Heads:
    """What the encoders say of sequences (E, N, T, 2)."""
    state = x.new_zeros(*x.shape[:2], HIDDEN)
    for inputs in _linear(parameters, "input", x.flatten(1, 2)).view(*x.shape[:3], -1).unbind(2):
        state = torch.baddbmm(inputs, state, parameters["state.weight"])
    static = _linear(parameters, "static", state)
    if posterior != "dsa":
        return Heads(static, _linear(parameters, "path", state), parameters.get("of_static.weight"))
    frames = _linear(parameters, "path", _linear(parameters, "frame", x.flatten(1, 2)).relu())
    mean, log_variance = frames.view(*x.shape[:3], -1).chunk(2, -1)
    return Heads(static, torch.cat([mean.flatten(2), log_variance.flatten(2)], -1), None)


def one_draw(heads: Heads, x: Tensor, worlds: Scales, noise: Tensor) -> Tensor:
    """The mean bound of each world (E,) from one draw of its latents by noise (E, N, 8); the entropy of q is exact given f."""
    mean, log_variance = heads.static.chunk(2, -1)
    f = mean + (0.5 * log_variance).exp() * noise[..., :COORDINATES]
    path = heads.path if heads.of_static is None else torch.baddbmm(heads.path, f, heads.of_static)
    path_mean, path_log_variance = path.chunk(2, -1)
    z = path_mean + (0.5 * path_log_variance).exp() * noise[..., COORDINATES:]
    log_variances = (log_variance.sum((1, 2)) + path_log_variance.sum((1, 2))) / x.shape[1]
    entropy = 0.5 * (log_variances + (COORDINATES + PATH) * (1 + math.log(2 * math.pi)))
    return log_joint(worlds, f, z.view_as(x), x) + entropy


def log_joint(worlds: Scales, f: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """log p(f, z, x), mean over sequences, (E,), of f (E, N, 2), z and x (E, N, T, 2)."""
    total = x.new_zeros(())
    rest = x - z - f[:, :, None]
    for parts, scale in (((f,), worlds.f), ((z[:, :, 0], z[:, :, 1:] - z[:, :, :-1]), worlds.z), ((rest,), worlds.x)):
        squares = torch.stack([part.square().flatten(1).sum(1) for part in parts]).sum(0) / x.shape[1]
        count = sum(part.shape[2:].numel() for part in parts)
        total = total - 0.5 * squares / scale.square() - count * (scale.log() + 0.5 * math.log(2 * math.pi))
    return total


def _linear(parameters: Parameters, name: str, inputs: Tensor) -> Tensor:
    return torch.baddbmm(parameters[f"{name}.bias"], inputs, parameters[f"{name}.weight"])


_READER = {"input": (COORDINATES, HIDDEN), "state": (HIDDEN, HIDDEN), "static": (HIDDEN, 2 * COORDINATES)}
LAYERS: dict[str, dict[str, tuple[int, int]]] = {
    "dsa": {**_READER, "frame": (COORDINATES, HIDDEN), "path": (HIDDEN, 2 * COORDINATES)},
    "factorised": {**_READER, "path": (HIDDEN, 2 * PATH)},
    "full": {**_READER, "path": (HIDDEN, 2 * PATH), "of_static": (COORDINATES, 2 * PATH)},
}
"""Inputs and outputs of each layer."""
WITHOUT_BIAS = ("state", "of_static")
