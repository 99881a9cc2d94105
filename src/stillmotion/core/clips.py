"""A batch of clips: frames, what is there of them, and (for metrics only) their factor labels.

Axes, everywhere: B clips, T frames, C H W image. Pixels are floats in [0, 1] inside models and uint8 at rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stillmotion.core.errors import UserError


@dataclass(frozen=True)
class Clips:
    """Clips of one frame size, padded to one length.

    frames: (B, T, C, H, W), or (B, T, D) for sequences that are not video; float in [0, 1].
    mask: (B, T) bool, true where a frame is there. Finite values behind a false entry never change a result.
    controls: (B, T, U) or None.
    labels: factor name -> (B,) int64, -1 where unknown. For metrics only: no training code reads them.
    joined: how many clips, of T / joined frames each, stand one after another in each of these: groups that a training feed made.
    """

    frames: Tensor
    mask: Tensor
    controls: Tensor | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    joined: int = 1

    def __post_init__(self) -> None:
        got = f"shape {tuple(self.frames.shape)}"
        if self.frames.ndim not in (3, 5):
            raise UserError("frames of shape (B, T, C, H, W) or (B, T, D)", got, _axis_hint(self.frames))
        if self.frames.ndim == 5 and self.frames.shape[2] not in (1, 3):
            raise UserError("1 or 3 channels on the third axis (B, T, C, H, W)", got, _axis_hint(self.frames))
        size = tuple(self.frames.shape[:2])
        if self.mask.dtype != torch.bool:
            raise UserError("a boolean mask (B, T)", f"dtype {self.mask.dtype}", "Convert it with mask.bool().")
        if tuple(self.mask.shape) != size:
            remedy = "One entry for each frame of each clip."
            if tuple(self.mask.shape) == size[::-1]:
                remedy = "The batch looks transposed, (T, B): clips come first; use frames.transpose(0, 1)."
            raise UserError(f"a mask of shape (B, T) = {size}", f"shape {tuple(self.mask.shape)}", remedy)
        if self.joined < 1 or size[1] % self.joined:
            raise UserError("joined clips of equally many frames", f"{size[1]} frames of {self.joined} clips")

    @classmethod
    def of(cls, frames: Tensor, mask: Tensor | None = None, labels: Mapping[str, Tensor] | None = None) -> Clips:
        """Clips from a user's tensor, checked value by value.

        frames: uint8 (scaled here to [0, 1]) or float in [0, 1]; (T, C, H, W) is taken as one clip.
        Raises UserError for a wrong shape or dtype, for pixels outside [0, 1], for values that are not finite and for a clip
        without a single frame. Frames that the mask lacks may hold anything; they are blanked.
        """
        if frames.ndim == 4:
            frames = frames[None]
        if frames.dtype == torch.uint8:
            frames = frames.float() / 255
        elif not frames.is_floating_point():
            raise UserError("uint8 or floating-point frames", f"dtype {frames.dtype}", "Convert them with frames.to(torch.uint8).")
        frames = frames.float()
        if mask is None:
            mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        clips = cls(frames, mask, labels=labels or {})
        if not mask.any(1).all():
            empty = (~mask.any(1)).nonzero()[0].item()
            raise UserError("at least one frame in every clip", f"no frame in clip {empty}", "Leave such clips out.")
        there = frames[mask]
        if there.numel() and not (there.isfinite().all() and there.min() >= 0 and there.max() <= 1):
            got = f"values from {there.min().item():g} to {there.max().item():g}"
            remedy = "Divide 8-bit frames by 255, or pass them as uint8."
            raise UserError("pixels in [0, 1]", got, remedy if there.isfinite().all() else "Mask frames that are not numbers.")
        if mask.all():
            return clips
        return replace(clips, frames=frames.masked_fill(~mask.view(*mask.shape, *[1] * (frames.ndim - 2)), 0))

    def __len__(self) -> int:
        return self.frames.shape[0]

    @property
    def lengths(self) -> Tensor:
        """Number of frames that are there, (B,) int64."""
        return self.mask.sum(1)

    def to(self, device: torch.device | str) -> Clips:
        """The same clips on another device."""
        labels = {name: value.to(device) for name, value in self.labels.items()}
        controls = None if self.controls is None else self.controls.to(device)
        return Clips(self.frames.to(device), self.mask.to(device), controls, labels, self.joined)

    def __getitem__(self, index: Tensor | slice) -> Clips:
        labels = {name: value[index] for name, value in self.labels.items()}
        controls = None if self.controls is None else self.controls[index]
        return replace(self, frames=self.frames[index], mask=self.mask[index], controls=controls, labels=labels)


def _axis_hint(frames: Tensor) -> str:
    if frames.ndim == 5 and frames.shape[-1] in (1, 3):
        return "The channels come last; use frames.permute(0, 1, 4, 2, 3)."
    return "Clips come first, then frames, then channels."
