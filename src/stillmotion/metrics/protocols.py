"""Which protocol a figure was measured under, in which unit, and whether more is better: all read off its name.

Figures of ours under two protocols never stand in one table: the same word means different measurements in different papers. A
published value of another protocol stands beside ours only in a table of its paper made anew, and the note below then says so.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Unit = Literal["share", "dB", "nats", "plain"]
Better = Literal["higher", "lower", ""]


class Protocol(NamedTuple):
    """title: a heading. words: what is done to the clips and what is counted, in a sentence or two."""

    title: str
    words: str


OTHER = "other"
READERS = "readers"
REPRODUCTION = "reproduction"
PROTOCOLS: dict[str, Protocol] = {
    "swap": Protocol(
        "Swaps",
        "Ordered pairs of real clips: the static code of one with the movement of the other. The judge must see the one's static "
        "factors and the other's moving ones.",
    ),
    "two_factor": Protocol(
        "Two factors, one kept and one drawn",
        "One code is kept from a real clip and the other is drawn; the judge must still see the kept factor. Entropies are of the "
        "judge's verdicts on clips whose movement was kept.",
    ),
    "leakage": Protocol(
        "Leakage",
        "Probes guess a factor from one code, on clips that neither probe nor model was fitted to. A code should know its own factors; "
        "those of the other it should know no better than chance.",
    ),
    "vdsm": Protocol(
        "Scores of the VDSM paper",
        "Consistency: the judge says the same of a clip and of its reconstruction; nothing is swapped. Embeddings: what a classifier "
        "reads off one code. Entropies: of verdicts on generated clips.",
    ),
    "vdsm_released": Protocol(
        "Consistency as in VDSM's released notebooks",
        "The judge was trained on real and reconstructed clips together, training and test clips drawn from one pool. For comparison "
        "with the paper only.",
    ),
    "dsa_report": Protocol(
        "Disagreement, as in the DSA report",
        "One code from a real clip, the other drawn from the prior: how often, and by how much, the judge's verdict on the decoded clip "
        "differs from that on the real one.",
    ),
    "benchmark": Protocol(
        "Scores of codes", "How factors and the dimensions of the pooled codes match; no clip is decoded, but for the intervention scores."
    ),
    "frechet_judge": Protocol(
        "Fréchet distance, judge's features",
        "Between real and made clips, on the features of our own judge: not comparable with distances on other features. Few clips make "
        "it larger.",
    ),
    "frechet_kinetics": Protocol(
        "Fréchet distance, Kinetics features",
        "Between real and made clips, on the features of a 3D ResNeXt-101. It depends on the number of clips and on how frames are "
        "prepared.",
    ),
    "reconstruction": Protocol("Reconstruction", "Real clips against what the model makes of their own codes."),
    "imputation": Protocol("Imputation", "Share of wrong pixels in frames that the model did not see, thresholded at one half."),
    "likelihood": Protocol("Likelihood", "The bound on the log-likelihood of clips that were not trained on."),
    READERS: Protocol("Read from pixels", "Swapped clips measured without any judge, by what is known of how such clips look."),
    REPRODUCTION: Protocol("Figures of a paper", "Measured as the reproduced paper measures them; what each means is told beside it."),
    OTHER: Protocol("Other figures", "Figures of no protocol that this version knows."),
}

# The first pattern that fits decides.
NAMES: tuple[tuple[str, str], ...] = (
    (r"(psnr|ssim)_", "reconstruction"),
    (r"two_factor_", "two_factor"),
    (r"swap_(border|frequency)|rollout_", READERS),
    (r"swap_\w+_accuracy$", "swap"),
    (r"consistency_pooled_judge_", "vdsm_released"),
    (r"consistency_|embedding_(static|dynamic)_|generation_(conditional_)?entropy", "vdsm"),
    (r"disagreement_", "dsa_report"),
    (r"(chance|probe|leak|resampled)_", "leakage"),
    (r"(mig|sap|modularity|explicitness)(_|$)|(dci|factor_vae|intervention)", "benchmark"),
    (r"frechet_judge_", "frechet_judge"),
    (r"frechet_kinetics_", "frechet_kinetics"),
    (r"imputation_", "imputation"),
    (r"elbo_", "likelihood"),
)
UNITS: tuple[tuple[str, Unit], ...] = (
    (r"psnr_|(transfer|rebuilt|identity_source)_psnr$", "dB"),
    (r"\w*entropy|disagreement_kl_|elbo_", "nats"),
    (r"swap_|two_factor_accuracy_|consistency_|embedding_|disagreement_|(chance|probe|leak|resampled)_|factor_vae|imputation_", "share"),
    (r"(rollout|rebuilt|real|transfer|identity_source)_(?!feature)", "share"),
)
BETTER: tuple[tuple[str, Better], ...] = (
    # whether a code should know a factor is not in the name of an embedding; a floor is what no model can beat
    (r"chance_|disagreement_kl_random_|embedding_|frechet_\w+_floor$", ""),
    (r"imputation_(\w+_)?margin_", "higher"),
    (r"\w*conditional_entropy|disagreement_|leak_|resampled_|frechet_|imputation_|\w+_feature_distance$", "lower"),
)
# the pooled judge is trained for its figures alone, whichever judge saw the others
JUDGED = re.compile(
    r"two_factor_|swap_\w+_accuracy$|consistency_(?!pooled_judge_)|generation_|disagreement_|resampled_|frechet_judge_|intervention"
)
MOVED = re.compile(r"two_factor_|swap_\w+_accuracy$|disagreement_|(chance|probe|leak|resampled)_|intervention")


def protocol_of(name: str, *, judged: bool = True) -> str:
    """The protocol of a figure, a key of PROTOCOLS; "other" for a name that none of them has.

    judged: whether a judge saw the clips; swaps that none saw were read from their pixels.
    """
    found = next((protocol for pattern, protocol in NAMES if re.match(pattern, name)), OTHER)
    return READERS if found == "swap" and not judged else found


def needs_judge(name: str) -> bool:
    """Whether the value depends on which judge saw the clips."""
    return JUDGED.match(name) is not None


def needs_moving(name: str) -> bool:
    """Whether the value, or what it means, depends on which factors are said to move."""
    return MOVED.match(name) is not None


def unit_of(name: str) -> Unit:
    """The unit in which the figure is shown. Shares are kept as fractions and shown in per cent."""
    return next((unit for pattern, unit in UNITS if re.match(pattern, name)), "plain")


def better(name: str) -> Better:
    """Whether a higher or a lower value is better; empty where that cannot be said."""
    if protocol_of(name) == OTHER:
        return ""
    return next((way for pattern, way in BETTER if re.match(pattern, name)), "higher")


def shown(name: str, value: float | None, *, digits: int = 1) -> str:
    """The value as a text without its unit, empty for None. digits: decimals of a percentage, two at least where shares are small."""
    if value is None:
        return ""
    digits = max(digits, 2) if protocol_of(name) == "imputation" else digits
    decimals = {"share": digits, "dB": 2, "nats": 3, "plain": 3}[unit_of(name)]
    if abs(value) >= 100 and unit_of(name) != "share":
        decimals = 2
    return f"{100 * value if unit_of(name) == 'share' else value:.{decimals}f}"


def symbol(name: str) -> str:
    """What is written beside values of this figure: %, dB, nats, or nothing."""
    return {"share": "%", "dB": "dB", "nats": "nats", "plain": ""}[unit_of(name)]
