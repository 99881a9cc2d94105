"""Tables 1, 2 and 3 of the VDSM paper, one protocol each, and those that it could not have: leaks of samples, swaps, two factors."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

from stillmotion.metrics.exhibits import Cell, Table
from stillmotion.metrics.figure import Figures
from stillmotion.metrics.published import Data, Row, every_row, published
from stillmotion.recipes.cells import leaks, number, printed, told
from stillmotion.recipes.vdsm_lab import FIVE, FIVE_MEAN


class Factors(NamedTuple):
    """The rows of the tables, what a row is called -> the factor.

    mean, named: the figure of the mean consistency, over the factors `averaged`, and what it is called. action: what the paper's action
    is. what: which clips the paper's values are of. kept, moved, ends: words of the note on two factors.
    """

    static: Mapping[str, str]
    moving: Mapping[str, str]
    mean: str
    named: str
    averaged: tuple[str, ...]
    action: str
    what: str
    kept: str
    moved: str
    ends: str

    @property
    def rows(self) -> Mapping[str, str]:
        """Those that stay, then those that move."""
        return {**self.static, **self.moving}


SPRITES = Factors(
    {"body": "body", "shirt": "topwear", "pants": "bottomwear", "hair": "hair"},
    {"action": "action", "action and direction": "action_direction", "direction": "direction"},
    FIVE_MEAN, "mean of the five attributes of the paper", FIVE, "The paper's action has three classes.",
    " Which 1,120 characters they are of was not released.", "Body to hair", "Action and direction",
    "of action and direction, nine classes (at best 0, 2.197 and 9)",
)  # fmt: skip
FACES = Factors(
    {"identity": "identity"}, {"expression": "action"}, "consistency_mean", "mean of identity and expression", ("identity", "action"),
    "The expressions are six.", "", "Identity", "Expression", "of the expression, six classes (at best 0, 1.792 and 6)",
)  # fmt: skip
CODES = ("static", "dynamic", "path")
CONSISTENT, POOLED = "consistency_{}", "consistency_pooled_judge_{}"
EMBEDDINGS = {"accuracy from s": "embedding_static_{}", "accuracy from d": "embedding_dynamic_{}"}
TABLE_1_NOTE = (
    "Per cent, of test characters. Consistency: the judge says the same of a clip and of its reconstruction; nothing is swapped. Accuracy: "
    "of a small classifier that sees the mean of one code alone; s should not know what moves, the lower rows; d not what stays. "
)
PUBLISHED_NOTE = (
    " Published values, of 300 clips, were measured otherwise: by a judge that had been trained on real and reconstructed clips of the "
    "evaluated set together, and that answered in training mode."
)
"""Below every table in which values of another protocol than ours stand beside ours."""
CLASSIFIER_NOTE = " The published accuracies are of a classifier that saw the shares of the experts in place of s, in training mode too."
ENTROPIES = {"H(y)": "generation_entropy", "H(y|x)": "generation_conditional_entropy"}
DRAWN = {"from the priors": "", "from the aggregate posterior": "_aggregate"}
"""Where new clips come from -> end of the names of figures."""


def factors_of(data: Data) -> Factors:
    """The rows of the tables of a data set."""
    return FACES if data.name == "mug" else SPRITES


def table_1(figures: Figures, data: Data) -> Table:
    """Consistency and the accuracies from s and from d, beside those of the paper where it used these clips."""
    factors = factors_of(data)
    names = {"consistency": CONSISTENT, **EMBEDDINGS}
    theirs = _theirs(data)
    beside = {"consistency": POOLED, **EMBEDDINGS} if theirs else {}
    rows = tuple(
        (
            label,
            *(told(figures, name.format(factor)) for name in names.values()),
            *(printed(theirs, name.format(factor)) for name in beside.values()),
        )
        for label, factor in factors.rows.items()
    )
    head = ("", *(f"{word}, %" for word in names), *(f"published: {word}, %" for word in beside))
    title = "Table 1: consistency, and what each code knows"
    otherwise = PUBLISHED_NOTE + factors.what + CLASSIFIER_NOTE if theirs else ""
    return Table("table_1", title, head, rows, TABLE_1_NOTE + factors.action + otherwise)


def pooled_table(figures: Figures, data: Data) -> Table | None:
    """Consistency by a judge of the released notebooks' way; None where it was not measured."""
    factors, theirs = factors_of(data), _theirs(data)
    if POOLED.format(factors.averaged[0]) not in figures:
        return None
    names = {label: POOLED.format(factor) for label, factor in factors.rows.items()}
    rows = tuple((label, told(figures, name), printed(theirs, name)) for label, name in names.items())
    note = (
        "Per cent. The judge was trained on real and reconstructed clips of the test characters together, and is asked about clips of the "
        "same pool: it forgives what the model does wrong. For comparison with the paper only."
    )
    return Table("table_1_pooled", "Table 1, consistency as in the released notebooks", ("", "here, %", "published, %"), rows, note)


def leak_table(figures: Figures, data: Data) -> Table:
    """Table 1 on samples: what probes read off each code, means and samples, what the judge sees of a code drawn anew, and chance."""
    factors = factors_of(data)
    owner = {label: "static" if label in factors.static else "dynamic" for label in factors.rows}
    rows = tuple((label, *leaks(figures, factor, owner[label], CODES)) for label, factor in factors.rows.items())
    head = ("", *(f"{code}, {way}" for code in ("s", "d", "path") for way in ("means", "samples")), "drawn anew", "chance")
    note = (
        "Per cent, of test characters, by a linear probe / a small network. A mean may hold traces far below the noise of its code; a "
        "sample is what the decoder gets. s should know what moves no better than chance, d and the path so what stays. "
        "Drawn anew: what the judge still sees when the code that should tell it is from the prior; this too should be chance."
    )
    return Table("leaks", "Table 1 on samples: leaks both ways", head, rows, note)


def table_2(figures: Figures, data: Data, ceiling: float) -> Table:
    """Mean consistency and entropies. ceiling: of H(y), in nats."""
    factors, theirs = factors_of(data), _theirs(data)
    known = [theirs[POOLED.format(factor)] for factor in factors.averaged if POOLED.format(factor) in theirs]
    mean = number(factors.mean, theirs.get(POOLED.format("mean"), fmean(known))) if known else None
    rows: list[tuple[Cell, ...]] = [(f"consistency, {factors.named}, %", told(figures, factors.mean), mean)]
    for source, end in DRAWN.items():
        rows += [
            (f"{symbol}, new clips {source}, nats", told(figures, name + end), printed(theirs, name + end))
            for symbol, name in ENTROPIES.items()
        ]
    note = (
        "Self-reconstruction: the other methods of the published table were measured by swapping and drawing, which is another protocol "
        f"and has a table of its own here. Entropies are averaged over all factors of the judge, H(y) at most {ceiling:.3f}; the published "
        "2.21 and 0.203 are of faces (MUG), 52 persons and their actions, by a judge of nine classes for six actions."
    ) + (PUBLISHED_NOTE + factors.what if known else "")
    return Table("table_2", "Table 2: consistency and entropies", ("", "here", "published, VDSM"), tuple(rows), note)


def two_factor_table(figures: Figures, data: Data) -> Table:
    """The two-factor protocol, beside the rows that were published of these clips."""
    factors = factors_of(data)
    names = {label: f"two_factor_accuracy_{factor}" for label, factor in factors.rows.items()}
    names |= {"H(y|x)": "two_factor_conditional_entropy", "H(y)": "two_factor_entropy", "inception score": "two_factor_inception_score"}
    others = published("two_factor", data)
    rows = tuple(
        (label, *(told(figures, name + end) for end in DRAWN.values()), *(printed(row.figures, name) for row in others))
        for label, name in names.items()
    )
    head = ("", *(f"drawn {source}" for source in DRAWN), *(f"published, {row.method}" for row in others))
    note = (
        f"{factors.kept}: s kept, movement drawn. {factors.moved}: movement kept, s drawn; so are the entropies, which are {factors.ends}. "
        "Accuracies in per cent. " + _where(others)
    )
    return Table("two_factors", "Table 2, the other protocol: two factors, one kept and one drawn", head, rows, note)


def swap_table(figures: Figures, data: Data) -> Table:
    """Share of swapped clips that show what they should."""
    factors = factors_of(data)
    asked = {**factors.rows, "all that stays": "static", "all that moves": "dynamic", "both": "both"}
    rows = tuple((label, told(figures, f"swap_{name}_accuracy")) for label, name in asked.items())
    note = (
        f"s of one test clip, movement of another: {factors.kept.lower()} must be the one's, the others the other's. Per cent with 95 % "
        "intervals."
    )
    return Table("swaps", "Swaps both ways", ("", "right, %"), rows, note)


def table_3(figures: Figures) -> Table:
    """Fréchet distances on the features of our judge."""
    names = {"reconstruction": "reconstruction"} | {f"generation, {source}": f"generation{end}" for source, end in DRAWN.items()}
    rows: list[tuple[Cell, ...]] = [
        (label, *(told(figures, f"frechet_judge_{name}{end}") for end in ("", "_infinity"))) for label, name in names.items()
    ]
    rows.append(("real clips among themselves", told(figures, "frechet_judge_floor"), None))
    note = (
        "On the features of our own judge, of as many clips as are tested; fewer make it larger, and the second column says what it would "
        "be of infinitely many, where there are clips enough to tell. The published distances (generation 44.12, reconstruction 17.64) "
        "are of faces (MUG) on the features of a network trained on Kinetics: numbers of another kind."
    )
    title, head = "Table 3: Fréchet distance on the judge's features", ("", "distance", "of infinitely many clips")
    return Table("table_3", title, head, tuple(rows), note)


def quality_table(figures: Figures) -> Table:
    """PSNR and SSIM of reconstructions."""
    ways = {"through the sequence model": "sequence", "each frame by its own pose": "poses"}
    rows = tuple((label, *(told(figures, f"{score}_{way}_test") for score in ("psnr", "ssim"))) for label, way in ways.items())
    return Table("quality", "Reconstructions of test clips", ("", "PSNR, dB", "SSIM"), rows, "With 95 % intervals.")


def published_here(data: Data, figures: Figures) -> dict[str, float]:
    """What the paper prints of VDSM on these characters under protocols that ours were measured by too, of the figures that are there."""
    rows = [row for row in every_row() if row.method == "VDSM" and row.data == data and not row.differs]
    return {name: value for row in rows for name, value in row.figures.items() if name in figures}


def _theirs(data: Data) -> dict[str, float]:
    """All that the paper prints of VDSM on these characters, however it was measured."""
    return {name: value for row in every_row() if row.method == "VDSM" and row.data == data for name, value in row.figures.items()}


def _where(rows: list[Row]) -> str:
    if not rows:
        return "Nothing was published under this protocol of these characters; of the standard ones there are rows, see vdsm/standard."
    places = " and ".join(dict.fromkeys(str(row.source) for row in rows))
    return f"Published: {places}; of VDSM nothing: what its own paper prints beside such rows is a consistency, which is of table 2 here."
