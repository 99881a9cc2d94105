"""Runs side by side as a page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from oracles.pages import Page
from stillmotion.report.comparison import Sheet, page
from stillmotion.report.template import fill

SHEET = Sheet(
    title="Swaps", words="Ordered pairs.", about=("test clips of <sprites>", "judge 01234567"),
    head=("figure", "unit", "a\n(seed 0)", "b & c", "mine\n(mean ± sd)", "S3VAE†", "clips"),
    kinds=("figure", "unit", "run", "run", "seeds", "published", "clips"),
    rows=(("swap_both_accuracy", "%", "90.0\n(89.0 – 91.0)*", "50.0", "70.0 ± 2.0", "99.49", "2,664"), ("other", "", "", "1", "", "", "")),
    best=frozenset({(0, 2)}), notes=("* best", "† S3VAE: a paper."),
)  # fmt: skip


def test_the_page_holds_every_text_and_reaches_for_nothing() -> None:
    shown = Page(page([SHEET, replace(SHEET, title="Leakage")], "stillmotion compare a 'b & c'"))
    words = [word.strip() for word in shown.words]
    for text in ("test clips of <sprites>", "judge 01234567", *SHEET.head, *SHEET.rows[0], *SHEET.notes, "stillmotion compare a 'b & c'"):
        assert text.strip() in words
    assert {link for link in shown.links if not link.startswith("#")} == {"data:,"}
    assert {link for link in shown.links if link.startswith("#")} == {f"#{name}" for name in shown.ids} == {"#table-1", "#table-2"}
    assert not {"script", "iframe", "object"} & set(shown.tags)
    assert "a, b & c. One table per protocol" in shown.text


def test_cells_are_of_the_kind_of_their_column_and_the_best_is_marked() -> None:
    text = page([SHEET])
    assert text.count('class="run best"') == 1
    assert '<td class="run best">90.0\n(89.0 – 91.0)*</td><td class="run">50.0</td><td class="seeds">70.0 ± 2.0</td>' in text
    assert '<td class="published">99.49</td>' in text
    assert "<h2>Command</h2>" not in text


def test_pages_share_the_style_of_the_report_and_say_when_they_were_written() -> None:
    text = page([SHEET])
    assert "--static: #1f66c1" in text
    assert "default-src 'none'" in text
    assert "Written by stillmotion" in Page(text).text


def test_a_text_that_is_lacking_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        fill("comparison.html.j2")
