"""Where data sets lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "STILLMOTION_DATA"


def data_root(root: Path | str | None = None) -> Path:
    """The folder of data sets: `root`, else the environment variable STILLMOTION_DATA, else stillmotion in the user's cache.

    The folder need not exist yet. `~` is the home folder; the cache is XDG_CACHE_HOME, or `~/.cache` where that is not set.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "stillmotion"
    return Path(root or os.environ.get(VARIABLE) or cache).expanduser()


def find(root: Path, *candidates: str) -> Path | None:
    """The first of the candidates (paths below `root`) that exists, or None."""
    return next((root / candidate for candidate in candidates if (root / candidate).exists()), None)
