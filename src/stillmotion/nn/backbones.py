"""The frame encoders and decoders of sequential autoencoders: three published stacks as plans of the same blocks.

D2: the published stacks of `paper` and `light` normalise over the batch. Here every frame is normalised by itself (groups of channels,
or the whole layer where there are no pixels left): statistics of a batch would carry padding, the other clips, and the share of the batch
that this process has into every frame, and what a layer does would differ between training and use.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from scipy.special import logit
from torch import Tensor, nn

from stillmotion.core.errors import UserError
from stillmotion.core.precision import full_precision
from stillmotion.nn.convolutions import Conv2d, ConvTranspose2d
from stillmotion.nn.encoders import doublings

Backbone = Literal["report", "paper", "light"]
GROUPS = 8
STYLE = 128
"""Hidden numbers between the codes and the scales and shifts of a modulated decoder."""
STYLE_START = 0.1
"""Factor on the last weights of these before training: nearly a plain decoder to begin with."""


@dataclass(frozen=True)
class Plan:
    """A stack for 64 x 64 frames.

    channels: of each convolution on the way in. level: the first of them has stride 1, all others have stride 2. dense: layers after
    the last convolution. features: a last layer of that many numbers, kept in [-1, 1] by a tanh. slope: of LeakyReLU; None for ELU.
    """

    channels: tuple[int, ...]
    kernel: int
    padding: int
    level: bool = False
    dense: tuple[int, ...] = ()
    features: int | None = None
    slope: float | None = 0.2
    normalised: bool = True


PLANS: dict[Backbone, Plan] = {
    "report": Plan((32, 64, 128, 256), kernel=4, padding=0, slope=None, normalised=False),
    "paper": Plan((256, 256, 256, 256), kernel=5, padding=2, level=True, dense=(4096, 2048)),
    "light": Plan((64, 128, 256, 512), kernel=4, padding=1, features=128),
}


class Step(NamedTuple):
    """A convolution on the way in: channels and pixels a side, before and after it."""

    channels: tuple[int, int]
    sides: tuple[int, int]
    stride: int


class BackboneEncoder(nn.Module):
    """Frames (..., C, H, W) in [0, 1] to features (..., features).

    width: factor on channels and dense layers. Frames of other sizes than 64 have one convolution more or fewer for each doubling, at
    the pixels. Raises UserError for sizes that are no power of two from 8 up.
    """

    def __init__(self, frame_shape: tuple[int, ...], backbone: Backbone, width: float = 1.0) -> None:
        super().__init__()
        plan, steps = PLANS[backbone], _steps(PLANS[backbone], frame_shape, width)
        parts: list[nn.Module] = []
        for (a, b), _, stride in steps:
            parts += [Conv2d(a, b, plan.kernel, stride, plan.padding), *_after(plan, b)]
        widths = [steps[-1].channels[1] * steps[-1].sides[1] ** 2, *(_scaled(value, width) for value in plan.dense)]
        parts += [nn.Flatten(), *_layers(plan, widths)]
        self.features = widths[-1]
        if plan.features is not None:
            # D2: nothing is normalised before the tanh, which would else have one spread whatever the frame
            parts += [nn.Linear(self.features, plan.features), nn.Tanh()]
            self.features = plan.features
        self.net = _channels_last(nn.Sequential(*parts))

    def forward(self, frames: Tensor) -> Tensor:
        features: Tensor = self.net(frames.flatten(0, -4).contiguous(memory_format=torch.channels_last))
        return features.view(*frames.shape[:-3], -1)


class BackboneDecoder(nn.Module):
    """Codes (..., inputs) to logits (..., C, H, W): the mirror of BackboneEncoder. The published sigmoid or tanh is left to the pixels.

    modulated: after each normalisation of pixels the codes scale and shift the channels, by two dense layers (FiLM: Perez et al., AAAI
    2018). A dense layer at the bottom alone has to put each pair of a colour and a pose into place by itself. Frames of 8 pixels have no
    layer in between, and are as they were.
    first_pixel: the sigmoid of the last bias before training. Codes of frames on black else learn at first to be dark, all of them, and
    saturate; those of a modulated decoder then never say more.
    Raises UserError for a modulated stack without normalisation, and as BackboneEncoder does.
    """

    def __init__(
        self, inputs: int, frame_shape: tuple[int, ...], backbone: Backbone, width: float = 1.0, modulated: bool = False,
        first_pixel: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        plan, steps = PLANS[backbone], _steps(PLANS[backbone], frame_shape, width)
        if modulated and not plan.normalised:
            raise UserError("a backbone that normalises, for a modulated decoder", repr(backbone), "Choose 'light' or 'paper'.")
        deepest, side = steps[-1].channels[1], steps[-1].sides[1]
        between = [_scaled(value, width) for value in reversed(plan.dense[:-1])]
        parts = [*_layers(plan, [inputs, *between, deepest * side**2]), nn.Unflatten(1, (deepest, side, side))]
        for step in reversed(steps[1:]):
            parts += [_transposed(plan, step), *_after(plan, step.channels[0])]
        pixels = _transposed(plan, steps[0])
        if first_pixel is not None:
            assert pixels.bias is not None
            nn.init.constant_(pixels.bias, float(logit(first_pixel)))
        self.net = _channels_last(nn.Sequential(*parts, pixels))
        self.style: nn.Module | None = None
        scales = sum(step.channels[0] for step in steps[1:])
        if modulated and scales:
            last = nn.Linear(STYLE, 2 * scales)
            with torch.no_grad():
                last.weight *= STYLE_START
                last.bias.zero_()
            self.style = nn.Sequential(nn.Linear(inputs, STYLE), nn.LeakyReLU(0.2), last)

    def forward(self, codes: Tensor) -> Tensor:
        x = flat = codes.flatten(0, -2)
        style = None if self.style is None else self.style(flat)[..., None, None]
        for part in self.net:
            x = part(x)
            if style is not None and isinstance(part, FrameNorm):
                scales, shifts, style = style.tensor_split((x.shape[1], 2 * x.shape[1]), 1)
                x = x * (1 + scales) + shifts
        return x.view(*codes.shape[:-1], *x.shape[1:])


class FrameNorm(nn.GroupNorm):
    """Groups of channels of each frame, always in float32: more exact than the bfloat16 kernel, and faster here."""

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            return super().forward(x.float()).to(x.dtype)


def _steps(plan: Plan, frame_shape: tuple[int, ...], width: float) -> list[Step]:
    colours, size, _ = frame_shape
    count = doublings(size)
    missing = max(0, count - len(plan.channels))
    widths = [_scaled(value, width) for value in plan.channels[:1] * missing + plan.channels[-count:]]
    steps = []
    for k, channels in enumerate(pairwise([colours, *widths])):
        stride = 1 if plan.level and k == 0 else 2
        after = (size + 2 * plan.padding - plan.kernel) // stride + 1
        steps.append(Step(channels, (size, after), stride))
        size = after
    return steps


def _transposed(plan: Plan, step: Step) -> ConvTranspose2d:
    """Back through a step. A row that the way in dropped comes back by a wider kernel; with padding, the kernel already reaches it."""
    (outer, inner), (before, after) = step.channels, step.sides
    lost = before - ((after - 1) * step.stride + plan.kernel - 2 * plan.padding)
    if plan.padding:
        return ConvTranspose2d(inner, outer, plan.kernel, step.stride, plan.padding, output_padding=lost)
    return ConvTranspose2d(inner, outer, plan.kernel + lost, step.stride)


def _layers(plan: Plan, widths: list[int]) -> list[nn.Module]:
    return [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), *_after(plan, b, pixels=False))]


def _after(plan: Plan, width: int, pixels: bool = True) -> list[nn.Module]:
    """What follows a convolution, or a dense layer."""
    bend = nn.ELU() if plan.slope is None else nn.LeakyReLU(plan.slope)
    if not plan.normalised:
        return [bend]
    return [FrameNorm(GROUPS, width) if pixels else nn.LayerNorm(width), bend]


def _channels_last(net: nn.Sequential) -> nn.Sequential:
    """The same net, its weights in the order in which convolutions are fastest here."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def _scaled(value: int, width: float) -> int:
    """The nearest multiple of GROUPS, at least that."""
    return max(GROUPS, GROUPS * round(value * width / GROUPS))
