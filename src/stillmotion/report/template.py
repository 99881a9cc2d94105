"""Fills the templates of pages: every text is escaped, and whatever a page needs is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stillmotion import __version__

HERE = Path(__file__).parent


def fill(template: str, **content: Any) -> str:
    """The page as text. Besides `content` a template knows css, version and written, the time."""
    loader = FileSystemLoader(HERE)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    css = Markup((HERE / "page.css").read_text(encoding="utf-8"))  # our own file: the one text that is not escaped
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(css=css, version=__version__, written=written, **content)
