"""The smallest deep Markov model, for tests, and one that is linear and Gaussian, so that its likelihood is known."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from stillmotion.core.clips import Clips
from stillmotion.models.dmm import DMM, DMMConfig
from stillmotion.nn.gated import SMALLEST_SCALE, GatedTransition
from stillmotion.ssm.systems import System

SMALL: dict[str, Any] = {"size": 8, "state": 3, "width": 4, "rnn_size": 6, "transition_hidden": 5, "flow_hidden": 8}
PER_UNIT = 1e-3
"""Of brightness: a pixel shows 0.5 + x / 1000, so that a sigmoid never cuts it."""
DRIFT, MOVES, GAIN, BLUR = 0.05, 10.0, 0.5, 20.0


def small_dmm(seed: int = 0, **changes: Any) -> DMM:
    """Frames of 8 x 8, in evaluation mode; its states move and tell, so that nothing is true by accident."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DMM(DMMConfig.model_validate(SMALL | changes))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if not value.any():
                    value.normal_(std=0.3)
                if name.startswith(("rnn", "mean", "before", "decoder", "transition")):
                    value *= 1.5
            for flow in model.flows:
                flow.second.weight.normal_(std=0.5)  # type: ignore[union-attr, operator]
    return model.eval()


def some_clips(mask: list[str], controls: int = 0, seed: int = 0) -> Clips:
    """Clips of black and white noise, one for each row; `#` stands for a frame that is there."""
    there, g = torch.tensor([[sign == "#" for sign in row] for row in mask]), torch.Generator().manual_seed(seed)
    frames = (torch.rand(*there.shape, 1, 8, 8, generator=g) > 0.5).float()
    return Clips(frames, there, torch.randn(*there.shape, controls, generator=g) if controls else None)


class Show(nn.Module):
    """Logits of single pixels whose means are 0.5 + 0.5 z / 1000."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.logit(0.5 + GAIN * PER_UNIT * z)[..., None, None]


class Look(nn.Module):
    """Of a single pixel, what it shows, in tens."""

    features = 1

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.flatten(2) - 0.5) / PER_UNIT / 10


class LinearDMM(DMM):
    """z_1 ~ N(0, 1), z' ~ N(z + 0.05, 10), x ~ N(0.5 z, 20): the linear check of Krishnan's code. Variances, not deviations."""

    def __init__(self, **changes: Any) -> None:
        blur = math.sqrt(BLUR) * PER_UNIT
        common = {"size": 1, "network": "dense", "width": 1, "state": 1, "likelihood": "gaussian", "pixel_scale": blur}
        super().__init__(DMMConfig.model_validate(common | changes))
        self.encoder, self.decoder = Look(), Show()  # type: ignore[assignment]
        assert isinstance(self.transition, GatedTransition)
        with torch.no_grad():
            self.transition.gate[2].bias.fill_(-60)
            self.transition.linear.bias.fill_(DRIFT)
            self.transition.scale.weight.zero_()
            self.transition.scale.bias.fill_(math.log(math.expm1(math.sqrt(MOVES) - SMALLEST_SCALE)))


class ExactDMM(LinearDMM):
    """Its posterior is the true one: a backward information filter tells, of each state, what this and all later frames say."""

    def _evidence(self, features: Tensor, seen: Tensor, controls: Tensor) -> Tensor:
        precision = pull = torch.zeros(len(features))
        said = []
        for x, there in zip((10 * features[..., 0]).flip(1).unbind(1), seen.flip(1).unbind(1), strict=True):
            through = 1 + MOVES * precision
            precision, pull = precision / through, (pull - precision * DRIFT) / through
            precision, pull = precision + there * GAIN**2 / BLUR, pull + there * GAIN * x / BLUR
            said.append(torch.stack([precision, pull], 1))
        return torch.stack(said[::-1], 1)

    def _posterior(self, z: Tensor | None, evidence: Tensor) -> Any:
        p = self._prior(z, evidence[:, :0])
        precision = p.scale**-2 + evidence[:, :1]
        return type(p)((p.mean * p.scale**-2 + evidence[:, 1:]) / precision, precision**-0.5)


def linear_system() -> System:
    """The same for the Kalman filter, in pixels."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return System(
        A=one, C=GAIN * PER_UNIT * one, Q=MOVES * one, R=BLUR * PER_UNIT**2 * one, mean=torch.zeros(1, dtype=torch.float64), covariance=one,
        b=torch.full((1,), DRIFT, dtype=torch.float64), d=torch.full((1,), 0.5, dtype=torch.float64),
    )  # fmt: skip


def linear_clips(count: int, steps: int, seed: int = 0) -> Clips:
    """Draws of that system, as clips of single pixels."""
    g = torch.Generator().manual_seed(seed)
    moves = math.sqrt(MOVES) * torch.randn(count, steps, generator=g) + DRIFT
    moves[:, 0] = torch.randn(count, generator=g)
    x = GAIN * moves.cumsum(1) + math.sqrt(BLUR) * torch.randn(count, steps, generator=g)
    return Clips((0.5 + PER_UNIT * x)[..., None, None, None], torch.ones(count, steps, dtype=torch.bool))
