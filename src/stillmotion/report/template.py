"""Fills the templates of pages: every text is escaped, and whatever a page needs is in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stillmotion import __version__

HERE = Path(__file__).parent


def fill(template: str, **content: Any) -> str:
    """The page as text. Besides `content` a template knows css, plot_css (for a drawing by itself), version and written, the time."""
    loader = FileSystemLoader(HERE)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page, plot = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "plot.css"))
    styles = {"css": Markup(page + plot), "plot_css": Markup(_in_light(plot, page))}  # our own files: the one text that is not escaped
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(**styles, version=__version__, written=written, **content)


def _in_light(plot: str, page: str) -> str:
    """The style of drawings with the page's light colours in place of their names, which not every viewer of SVG knows."""
    light = dict(re.findall(r"--([a-z0-9-]+): ([^;]+);", page.partition("}")[0]))
    return re.sub(r"var\(--([a-z0-9-]+)\)", lambda name: light[name[1]], plot)
