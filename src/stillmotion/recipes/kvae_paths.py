"""Figure 3c of the Kalman VAE paper: the way of the ball through a gap, as it was, smoothed, filtered and rolled on."""

from __future__ import annotations

import torch
from torch import Tensor

from stillmotion.core.abilities import Decodes, Imputes, Model, Predicts, require
from stillmotion.core.clips import Clips
from stillmotion.data.base import ClipSet
from stillmotion.metrics.exhibits import Curves, Line, Pictures
from stillmotion.recipes.imputation import SEEN_FIRST, middle_gap
from stillmotion.recipes.kvae_overlays import beginning
from stillmotion.recipes.kvae_references import black

SEEN_LAST = 4
DARK = 2.0
"""Pixels' worth of light below which a frame shows no ball."""
LABELS = ("true", "smoothed", "filtered", "rolled on")
NOTE = (
    "The ball's centre, read off as the centre of light of the decoded frames; frames that show no ball are left out. The first and the "
    "last four frames are seen: smoothing knows both, filtering at each frame the earlier ones, and rolling on the first four alone."
)


def centres(frames: Tensor) -> Tensor:
    """The centre of light (B, T, 2), x and y in pixels from the upper left corner, of frames (B, T, 1, H, W); NaN of dark ones."""
    light = frames[:, :, 0]
    across, down = (torch.arange(size, device=frames.device) + 0.5 for size in (light.shape[-1], light.shape[-2]))
    total = light.sum((-2, -1))
    total = torch.where(total < DARK, torch.nan, total)
    return torch.stack([(light.sum(-2) * across).sum(-1) / total, (light.sum(-1) * down).sum(-1) / total], -1)


@torch.inference_mode()
def through_the_gap(model: Model, clips: Clips) -> tuple[Tensor, Tensor, Tensor]:
    """Frames as smoothed, as filtered and as rolled on; the first and last four of each clip are seen."""
    count, steps = clips.mask.shape
    hidden = middle_gap(count, steps, max(0, steps - SEEN_FIRST - SEEN_LAST))
    partial, able = Clips(clips.frames, ~hidden, clips.controls), require(model, Imputes)
    rolled = require(model, Decodes).decode(require(model, Predicts).predict(beginning(model, clips), steps))
    return able.impute(partial).float(), able.impute(partial, past_only=True).float(), rolled.float()


def trajectories(model: Model, clips: ClipSet, count: int = 4) -> tuple[Curves, ...]:
    """The ball's ways in the first clips, each in a drawing of its own; states of the clips begin with x and y."""
    shown = clips.clips(slice(count))
    ways = [clips.truth(slice(count))[..., :2], *(centres(frames) for frames in through_the_gap(model, shown))]
    return tuple(
        Curves(
            f"path_{k}", f"Test clip {k}", "pixels from the left", "pixels from below",
            tuple(_line(label, way[k], shown.frames.shape[-2]) for label, way in zip(LABELS, ways, strict=True) if _seen(way[k])),
            note=NOTE,
        )
        for k in range(len(shown))
    )  # fmt: skip


def _line(label: str, way: Tensor, height: int) -> Line:
    there = way[way.isfinite().all(-1)]
    return Line(label, tuple(there[:, 0].tolist()), tuple((height - there[:, 1]).tolist()))


def _seen(way: Tensor) -> bool:
    return bool(way.isfinite().all(-1).any())


def gap_in_motion(model: Model, clips: ClipSet, count: int = 6) -> Pictures:
    """The same gap as an animation."""
    shown = clips.clips(slice(count))
    steps = shown.mask.shape[1]
    seen = black(Clips(shown.frames, ~middle_gap(len(shown), steps, max(0, steps - SEEN_FIRST - SEEN_LAST))))
    rows = torch.stack([shown.frames, seen, *through_the_gap(model, shown)])
    frames = (255 * rows).round().to(torch.uint8).numpy()
    labels = ("true", "seen", *LABELS[1:])
    return Pictures("gap", "A gap is filled in", frames, row_labels=labels, note="The first test clips, in their order.", scale=3)
