"""Sphinx: `make docs`."""

from __future__ import annotations

import tomllib
from pathlib import Path

_project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _project["name"]
author = copyright = _project["authors"][0]["name"]
version = release = _project["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files outside docs/ are for readers of the repository; a test checks them
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "stillmotion"
html_show_sphinx = False
