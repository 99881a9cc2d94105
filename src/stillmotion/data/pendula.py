"""Coloured pendula (the VDSM paper's toy): seven colours, two speeds, true physics, and readers that see pixels alone.

What stays is the colour; what moves is the swing, slow or fast. Clips are computed, nothing is downloaded. Time is counted in
frames and angles in radians from straight down, positive to the right. The paper says how many colours and speeds there are, and
its own generator is not released: the choice of amplitudes, speeds, hues and the drawing are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ellipk
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data.base import ClipSet, Splits

COLOURS = ("red", "yellow", "green", "turquoise", "blue", "violet", "pink")
SPEEDS = ("slow", "fast")
CLASSES = {"colour": COLOURS, "speed": SPEEDS}

SMALL_PERIODS = (14.0, 7.0)  # frames per swing of small amplitude; half the period is four times the g/l
AMPLITUDES = (0.3, 1.2)
SUBSTEPS = 32  # Runge-Kutta steps per frame; at 32 the energy drifts by less than 1e-7 over 60 frames

# Lengths are fractions of the frame side; a bob at the largest amplitude stays inside.
PIVOT = (0.5, 12 / 64)
LENGTH = 28 / 64
RADIUS = 5 / 64
ROD = 0.75 / 64
ROD_GREY = 0.35
SMALLEST = 16
CHUNK = 1024  # frames drawn at once: some tens of MB of floats

# Less colour than this (of 1) in a frame is noise, and a swing of less than this (radians) stands still.
LEAST_CHROMA = 0.03
LEAST_SWING = 0.03

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Swings:
    """The truth behind N clips of T frames.

    colour, speed: (N,) int64. amplitude: (N,) float64, radians. frequency: (N,) float64, cycles per frame.
    angle: (N, T) float64, radians.
    """

    colour: Tensor
    speed: Tensor
    amplitude: Tensor
    frequency: Tensor
    angle: Tensor


@dataclass(frozen=True)
class Fit:
    """The sinusoid that fits B paths best; NaN where a path has too few frames or stands still.

    frequency: (B,), cycles per frame. amplitude: (B,), radians.
    """

    frequency: Tensor
    amplitude: Tensor


def load(*, clips: int = 1400, validation: int = 280, test: int = 560, steps: int = 16, size: int = 64, seed: int = 0) -> Splits:
    """Three independent random draws, each balanced over the 14 colours and speeds; the same for the same seed.

    clips, validation, test: clips in each split, of `steps` frames of `size` x `size` RGB.
    Raises UserError for a number below 1, or a size too small to draw on.
    """
    # A stream of its own: a set made with the same number as seed shares no clip with these.
    generator = torch.Generator().manual_seed((seed + 0x9E3779B9) % 2**32)
    return Splits(*(make(count, steps=steps, size=size, generator=generator) for count in (clips, validation, test)))


def make(clips: int, *, steps: int, size: int = 64, generator: torch.Generator) -> ClipSet:
    """A set of `clips` pendula of any length; `draw` with a generator in the same state tells the truth behind them."""
    swings = draw(clips, steps=steps, generator=generator)
    return ClipSet.whole(render(swings, size), {"colour": swings.colour, "speed": swings.speed}, CLASSES, moving=("speed",))


def draw(clips: int, *, steps: int, generator: torch.Generator) -> Swings:
    """Random swings: colours and speeds balanced, amplitude uniform in AMPLITUDES, started anywhere on the swing.

    The random numbers do not depend on `steps`: a longer draw continues a shorter one.
    """
    if clips < 1 or steps < 1:
        raise UserError("at least 1 clip of at least 1 frame", f"{clips} clips of {steps} frames")
    kind = torch.randperm(clips, generator=generator) % (len(COLOURS) * len(SPEEDS))
    colour, speed = kind % len(COLOURS), kind // len(COLOURS)
    chance = torch.rand(2, clips, generator=generator, dtype=torch.float64)
    low, high = AMPLITUDES
    amplitude = low + (high - low) * chance[0]
    frequency = true_frequency(speed, amplitude)
    angle = swing(amplitude, speed, start=chance[1] / frequency, steps=steps)
    return Swings(colour, speed, amplitude, frequency, angle)


# Physics


def true_frequency(speed: Tensor, amplitude: Tensor) -> Tensor:
    """Cycles per frame of the exact pendulum, float64: its period is 4 sqrt(l/g) K(sin^2(amplitude / 2))."""
    lengthening = 2 / math.pi * ellipk(np.sin(amplitude.double().numpy() / 2) ** 2)
    return 1 / (torch.tensor(SMALL_PERIODS, dtype=torch.float64)[speed] * torch.from_numpy(np.asarray(lengthening)))


def swing(amplitude: Tensor, speed: Tensor, *, start: Tensor, steps: int) -> Tensor:
    """Angles (N, steps) of theta'' = -(g/l) sin(theta), released at rest from `amplitude` at `start` frames before the first."""
    pull = gravity(speed).numpy()
    state = np.stack([amplitude.double().numpy(), np.zeros(len(pull))])
    lead = math.ceil(max(SMALL_PERIODS)) * SUBSTEPS
    for _ in range(lead):
        state = _runge_kutta(state, pull, start.double().numpy() / lead)
    path = [state[0]]
    for _ in range(steps - 1):
        for _ in range(SUBSTEPS):
            state = _runge_kutta(state, pull, 1 / SUBSTEPS)
        path.append(state[0])
    return torch.from_numpy(np.stack(path, 1))


def gravity(speed: Tensor) -> Tensor:
    """g/l per squared frame, float64."""
    return (2 * math.pi / torch.tensor(SMALL_PERIODS, dtype=torch.float64)[speed]) ** 2


def _runge_kutta(state: Doubles, pull: Doubles, step: Doubles | float) -> Doubles:
    """One classical step of fourth order; state is (2, N), angle and angular velocity."""

    def slope(at: Doubles) -> Doubles:
        return np.stack([at[1], -pull * np.sin(at[0])])

    first = slope(state)
    second = slope(state + step / 2 * first)
    third = slope(state + step / 2 * second)
    fourth = slope(state + step * third)
    advanced: Doubles = state + step / 6 * (first + 2 * second + 2 * third + fourth)
    return advanced


# Drawing


def palette() -> Tensor:
    """(7, 3) fully saturated colours, evenly apart on the hue circle, so that no two are easier to confuse than others."""
    hue = torch.arange(len(COLOURS)) / len(COLOURS) * 6
    return ((hue[:, None] + torch.tensor([0.0, 4.0, 2.0])) % 6 - 3).abs().sub(1).clamp(0, 1)


def render(swings: Swings, size: int = 64) -> Tensor:
    """Frames (N, T, 3, size, size) uint8: a bob on a thin grey rod, before black, with smooth edges."""
    if size < SMALLEST:
        raise UserError(f"a size of at least {SMALLEST} pixels", str(size), "The bob would be less than a pixel wide.")
    steps = swings.angle.shape[1]
    angle, colour = swings.angle.flatten().float(), palette()[swings.colour].repeat_interleave(steps, 0)
    frames = torch.empty(len(angle), 3, size, size, dtype=torch.uint8)
    for start in range(0, len(angle), CHUNK):
        part = slice(start, start + CHUNK)
        frames[part] = _paint(angle[part], colour[part], size)
    return frames.view(-1, steps, 3, size, size)


def _paint(angle: Tensor, colour: Tensor, size: int) -> Tensor:
    """Frames (F, 3, size, size) of angles (F,) and colours (F, 3), by the distance of each pixel to the outlines."""
    across, down = _from_pivot(size)
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    along, aside = across * sine + down * cosine, (across * cosine - down * sine).abs_()
    beyond = along - along.clamp(0, LENGTH * size)
    rod = _cover(torch.hypot(aside, beyond), ROD * size)
    bob = _cover(torch.hypot(aside, along - LENGTH * size), RADIUS * size)
    grey = rod.mul_(ROD_GREY).mul_(1 - bob)
    return torch.addcmul(grey[:, None], bob[:, None], colour[:, :, None, None]).mul_(255).round_().byte()


def _cover(distance: Tensor, radius: float) -> Tensor:
    """How much of a pixel lies within `radius`: a ramp one pixel wide across the outline."""
    return (radius + 0.5 - distance).clamp_(0, 1)


def _from_pivot(size: int) -> tuple[Tensor, Tensor]:
    """Pixel centres relative to the pivot, in pixels: to the right (1, size) and down (size, 1)."""
    centres = torch.arange(size) + 0.5
    return (centres - PIVOT[0] * size)[None], (centres - PIVOT[1] * size)[:, None]


# Readers: from the pixels alone, and meant for the blurred and dimmed frames that models make


def read_colour(frames: Tensor) -> Tensor:
    """Index in COLOURS (B,) int64 of frames (B, T, 3, H, W) in [0, 1] by hue; -1 for clips without colour."""
    _check(frames)
    chroma = _chroma(frames)
    weight = chroma / chroma.flatten(1).sum(1).clamp_min(1e-12)[:, None, None, None]  # faint pixels count little
    tint = _opponent(torch.einsum("bthw,btchw->bc", weight, frames))
    likeness = tint @ torch.nn.functional.normalize(_opponent(palette().to(frames)), dim=-1).T
    return likeness.argmax(1).where(chroma.flatten(1).amax(1) >= LEAST_CHROMA, -1)


def read_angle(frames: Tensor) -> Tensor:
    """Angles (B, T) of the bob's centre of colour about the pivot; NaN for frames without colour."""
    _check(frames)
    chroma = _chroma(frames)
    peak = chroma.amax((-2, -1), keepdim=True)
    weight = (chroma - 0.3 * peak).clamp_min_(0)  # leaves out the haze of a blurred background
    across, down = (axis.to(frames) for axis in _from_pivot(frames.shape[-1]))
    angle = torch.atan2((weight * across).sum((-2, -1)), (weight * down).sum((-2, -1)))
    return angle.where(peak[..., 0, 0] >= LEAST_CHROMA, torch.nan)


def read_frequency(frames: Tensor) -> Tensor:
    """Cycles per frame (B,); NaN for clips that show fewer than five bobs or no swing."""
    return fit(read_angle(frames)).frequency


def read_speed(frames: Tensor) -> Tensor:
    """Index in SPEEDS (B,) int64: the nearer true frequency at the amplitude seen, by ratio; -1 where none can be read."""
    seen = fit(read_angle(frames))
    amplitude = seen.amplitude.nan_to_num(0).clamp(0, math.pi / 2).cpu()
    true = torch.stack([true_frequency(torch.full(amplitude.shape, speed), amplitude) for speed in range(len(SPEEDS))], 1)
    apart = (seen.frequency[:, None].log() - true.to(seen.frequency).log()).abs()
    return apart.nan_to_num(0).argmin(1).where(seen.frequency.isfinite(), -1)


def fit(angle: Tensor) -> Fit:
    """The least-squares sinusoid with offset through paths (B, T), over the frames that are not NaN.

    Frequencies between half a cycle per path and 0.4 per frame are tried on a grid, then refined around the best.
    """
    there = angle.isfinite().double()
    path = angle.double().nan_to_num(0)
    count = there.sum(1)
    explained = _explained(path, there)
    grid = torch.logspace(math.log10(0.5 / angle.shape[1]), math.log10(0.4), 160, dtype=torch.float64, device=angle.device)
    best = _best(explained, grid.expand(len(path), -1))
    around = torch.linspace(-1, 1, 21, dtype=torch.float64, device=angle.device) * (grid[1] / grid[0] - 1)
    for finer in (1, 0.1):
        best = _best(explained, best[:, None] * (1 + finer * around))
    amplitude = explained(best)[1]
    readable = (count >= 5) & (amplitude >= LEAST_SWING)
    return Fit(best.where(readable, torch.nan), amplitude.where(readable, torch.nan))


def _explained(path: Tensor, there: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Of a frequency per path (B,): the squares that the best sinusoid explains, and its amplitude."""
    time = torch.arange(path.shape[1], dtype=path.dtype, device=path.device)
    ridge = 1e-9 * torch.eye(3, dtype=path.dtype, device=path.device)

    def at(frequency: Tensor) -> tuple[Tensor, Tensor]:
        turn = 2 * math.pi * frequency[:, None] * time
        waves = torch.stack([turn.sin(), turn.cos(), torch.ones_like(turn)], 2) * there[:, :, None]
        aim = torch.einsum("bti,bt->bi", waves, path)
        weights = torch.linalg.solve(waves.mT @ waves + ridge, aim)
        return (weights * aim).sum(1), weights[:, :2].norm(dim=1)

    return at


def _best(explained: Callable[[Tensor], tuple[Tensor, Tensor]], frequencies: Tensor) -> Tensor:
    """Of the frequencies (B, F) the one (B,) that explains most."""
    gains = torch.stack([explained(column)[0] for column in frequencies.unbind(1)], 1)
    return frequencies.gather(1, gains.argmax(1, keepdim=True))[:, 0]


def _check(frames: Tensor) -> None:
    if frames.ndim != 5 or frames.shape[2] != 3 or not frames.is_floating_point():
        got = f"{frames.dtype} of shape {tuple(frames.shape)}"
        raise UserError("float RGB frames (B, T, 3, H, W)", got, "Take them from ClipSet.clips().frames or from decode().")


def _chroma(frames: Tensor) -> Tensor:
    """Colourfulness (B, T, H, W): zero for black, white and the grey rod."""
    return frames.amax(2) - frames.amin(2)


def _opponent(colour: Tensor) -> Tensor:
    """The hue plane (..., 2) of colours (..., 3), in which greys are zero and the palette's angles are its hues."""
    red, green, blue = colour.unbind(-1)
    return torch.stack([red - (green + blue) / 2, math.sqrt(3) / 2 * (green - blue)], -1)
