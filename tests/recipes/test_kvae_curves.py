from __future__ import annotations

import math

import pytest
import torch

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.data.balls import box
from stillmotion.recipes.imputation import Errors, figure_of, hidden_errors, middle_gap
from stillmotion.recipes.kvae_curves import (
    Filler,
    clip_errors,
    count_below,
    curves,
    errors_table,
    figures_of,
    margins_table,
    masks,
    measure,
    order_table,
    over_seeds,
    published_points,
)
from stillmotion.recipes.kvae_references import REFERENCES, black, cross_fade, last_seen

TEST = box(clips=1, validation=1, test=12).test
KEYS = ("smooth", "filter", "ae_rnn", "vae_rnn")


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def fillers(hidden: dict[str, torch.Tensor], *values: tuple[float, ...]) -> list[Filler]:
    """One for each of `values`, which are the errors of its seeds, the same in every clip."""

    def errors(value: float) -> dict[str, list[float]]:
        return {name: [value] * int(mask.any(1).sum()) for name, mask in hidden.items()}

    return [Filler(key, key, tuple(errors(value) for value in seeds)) for key, seeds in zip(KEYS, values, strict=False)]


def test_frames_are_hidden_as_in_the_figures_and_the_same_each_time() -> None:
    hidden = masks(1000, 20)
    assert list(hidden) == [f"p{10 * k}" for k in range(1, 11)] + [f"n{k}" for k in (1, 3, 5, 7, 9, 11, 13, 15)]
    assert all(not mask[:, :4].any() for mask in hidden.values())
    assert bool(hidden["p100"][:, 4:].all())
    for k in range(1, 10):
        assert float(hidden[f"p{10 * k}"][:, 4:].double().mean()) == pytest.approx(k / 10, abs=0.02)
        assert bool((hidden[f"p{10 * k}"] <= hidden[f"p{10 * (k + 1)}"]).all())
    assert hidden["n9"].nonzero()[:, 1].unique().tolist() == list(range(4, 13))
    assert all(torch.equal(mask, masks(1000, 20)[name]) for name, mask in hidden.items())
    assert "n15" not in masks(8, 15)


def test_the_error_of_a_clip_is_the_mean_over_its_hidden_frames() -> None:
    hidden = masks(12, 20)
    found, frames = clip_errors(black, TEST, hidden), TEST.clips().frames
    for name in ("p10", "p60", "n7"):
        told = [
            sum(float((frames[k, t] > 0.5).double().mean()) for t in range(20) if mask[t]) / int(mask.sum())
            for k, mask in enumerate(hidden[name]) if bool(mask.any())
        ]  # fmt: skip
        assert found[name] == pytest.approx(told, abs=1e-6)


def test_a_point_counts_every_hidden_frame_alike() -> None:
    hidden = masks(12, 20)
    filler = Filler("black", "black", (clip_errors(black, TEST, hidden),))
    points = measure([filler], hidden)["black"]
    frames = TEST.clips().frames
    for name in ("p20", "p70"):
        lit = (frames[hidden[name]] > 0.5).double().mean()
        assert points[name].figure.value == pytest.approx(float(lit), abs=1e-6)
        assert points[name].figure.clips == int(hidden[name].any(1).sum())


def test_nothing_hidden_is_refused() -> None:
    with pytest.raises(UserError, match="a frame is hidden"):
        hidden_errors(black, TEST, torch.zeros(12, 20, dtype=torch.bool), [torch.arange(12)])


def test_the_interval_over_seeds_is_that_of_student() -> None:
    values = torch.tensor([1.0, 2.0, 3.0]).double()[:, None].expand(3, 8)
    figure = over_seeds(values, torch.arange(8), noise())
    assert figure.value == 2
    assert figure.high - 2 == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert 2 - figure.low == pytest.approx(figure.high - 2)


def test_the_interval_adds_clips_to_seeds_and_is_that_of_clips_where_there_is_one_seed() -> None:
    values, clip = torch.rand(1, 40, generator=noise()).double(), torch.arange(40) // 4
    alone = over_seeds(values, clip, noise())
    assert alone == figure_of(Errors(values[0], clip), noise())
    both = over_seeds(torch.cat([values - 0.1, values + 0.1]), clip, noise())
    spread = 12.7062 * math.sqrt(0.02) / math.sqrt(2)
    assert both.value == pytest.approx(alone.value)
    assert both.high - both.value == pytest.approx(math.hypot(spread, alone.high - alone.value), abs=1e-3)


@pytest.mark.parametrize(
    ("key", "p50", "n9", "first", "last"),
    [
        ("smooth", 0.0075, 0.0148, 0.0057, 0.0227), ("filter", 0.0101, 0.0199, 0.0078, 0.0257), ("ae_rnn", 0.0095, 0.0202, 0.0065, 0.0259),
        ("vae_rnn", 0.0117, 0.0207, 0.0079, 0.0269),
    ],
)  # fmt: skip
def test_the_published_curves(key: str, p50: float, n9: float, first: float, last: float) -> None:
    points = published_points(key)
    assert list(points) == list(masks(1000, 20))
    assert (points["p50"], points["n9"], points["p10"], points["n15"]) == (p50, n9, first, last)
    gaps = [value for name, value in points.items() if name.startswith("n")]
    assert gaps == sorted(gaps)


def test_what_is_not_published_has_no_curve() -> None:
    assert published_points("srnn") == {}
    assert published_points("smooth", "gravity") == {}


def test_curves_have_the_published_ones_behind_them() -> None:
    hidden = masks(12, 20)
    models = fillers(hidden, (0.1, 0.3), (0.2, 0.2))
    drops, gap = curves("box", models, measure(models, hidden))
    assert [(line.label, line.published) for line in drops.lines] == [
        ("smooth", False), ("filter", False), ("smooth", True), ("filter", True),
    ]  # fmt: skip
    assert drops.lines[0].x == drops.lines[2].x == tuple(round(0.1 * k, 1) for k in range(1, 11))
    assert gap.lines[3].x == tuple(range(1, 16, 2))
    assert gap.lines[0].y == pytest.approx([0.2] * 8)
    assert not any(line.published for each in curves("pong", models, measure(models, hidden)) for line in each.lines)


def test_figures_stand_beside_what_was_published_of_them() -> None:
    hidden = masks(12, 20)
    models = fillers(hidden, (0.1,), (0.2,), (0.3,))
    figures, paper = figures_of("box", measure(models, hidden))
    assert figures["imputation_ae_rnn_n9"].value == pytest.approx(0.3)
    assert paper["imputation_smooth_p50"] == 0.0075
    assert paper["imputation_filter_n9"] == 0.0199
    assert paper["imputation_ae_rnn_p50"] == 0.0095
    assert paper.keys() == figures.keys()
    figures, paper = figures_of("pong", measure(models, hidden))
    assert "imputation_pong_smooth_n9" in figures
    assert paper == {}


def test_where_one_is_below_the_other_is_counted_seed_by_seed() -> None:
    hidden = masks(12, 20)
    models = fillers(hidden, (0.1, 0.4), (0.2, 0.2), (0.3,))
    measured = measure(models, hidden)
    assert [count_below(measured, "smooth", "filter", seed) for seed in (0, 1)] == [(17, 17), (0, 17)]
    assert [count_below(measured, "smooth", "ae_rnn", seed) for seed in (0, 1)] == [(18, 18), (0, 18)]
    assert order_table("box", models, measured).rows[0] == ("filter", "at 17 of 17 points", "at 0 of 17 points")
    rows = errors_table("box", models, measured).rows
    assert rows[0][:2] == ("smooth", "25.00")
    assert rows[1][:2] == ("smooth (paper)", "0.57")


def test_a_cross_fade_is_a_line_between_the_neighbours_in_time() -> None:
    frames = torch.rand(3, 6, 1, 2, 2, generator=noise())
    mask = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]]).bool()
    found = cross_fade(Clips(frames, mask))
    assert torch.allclose(found[0, 1], frames[0, 0] * 2 / 3 + frames[0, 3] / 3)
    assert torch.allclose(found[0, 2], frames[0, 0] / 3 + frames[0, 3] * 2 / 3)
    assert torch.allclose(found[0, 5], frames[0, 3])
    assert torch.allclose(found[1, 0], frames[1, 2])
    assert torch.allclose(found[1, 3], (frames[1, 2] + frames[1, 4]) / 2)
    assert torch.equal(found[mask], frames[mask])


def test_the_last_frame_is_held_and_nothing_is_known_before_the_first() -> None:
    frames = torch.rand(1, 5, 1, 2, 2, generator=noise())
    mask = torch.tensor([[0, 1, 0, 0, 1]]).bool()
    found = last_seen(Clips(frames, mask))
    assert torch.equal(found[0, 3], frames[0, 1])
    assert float(found[0, 0].abs().sum()) == 0
    assert torch.equal(found[mask], frames[mask])


def test_references_never_look_at_what_is_hidden() -> None:
    frames, hidden = TEST.clips().frames, middle_gap(12, 20, 9)
    other = torch.where(hidden[:, :, None, None, None], 1 - frames, frames)
    for _, fill in REFERENCES.values():
        assert torch.equal(fill(Clips(frames, ~hidden)), fill(Clips(other, ~hidden)))


def test_how_far_smoothing_is_below_is_told_clip_by_clip() -> None:
    """Clips that are hard for both say nothing about which is better: the interval is that of the differences."""
    hidden = {"n9": masks(40, 20)["n9"]}
    hard = torch.rand(40, generator=noise()).double()
    gain = 0.02 + 0.001 * torch.randn(40, generator=noise()).double()
    models = [Filler(key, key, ({"n9": values.tolist()},)) for key, values in (("smooth", hard), ("filter", hard + gain), ("ae_rnn", hard))]
    table, figures = margins_table("box", models, hidden)
    found, spread = figures["imputation_margin_filter_n9"], 1.96 * float(gain.std()) / math.sqrt(40)
    assert found.value == pytest.approx(float(gain.mean()))
    assert (found.value - found.low, found.high - found.value) == pytest.approx((spread, spread), rel=0.2)
    assert figures["imputation_margin_ae_rnn_n9"].value == 0
    assert table.rows == (("n9", f"{100 * found.value:.2f} ± {50 * (found.high - found.low):.2f}", "0.00 ± 0.00?"),)


def test_a_margin_of_several_seeds_has_their_spread_and_the_last_of_fewer_seeds_stands_for_the_rest() -> None:
    hidden = {name: mask for name, mask in masks(12, 20).items() if name in ("p50", "p100")}
    models = fillers(hidden, (0.1, 0.2), (0.3, 0.3), (0.4,))
    table, figures = margins_table("pong", models, hidden)
    found = figures["imputation_pong_margin_filter_p50"]
    assert found.value == pytest.approx(0.15)
    assert found.high - found.value == pytest.approx(12.7062 * 0.1 / 2, rel=1e-4)
    assert figures["imputation_pong_margin_ae_rnn_p50"].value == pytest.approx(0.25)
    assert table.head == ("smoothing is below by", "filter", "ae_rnn")
    assert [row[:2] for row in table.rows] == [("p50", "15.00 ± 63.53?"), ("p100", "")]
    assert "imputation_pong_margin_filter_p100" not in figures, "nothing is seen later: the same thing"
