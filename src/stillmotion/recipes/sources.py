"""Which run is meant by a source (a folder of videos or a built-in data set), a model and a size: what `stillmotion train` starts."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast, get_args

from stillmotion.core.errors import UserError
from stillmotion.core.registry import DATA
from stillmotion.training.settings import Part, Run

Size = Literal["quick", "laptop", "paper"]
MADE = ("pendula", "box", "gravity", "polygon", "pong", "torque")
"""Data sets that are computed: nothing of them lies in a folder."""
USUAL = {"box": "kvae", "gravity": "kvae", "polygon": "kvae", "pong": "kvae", "torque": "kvae"}
"""The model of a data set, where it is not VDSM."""
RECIPES = {
    "vdsm": "stillmotion.recipes.vdsm:of", "dsa": "stillmotion.recipes.dsa:of", "kvae": "stillmotion.recipes.kvae:of",
    **{name: f"stillmotion.recipes.kvae_baselines:{name}" for name in ("dmm", "dvbf", "ae_rnn", "vae_rnn", "srnn")},
}  # fmt: skip
"""Model -> the function (data, size, seed, group_by) that makes its run, or raises UserError for data that it has no settings for."""


def run_for(
    source: str, size: str = "laptop", *, model: str | None = None, reading: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None, held: dict[str, Any] | None = None, root: Path | None = None, group_by: str | None = None,
    seed: int = 0,
) -> Run:
    """The run of a model on a folder of videos or a built-in data set.

    model: by default that of the papers for this data, VDSM for videos. reading, labels, held: how videos are read, labelled and split
    (see data.videos.load); built-in sets have their own splits. Raises UserError for what does not exist.
    """
    if size not in get_args(Size):
        raise UserError(f"a size of {', '.join(get_args(Size))}", repr(size))
    asked = {**(reading or {}), **(labels or {}), **(held or {})}
    data = _videos(source, asked, root, seed) if Path(source).is_dir() else _built_in(source, root)
    name = model or USUAL.get(data.name, "vdsm")
    if name not in RECIPES:
        raise UserError(f"a model of {', '.join(RECIPES)}", repr(name))
    module, _, function = RECIPES[name].partition(":")
    make: Callable[..., Run] = getattr(import_module(module), function)
    return make(data, cast(Size, size), seed=seed, group_by=group_by)


def _videos(folder: str, asked: dict[str, Any], root: Path | None, seed: int) -> Part:
    options = {"folder": str(Path(folder).resolve()), **asked, "seed": seed}
    # what was not asked for is left to the reader; a zero is asked for, and refused there
    given = {name: value for name, value in options.items() if value not in (None, []) and value is not False}
    if root is not None:
        given["cache"] = str(root / "videos")
    return Part(name="videos", options=given)


def _built_in(source: str, root: Path | None) -> Part:
    model, _, name = source.rpartition("/")
    known = [name for name in DATA if name != "videos"]
    if name not in known or (model and model not in RECIPES):
        raise UserError(f"a folder of videos, or one of {', '.join(known)}", repr(source), "Check the path.")
    return Part(name=name, options={"root": str(root)} if root is not None and name not in MADE else {})
