"""How near decoded frames are to the real ones. One batch of clips at a time: the figure is the mean over all clips."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.metrics.figure import finite

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
THRESHOLD = 0.5


def psnr(frames: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB, (B,), over the frames that are there; peak 1, so frames in [0, 1].

    Raises UserError for frames of another shape, for a clip without frames, and for frames that are not numbers.
    """
    _check(frames, target, mask, "there")
    error = (frames - target).square().flatten(2).mean(2).masked_fill(~mask, 0)
    per_clip = error.sum(1) / mask.sum(1)
    return finite(-10 * per_clip.clamp(min=1e-10).log10(), "frames")


def ssim(frames: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity of each clip, (B,), at most 1: the mean over the frames that are there, channels and places.

    frames, target: (B, T, C, H, W) in [0, 1]; mask: (B, T). Wang et al. 2004: a Gaussian window of 11 x 11 pixels with standard
    deviation 1.5, K1 = 0.01, K2 = 0.03, at every place where the whole window lies inside the frame, each channel by itself;
    libraries that mirror the frame at its border find other values. Raises UserError for frames smaller than the window, of another
    shape or that are not numbers, and for a clip without frames.
    """
    _check(frames, target, mask, "there")
    if min(frames.shape[-2:]) < WINDOW:
        got = f"{frames.shape[-2]} x {frames.shape[-1]}"
        raise UserError(f"frames of at least {WINDOW} x {WINDOW} pixels for SSIM", got, "Use PSNR for smaller ones.")
    there = mask[:, :, None, None, None]
    each = _similarity(frames.where(there, 0), target.where(there, 0))
    return finite((each * mask).sum(1) / mask.sum(1), "frames")


def wrong_pixels(frames: Tensor, target: Tensor, missing: Tensor) -> Tensor:
    """Imputation error of each clip, (B,): the share of pixels on the wrong side of 0.5, over the frames that were missing.

    frames: imputed ones, (B, T, C, H, W); target: the true ones; missing: (B, T) bool, true where the model had to fill in. Each
    channel of a pixel counts by itself. As in the Kalman VAE's figure 3. Raises UserError for frames of another shape or that are
    not numbers, and for a clip of which none is missing.
    """
    _check(frames, target, missing, "missing")
    # a comparison with NaN is false and would pass for a black pixel
    finite((frames + target).flatten(2).sum(2).masked_fill(~missing, 0).sum(1), "imputed and true frames")
    wrong = ((frames > THRESHOLD) != (target > THRESHOLD)).flatten(2).double().mean(2)
    found: Tensor = (wrong * missing).sum(1) / missing.sum(1)
    return found


def _check(frames: Tensor, target: Tensor, mask: Tensor, word: str) -> None:
    if frames.shape != target.shape or frames.shape[:2] != mask.shape:
        got = f"{tuple(frames.shape)}, {tuple(target.shape)} and a mask {tuple(mask.shape)}"
        raise UserError("decoded and real frames of one shape (B, T, C, H, W), and a mask (B, T)", got)
    if not bool(mask.any(1).all()):
        empty = int((~mask.any(1)).nonzero()[0])
        raise UserError(f"at least one frame that is {word} in every clip", f"none in clip {empty}", "Leave such clips out.")


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """Wang et al. 2004, equation 13, averaged over the channels and places of each frame: (B, T, C, H, W) twice to (B, T)."""
    mean_x, mean_y, square_x, square_y, product = (_blur(planes) for planes in (x, y, x * x, y * y, x * y))
    variances = square_x - mean_x**2 + square_y - mean_y**2
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * (product - mean_x * mean_y) + C2) / (variances + C2)
    return (luminance * structure).flatten(2).mean(2)


def _blur(planes: Tensor) -> Tensor:
    """Weighted means under the window, (..., H, W) to (..., H - 10, W - 10): along rows and columns, each by one matrix."""
    along_rows, along_columns = (_window(planes.shape[axis], planes) for axis in (-1, -2))
    found: Tensor = along_columns.T @ (planes @ along_rows)
    return found


def _window(size: int, like: Tensor) -> Tensor:
    """(size, size - 10): column k holds the weights of the window that begins at pixel k."""
    offsets = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    places = torch.arange(size - WINDOW + 1, device=like.device)
    matrix = like.new_zeros(size, len(places))
    matrix[places + torch.arange(WINDOW, device=like.device)[:, None], places] = (weights / weights.sum())[:, None]
    return matrix
