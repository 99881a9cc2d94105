"""Tables 1 and 2 of the report on DSA, and those that it could not have: swaps, two factors, leaks both ways, models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillmotion.metrics.exhibits import Cell, Table
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.published import Data, every_row, published
from stillmotion.recipes.cells import leaks, number, printed, told, value_of
from stillmotion.recipes.dsa_lab import as_static

SPRITES = Data(name="sprites", version="standard")
STATIC = {"skin": "body", "pants": "bottomwear", "top": "topwear", "hair": "hair"}
MOVING = {"action": "action", "direction": "direction", "action and direction": "action_direction"}
ROWS = STATIC | MOVING
"""What the report calls it -> the factor."""
TOLD = ("", "kl_", "kl_random_")
"""Disagreement, KL and KL-random, as they stand in names of figures."""
ORIGINAL: dict[str, tuple[float, float, float]] = {
    "body": (0.0398, 0.7847, 8.8859), "bottomwear": (0.0182, 0.3565, 8.9293), "topwear": (0.0034, 0.0647, 8.9173),
    "hair": (0.0006, 0.0126, 8.9566), "action_direction": (0.0811, 0.9027, 13.7540),
}  # fmt: skip
"""Of the original paper, second hand: share, KL and KL-random in nats."""
DISAGREEMENT_NOTE = (
    "Skin to hair: f from the clip, path from the prior. Below: path from the clip, f from the prior. Disagreement in per cent, KL in "
    "nats, with 95 % intervals. The report and the paper score action and direction together, as nine classes; a direction stays the same "
    "throughout a clip, so that it may be in f: the last row keeps f and draws the path. KL of different judges cannot be compared: "
    "it says how sure a judge is, and ours is never surer than one in a million."
)
SECOND_HAND = " The numbers of the original paper are second hand; they could not be checked against its text."
STATIC_DIRECTION = "direction, counted to what stays"


def published_share(method: str) -> dict[str, float]:
    """What was published of a method under the same protocols on the same clips, by the names of figures."""
    rows = [row for protocol in ("dsa_report", "two_factor") for row in published(protocol, SPRITES) if row.method == method]
    return {name: value for row in rows for name, value in row.figures.items()}


def disagreement_table(figures: Figures) -> Table:
    """Table 1: disagreement, KL and KL-random of each factor, beside those of the report and of the original paper."""
    words = ("disagreement, %", "KL", "KL-random")
    head = ("", *words, *(f"published, {source}: {word}" for source in ("report", "original paper") for word in words))
    report = _report("DSA")
    rows = [
        (label, *(told(figures, f"disagreement_{kind}{factor}") for kind in TOLD), *_pair(report, factor), *_original(factor))
        for label, factor in ROWS.items()
    ]
    kept = (told(figures, f"disagreement_{kind}{as_static('direction')}") for kind in TOLD)
    rows.append((STATIC_DIRECTION, *kept, *[None] * 6))
    return Table("table_1", "Table 1: disagreement with the real clips", head, tuple(rows), DISAGREEMENT_NOTE + SECOND_HAND)


def beta_table(models: Mapping[str, Figures], length: str) -> Table:
    """Table 2: disagreement and KL at each beta, key of a figure's beta -> figures; beside those of the report at beta = 6."""
    words = ("disagreement, %", "KL")
    head = ("", *(f"{label}: {word}" for label in models for word in words), *(f"published, report, beta 6: {word}" for word in words))
    report = _report("DSA, beta = 6")
    rows = tuple(
        (
            label,
            *(told(figures, f"disagreement_{kind}{factor}") for figures in models.values() for kind in TOLD[:2]),
            *_pair(report, factor)[:2],
        )
        for label, factor in ROWS.items()
    )
    return Table("table_2", "Table 2: beta", head, rows, f"{length} {DISAGREEMENT_NOTE}")


def swap_table(figures: Figures) -> Table:
    """Share of swapped clips that show what they should."""
    asked = [(label, factor) for label, factor in ROWS.items()]
    asked += [("all that stays", "static"), ("all that moves", "dynamic"), ("both", "both"), (STATIC_DIRECTION, as_static("direction"))]
    rows = tuple((label, told(figures, f"swap_{name}_accuracy")) for label, name in asked)
    note = "f of one test clip, path of another; per cent with 95 % intervals. The direction is counted to what moves but in the last row."
    return Table("swaps", "Swaps both ways", ("", "right, %"), rows, note)


def two_factor_table(figures: Figures) -> Table:
    """The two-factor protocol, with what is drawn from the prior and from the aggregate posterior."""
    names = {label: f"two_factor_accuracy_{factor}" for label, factor in ROWS.items()}
    names |= {STATIC_DIRECTION: f"two_factor_accuracy_{as_static('direction')}"}
    names |= {"H(y|x)": "two_factor_conditional_entropy", "H(y)": "two_factor_entropy", "inception score": "two_factor_inception_score"}
    dsvae = published_share("DSVAE")
    rows = tuple(
        (label, told(figures, name), told(figures, f"{name}_aggregate"), printed(dsvae, name)) for label, name in names.items()
    )
    head = ("", "from the prior", "from the aggregate posterior", "published, DSVAE")
    note = (
        "Skin to hair: f kept, path drawn. Action and direction: path kept, f drawn; so are the entropies, which are of action and "
        "direction, nine classes (at best 0, 2.197 and 9). Accuracies in per cent. Published: DSVAE in S3VAE's table, as VDSM prints it."
    )
    return Table("two_factors", "Two factors, one kept and one drawn", head, rows, note)


def leak_table(figures: Figures) -> Table:
    """What probes read off f and off the pooled path, what the judge still sees once a code was drawn anew, and chance."""
    owners = {factor: "static" if label in STATIC else "dynamic" for label, factor in ROWS.items()}
    rows = tuple((label, *leaks(figures, factor, owners[factor], ("static", "dynamic"))) for label, factor in ROWS.items())
    head = ("", "f, means", "f, samples", "path, means", "path, samples", "drawn anew", "chance")
    note = (
        "Accuracy in per cent on test clips of a linear probe / of a small network. f should not know the lower rows, the path not the "
        "upper ones. Drawn anew: what the judge still sees when the code that should tell it is from the prior; this too should be chance."
    )
    return Table("leaks", "Leaks both ways", head, rows, note)


def models_table(models: Mapping[str, Figures], steps: Mapping[str, int]) -> Table:
    """Models side by side: disagreement, swaps, reconstruction, and how much their codes say."""
    columns = {f"{label}, disagreement %": f"disagreement_{factor}" for label, factor in ROWS.items()}
    columns |= {"swap, stays %": "swap_static_accuracy", "swap, moves %": "swap_dynamic_accuracy", "swap, both %": "swap_both_accuracy"}
    columns |= {"PSNR, dB": "psnr_sequence_test", "f says, nats": "kl_static", "path says, nats": "kl_path"}
    rows = tuple(
        (label, f"{steps[label]:,}", *(value_of(figures, name) for name in columns.values()))
        for label, figures in models.items()
    )
    note = "One seed each. Stays, moves: all such factors right at once. Says: the mean divergence of a clip's code from the prior."
    return Table("models", "Posteriors, sizes and beta", ("", "steps", *columns), rows, note)


def _report(method: str) -> dict[str, float]:
    """All that the report prints of it, KL of its own judge too."""
    rows = [row.figures for row in every_row() if row.protocol == "dsa_report" and row.method == method and row.data == SPRITES]
    return {name: value for figures in rows for name, value in figures.items()}


def _pair(numbers: Mapping[str, float], factor: str) -> list[Cell]:
    names = [f"disagreement_{kind}{factor}" for kind in TOLD]
    return [printed(numbers, name) for name in names]


def _original(factor: str) -> list[Cell]:
    numbers: Sequence[float | None] = ORIGINAL.get(factor, (None, None, None))
    return [number(f"disagreement_{kind}{factor}", value) for kind, value in zip(TOLD, numbers, strict=True)]
