from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from stillmotion.metrics.exhibits import Curves, Line, Mark
from stillmotion.report import plots
from stillmotion.report.plots import Plot, alt_of, label, marker, plot_of
from stillmotion.report.template import fill

OURS = Line("smoothing", (0.0, 1.0, 2.0), (1.0, 2.0, 3.0), (0.5, 1.5, 2.5), (1.5, 2.5, 3.5))
OTHER = Line("filtering", (0.0, 2.0), (4.0, 4.0))
THEIRS = Line("smoothing", (0.0, 2.0), (1.0, 4.0), published=True)


def curves(*lines: Line, marks: tuple[Mark, ...] = ()) -> Curves:
    return Curves("c", "A title", "frames", "errors", lines, marks)


def numbers(path: str) -> list[tuple[float, float]]:
    """The corners of a path of straight lines."""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def by_text(plot: Plot) -> dict[str, plots.Drawn]:
    return {line.key.text: line for line in plot.lines}


def test_values_lie_where_the_axes_say() -> None:
    plot = plot_of(curves(OURS))
    x = {text: place for place, text in plot.x_ticks}
    y = {text: place for place, text in plot.y_ticks}
    drawn = numbers(by_text(plot)["smoothing"].path)
    assert drawn == [(pytest.approx(x["0"]), pytest.approx(y["1"])), (x["1"], y["2"]), (x["2"], y["3"])]
    assert plots.LEFT < drawn[0][0] < drawn[2][0] < plots.RIGHT
    assert plots.BOTTOM > drawn[0][1] > drawn[2][1] > plots.TOP


def test_the_band_goes_along_its_low_end_and_back_along_its_high_end() -> None:
    plot = plot_of(curves(OURS, OTHER))
    ys = {value: y for value, (_, y) in zip((1.0, 2.0, 3.0), numbers(by_text(plot)["smoothing"].path), strict=True)}
    band = numbers(by_text(plot)["smoothing"].band)
    half = (ys[1.0] - ys[2.0]) / 2
    expected = [ys[v] + half for v in (1.0, 2.0, 3.0)] + [ys[v] - half for v in (3.0, 2.0, 1.0)]
    assert [y for _, y in band] == pytest.approx(expected, abs=0.11)
    assert by_text(plot)["filtering"].band == ""


def test_published_lines_lie_behind_ours_in_grey_with_the_shape_of_their_namesake() -> None:
    plot = plot_of(curves(OTHER, OURS, THEIRS))
    assert [line.key.published for line in plot.lines] == [True, False, False]
    keys = {line.key.text: line.key for line in plot.lines}
    assert keys["smoothing, published"].tone == -1
    assert keys["smoothing, published"].shape == keys["smoothing"].shape != keys["filtering"].shape
    assert (keys["filtering"].tone, keys["smoothing"].tone) == (0, 1)


def test_a_label_that_says_that_it_is_published_is_kept() -> None:
    assert label(Line("DVBF (published)", (0.0,), (1.0,), published=True)) == "DVBF (published)"


@pytest.mark.parametrize(("low", "high", "logarithmic"), [(0.01, 0.5, True), (0.1, 0.5, False), (-1.0, 100.0, False), (0.0, 100.0, False)])
def test_positive_values_of_very_different_size_get_a_logarithmic_axis(low: float, high: float, logarithmic: bool) -> None:
    assert plot_of(curves(Line("a", (0.0, 1.0), (low, high)))).logarithmic is logarithmic


@pytest.mark.parametrize(("values", "from_zero"), [((0.1, 1.0), True), ((0.9, 1.0), False), ((-0.1, 1.0), False)])
def test_the_axis_begins_at_zero_where_that_is_near(values: tuple[float, float], from_zero: bool) -> None:
    plot = plot_of(curves(Line("a", (0.0, 1.0), values)))
    assert ((plots.BOTTOM, "0") in plot.y_ticks) is from_zero


def test_lines_of_many_values_have_no_dots_and_a_single_value_is_seen() -> None:
    many = tuple(map(float, range(plots.MOST_DOTS + 1)))
    plot = by_text(plot_of(curves(Line("many", many, many), Line("one", (3.0,), (2.0,)))))
    assert plot["many"].dots == ""
    assert plot["one"].dots.count("M") == 1


def test_marks_lie_on_the_axis_even_beyond_the_lines() -> None:
    plot = plot_of(curves(OURS, marks=(Mark("true", 1.0), Mark("far", 5.0))))
    (one, first), (five, second) = plot.marks
    assert (first, second) == ("true", "far")
    assert one == {text: place for place, text in plot.x_ticks}["1"]
    assert plots.RIGHT >= five > one


def test_a_legend_of_long_names_has_a_row_for_each() -> None:
    short = plot_of(curves(*(Line(str(k), (0.0,), (1.0,)) for k in range(4))))
    long = plot_of(curves(*(Line(f"{k} {'x' * 60}", (0.0,), (1.0,)) for k in range(4))))
    assert len({line.key.y for line in short.lines}) == 1
    assert len({line.key.y for line in long.lines}) == 4
    assert long.height == short.height + 3 * plots.ROW
    assert len({(line.key.x, line.key.y) for line in short.lines}) == 4


def test_the_drawing_is_told_in_words() -> None:
    told = alt_of(curves(OURS, THEIRS))
    assert told == "A title: errors over frames. smoothing goes from 1 at 0 to 3 at 2; smoothing, published goes from 1 at 0 to 4 at 2."


@pytest.mark.parametrize("shape", plots.SHAPES)
def test_markers_are_closed_and_differ(shape: plots.Shape) -> None:
    assert marker(shape, 10, 20).endswith("Z")
    assert len({marker(other, 10, 20) for other in plots.SHAPES}) == len(plots.SHAPES)


def test_the_file_is_sound_xml_that_needs_nothing_else() -> None:
    plot = plot_of(curves(OURS, THEIRS, Line("a < b & c", (1.0,), (2.0,)), marks=(Mark("<true>", 1.0),)))
    text = fill("plot.svg.j2", p=plot, at=plots, title="A <title>")
    root = ElementTree.fromstring(text)
    words = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a < b & c", "<true>", "smoothing, published", "errors", "frames"} <= set(words)
    assert "var(" not in text
    assert "stroke-dasharray" in text
