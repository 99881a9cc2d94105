"""Figures in plain words: what each says, and whether it is good."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["good", "fair", "poor", "plain"]
Figures = dict[str, dict[str, Any]]

# Where these belong; any other label is judged by whether one code alone knows it.
MOVING = frozenset({"action", "action_direction", "direction", "speed", "motion", "movement", "gait", "gesture", "expression", "view"})
STAYING = frozenset({"colour", "color", "person", "people", "identity", "subject", "actor", "speaker", "character", "digit", "object"})
NEAR_CHANCE = 0.15
"""A probe this close above chance knows next to nothing."""
WORDS = {"good": "good", "fair": "fair", "poor": "poor", "plain": ""}


@dataclass(frozen=True)
class Card:
    """One headline number. interval: the 95 % interval; clips: how many were counted."""

    title: str
    value: str
    unit: str
    verdict: Verdict
    words: str
    interval: str
    clips: str

    @property
    def verdict_word(self) -> str:
        return WORDS[self.verdict]


@dataclass(frozen=True)
class Bar:
    """What a probe reads off one code, in per cent; `sample` is None where it was not measured. foreign: the factor is not the code's."""

    code: str
    mean: float
    sample: float | None
    foreign: bool = False


@dataclass(frozen=True)
class Probe:
    """What both codes know of one factor. chance: the share of the largest class, in per cent."""

    factor: str
    chance: float
    bars: list[Bar]
    verdict: Verdict
    words: str

    @property
    def verdict_word(self) -> str:
        return WORDS[self.verdict]


@dataclass(frozen=True)
class Line:
    """A row of the table of figures."""

    name: str
    value: str
    interval: str
    clips: str
    paper: str


def cards(figures: Figures) -> list[Card]:
    """The headline numbers, in the order in which they matter."""
    found = [*_swap_cards(figures), *_quality_cards(figures)]
    return [card for card in found if card is not None]


def probes(figures: Figures) -> list[Probe]:
    """One entry per factor that was probed."""
    factors = [name.removeprefix("chance_") for name in figures if name.startswith("chance_")]
    # where no factor is said to move, none is known to stay: what is named a leak then is none
    sided = any(name.startswith("leak_static_to_") for name in figures)
    return [probe for factor in factors if (probe := _probe(figures, factor, sided)) is not None]


def lines(figures: Figures) -> list[Line]:
    """All figures, for the table."""
    return [_line(name, figure) for name, figure in figures.items()]


def _swap_cards(figures: Figures) -> list[Card | None]:
    if figures.get("swap_static_accuracy", {}).get("protocol") == "swap":
        return _judged_cards(figures)
    titles = {
        "swap_static_accuracy": ("Identity kept", "Swapped clips that show the identity they were given, read from the pixels."),
        "swap_action_accuracy": ("Movement kept", "Swapped clips that move like the clip whose movement they got, read from the pixels."),
        "swap_frequency_within_5_percent": ("Rhythm kept", "Swapped clips whose frequency is within 5\u202f% of the movement's source."),
        "swap_border": ("Backdrop kept", "Swapped clips whose border is nearer to the identity's than to the movement's."),
    }
    shown = [_share_card(figures.get(name), *words) for name, words in titles.items()]
    for name in figures:
        if name.startswith("swap_border_"):
            factor = name.removeprefix("swap_border_").replace("_", " ")
            text = f"The same for pairs of clips that differ in {factor}."
            shown.append(_share_card(figures[name], f"Backdrop, other {factor}", text))
    return shown


def _judged_cards(figures: Figures) -> list[Card | None]:
    titles = {
        "swap_static_accuracy": ("Identity kept", "Swapped clips in which the judge sees all that should have stayed."),
        "swap_dynamic_accuracy": ("Movement kept", "Swapped clips in which the judge sees all of the movement that they were given."),
        "swap_both_accuracy": ("Both at once", "Swapped clips in which the judge sees all of both."),
    }
    return [_share_card(figures.get(name), *words) for name, words in titles.items()]


def _share_card(figure: dict[str, Any] | None, title: str, words: str) -> Card | None:
    if figure is None:
        return None
    value = float(figure["value"])
    return Card(title, percent(value), "%", _graded(value, 0.9, 0.75), words, _interval(figure, 100, " %"), _clips(figure, "swaps"))


def _quality_cards(figures: Figures) -> list[Card | None]:
    """Reconstruction of clips that were not trained on, those of each split that was measured."""
    shown: list[Card | None] = []
    for split in ("test", "validation"):
        figure, alone = figures.get(f"psnr_sequence_{split}"), figures.get(f"psnr_poses_{split}")
        if figure is None:
            continue
        value = float(figure["value"])
        words = f"PSNR of reconstructed {split} clips; from 25\u202fdB on they look right."
        if alone is not None:
            words += f" Poses read frame by frame: {float(alone['value']):.1f}\u202fdB."
        bounds, clips = _interval(figure, 1, " dB"), _clips(figure, "clips")
        shown.append(Card(f"Likeness, {split}", f"{value:.1f}", "dB", _graded(value, 25, 20), words, bounds, clips))
    return shown


def _probe(figures: Figures, factor: str, sided: bool) -> Probe | None:
    bars = [bar for code in ("static", "dynamic") if (bar := _bar(figures, code, factor, sided)) is not None]
    if not bars:
        return None
    chance = 100 * float(figures[f"chance_{factor}"]["value"])
    return Probe(factor.replace("_", " "), chance, bars, *_judged(factor, chance, bars))


def _bar(figures: Figures, code: str, factor: str, sided: bool) -> Bar | None:
    foreign = f"leak_{code}_to_{factor}"
    name = foreign if f"{foreign}_mean" in figures else f"probe_{code}_{factor}"
    mean, sample = (figures.get(f"{name}_{way}") for way in ("mean", "sample"))
    if mean is None:
        return None
    return Bar(code, 100 * float(mean["value"]), None if sample is None else 100 * float(sample["value"]), sided and name == foreign)


def _judged(factor: str, chance: float, bars: list[Bar]) -> tuple[Verdict, str]:
    """Good: one code knows the factor, and the one where it belongs; the other is near chance."""
    if len(bars) < 2:
        return "plain", f"The {bars[0].code} code names it in {bars[0].mean:.0f} % of clips; guessing gets {chance:.0f} %."
    static, dynamic = bars
    home = _home(factor, static, dynamic)
    other = static if home is dynamic else dynamic
    near = chance + 100 * NEAR_CHANCE
    knows = home.mean >= chance + 0.5 * (100 - chance)
    if not knows and other.mean <= near:
        return "poor", f"Neither code says much about it: the {home.code} code, where it belongs, has too little of it."
    if not knows:
        return "poor", f"It is in the {other.code} code more than in the {home.code} code, where it belongs."
    if other.mean <= near:
        return "good", f"It is in the {home.code} code, and the {other.code} code is near chance: kept apart."
    if other.sample is not None and other.sample <= near:
        return "fair", f"It is in the {home.code} code; traces show in the mean of the {other.code} code, and drown in its noise."
    return "poor", f"Both codes know it: it leaks into the {other.code} code."


def _home(factor: str, static: Bar, dynamic: Bar) -> Bar:
    """Where the factor belongs: as the figures say, else as its name says, else where most of it is."""
    if static.foreign or dynamic.foreign:
        return dynamic if static.foreign else static
    return dynamic if factor in MOVING else static if factor in STAYING else max(static, dynamic, key=lambda bar: bar.mean)


def _graded(value: float, good: float, fair: float) -> Verdict:
    return "good" if value >= good else "fair" if value >= fair else "poor"


def percent(share: float) -> str:
    """A share as per cent, to the tenth where it matters: 100, 99.4, 87."""
    value = 100 * share
    return f"{value:.1f}".removesuffix(".0") if value > 95 else f"{value:.0f}"


def _interval(figure: dict[str, Any], factor: float, unit: str) -> str:
    if figure.get("low") is None or figure.get("high") is None:
        return ""
    return f"{factor * float(figure['low']):.1f} – {factor * float(figure['high']):.1f}{unit}"


def _clips(figure: dict[str, Any], what: str) -> str:
    return f"{figure['clips']:,} {what}" if isinstance(figure.get("clips"), int) else ""


def _line(name: str, figure: dict[str, Any]) -> Line:
    decimals = 2 if name.startswith("psnr") else _decimals(figure.get("value"))

    def text(key: str) -> str:
        value = figure.get(key)
        return "" if value is None else f"{float(value):.{decimals}f}"

    bounds = f"{text('low')} – {text('high')}" if text("low") and text("high") else ""
    clips = figure.get("clips")
    return Line(name, text("value"), bounds, f"{clips:,}" if isinstance(clips, int) else "", text("paper"))


def _decimals(value: float | None) -> int:
    """Three, and more where that would be less than three digits."""
    size = abs(value or 0.0)
    return 3 if size >= 0.1 or size < 1e-6 else 2 - math.floor(math.log10(size))
