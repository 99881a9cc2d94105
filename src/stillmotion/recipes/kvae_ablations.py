"""Two comparisons of Kalman VAEs with one another: frames that training never saw, and what chooses between the linear systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from stillmotion.metrics.exhibits import Curves, Exhibit, Table
from stillmotion.metrics.figure import Figure
from stillmotion.recipes.kvae_curves import Filler, Measured, curves, errors_table, measure

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4)
DYNAMICS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}), "mlp": ("last code", {"dynamics": "mlp"}), "window": ("last five codes", {"dynamics": "window"}),
    "linear": ("one linear system", {"modes": 1}),
}  # fmt: skip
"""Key -> label and options. The first is the default."""
MISSING_NOTE = (
    "Wrong pixels of hidden test frames in per cent, with 95 % intervals over test clips; one seed. p50: each frame after the fourth "
    "hidden with probability 0.5; n9: a gap of nine. The paper says that losses are minor up to 40 %; its table could not be had."
)
DYNAMICS_NOTE = "Smoothing; one seed of each. Bands: 95 % over test clips."


def missing_table(measured: Mapping[float, Measured]) -> tuple[Table, dict[str, Figure]]:
    """Share of missing training frames -> errors, as a table; figures `imputation_missing_40_smooth_n9`."""
    columns = [(way, point) for way in ("smooth", "filter") for point in ("p50", "n9") if point in measured[SHARES[0]][way]]
    figures = {
        f"imputation_missing_{round(100 * share)}_{way}_{point}": each[way][point].figure
        for share, each in measured.items() for way, point in columns
    }  # fmt: skip
    rows = tuple(
        (f"{share:.1f}", *(_percent(each[way][point].figure) for way, point in columns)) for share, each in measured.items()
    )
    words = {"smooth": "smoothing", "filter": "filtering"}
    head = ("each missing in training with probability", *(f"{words[way]}, {point}" for way, point in columns))
    return Table("missing_training", "Training with missing frames", head, rows, MISSING_NOTE), figures


def comparison(fillers: Sequence[Filler], hidden: Mapping[str, Tensor]) -> tuple[list[Exhibit], dict[str, Figure]]:
    """Curves and numbers of the dynamics networks; figures `imputation_dynamics_mlp_n9`."""
    measured = measure(fillers, hidden)
    drawn = [
        Curves(f"dynamics_{each.name}", f"Dynamics networks. {each.title}", each.x_label, each.y_label, each.lines, note=DYNAMICS_NOTE)
        for each in curves("box", fillers, measured)
    ]
    told = errors_table("box", fillers, measured)
    table = Table("dynamics_errors", "Dynamics networks in numbers", told.head, told.rows, f"{told.note} {DYNAMICS_NOTE}")
    figures = {
        f"imputation_dynamics_{key}_{name}": point.figure for key, points in measured.items() for name, point in points.items()
    }
    return [*drawn, table], figures


def _percent(figure: Figure) -> str:
    return f"{100 * figure.value:.2f} ({100 * figure.low:.2f} to {100 * figure.high:.2f})"
