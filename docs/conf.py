"""Sphinx: `make docs`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

_project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _project["name"]
author = copyright = _project["authors"][0]["name"]
version = release = _project["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files outside docs/ are for readers of the repository; a test checks them

html_theme = "furo"
html_title = "stillmotion"
html_show_sphinx = False
html_math_renderer = "mathml"


def _inline(writer: Any, node: Any) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise SkipNode


def _block(writer: Any, node: Any) -> None:
    # without room above and below the theme gives tall formulas a scroll bar
    writer.body.append(f'<div style="padding: 0.6em 0">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app: Any) -> None:
    # every browser shows MathML; the usual way would load a script from another site
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
