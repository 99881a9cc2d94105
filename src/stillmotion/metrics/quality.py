"""How near decoded frames are to the real ones."""

from __future__ import annotations

from torch import Tensor


def psnr(frames: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB, (B,), over the frames that are there; peak 1, so frames in [0, 1]."""
    error = (frames - target).square().flatten(2).mean(2)
    per_clip = (error * mask).sum(1) / mask.sum(1)
    return -10 * per_clip.clamp(min=1e-10).log10()
