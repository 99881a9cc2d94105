"""Figure 4 of the Kalman VAE paper: where in the box each of the K systems is used."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.data.balls import MIDDLE, RADIUS, SQUARE, render
from stillmotion.metrics.exhibits import Cell, Pictures, Table
from stillmotion.models.kvae import KVAE
from stillmotion.tasks.codes import encode

SIDE = 45
"""Places along each side of a map: two for each pixel that the ball's centre can be in."""
NEAR = 4.0
"""Pixels from the end of the ball's room that still count as near to a wall."""
FIRST, LAST = SQUARE[0][0] + RADIUS, SQUARE[2][0] - RADIUS
NOTE = (
    "Of a dynamics network that sees the last code alone: the weight it gives each system in the next frame, for a ball whose centre is at "
    "that place of its room; white is 1. Which system gets which number is chance."
)


def places() -> Tensor:
    """Centres of balls on a grid over the room that they have in the box, (SIDE, SIDE, 2): rows go down, columns to the right."""
    line = torch.linspace(FIRST, LAST, SIDE, dtype=torch.float64)
    down, across = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([across, down], -1)


def weights_by_place(model: KVAE) -> Tensor:
    """The weights (K, SIDE, SIDE) of the systems after a frame that shows the ball at each of `places`.

    Raises UserError for a dynamics network that looks further back than one code.
    """
    if model.config.dynamics != "mlp":
        raise UserError("a dynamics network of the last code, mlp", model.config.dynamics, "Where the ball was before matters to others.")
    codes = encode(model, Clips.of(render(places().view(-1, 1, 2))), poses=True)
    assert codes.path is not None
    with torch.inference_mode():
        _, carry = model.dynamics.step(None, (), len(codes.path))
        weights, _ = model.dynamics.step(codes.path[:, 0], carry, len(codes.path))
    return weights.T.reshape(-1, SIDE, SIDE)


def mode_maps(model: KVAE) -> tuple[Pictures, Table]:
    """A map for each system, and its mean weight in the middle of the box and near the walls."""
    weights = weights_by_place(model)
    frames = (255 * weights).round().to(torch.uint8)[None, :, None, None].numpy()
    labels = tuple(f"system {k + 1}" for k in range(len(weights)))
    maps = Pictures("modes", "Where each system is used", frames, column_labels=labels, note=NOTE, scale=4)
    regions = _regions()
    rows = tuple((label, *_means(own, regions)) for label, own in zip(labels, weights, strict=True))
    note = f"Mean weights. Near: the ball's centre is within {NEAR:g} pixels of where it bounces off that wall and off no other."
    return maps, Table("modes_by_place", "Mean weight of each system", ("", *regions), rows, note)


def _means(weights: Tensor, regions: Mapping[str, Tensor]) -> list[Cell]:
    return [round(float(weights[region].mean()), 3) for region in regions.values()]


def _regions() -> dict[str, Tensor]:
    """Which of `places` are where, (SIDE, SIDE) bool."""
    beside = [(places()[..., axis] - MIDDLE).abs() > (LAST - FIRST) / 2 - NEAR for axis in (0, 1)]
    return {
        "middle": ~beside[0] & ~beside[1], "near left or right": beside[0] & ~beside[1], "near floor or ceiling": ~beside[0] & beside[1],
        "corners": beside[0] & beside[1],
    }  # fmt: skip
