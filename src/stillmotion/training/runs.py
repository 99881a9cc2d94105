"""The folder of a run, its description there, and the data it names."""

from __future__ import annotations

import json
import shutil
import warnings
from inspect import signature
from pathlib import Path

from stillmotion.core.errors import FileRefused, UserError
from stillmotion.core.registry import DATA, resolve
from stillmotion.data.base import Splits
from stillmotion.data.fitting import FrameSpec
from stillmotion.training.settings import Part, Run

RUN_FILE = "run.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"


def read_run(folder: Path) -> Run:
    """The run of a run folder. Raises FileRefused where there is none or it cannot be read."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileRefused(f"a run folder with {RUN_FILE}", f"{folder}", "Start one with `stillmotion train`.")
    try:
        return Run.model_validate(json.loads(path.read_text(encoding="utf-8"))["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileRefused("the description of a run", f"{path}, which cannot be read: {error}", "Start a new run.") from error


def branch(begun: Path, folder: Path) -> None:
    """Hands what a run has come to to a folder that holds none yet: the run that starts there goes on from it, by stages of its own.

    begun: the folder of a run whose stages are the first ones of the other's. What it wrote down of its steps comes along.
    """
    shutil.copytree(begun / CHECKPOINTS, folder / CHECKPOINTS, dirs_exist_ok=True)
    shutil.copy(begun / METRICS, folder)


def load_data(run: Run, *, show: bool = True) -> Splits:
    """The data of a run. Raises UserError for options that the data set does not have."""
    return load_part(run.data, show=show)


def load_part(data: Part, *, show: bool = True) -> Splits:
    """A data set by its name and options. Raises UserError for a name that is not registered and for options that it does not have."""
    load = resolve(DATA, data.name)
    try:
        signature(load).bind(**data.options)
    except TypeError as error:
        raise UserError(f"options of the data set {data.name}", str(error), "See docs/data.md.") from error
    with warnings.catch_warnings():
        warnings.simplefilter("default" if show else "ignore")
        splits: Splits = load(**data.options)
    return splits


def frame_spec(run: Run) -> FrameSpec:
    """How frames must be read for the model of this run: as its options say, or else as its data set is read by default."""
    names = ("size", "fit", "grey", "stride", "fps")
    usual = {name: parameter.default for name, parameter in signature(resolve(DATA, run.data.name)).parameters.items()}
    given = usual | run.data.options
    return FrameSpec(**{name: given[name] for name in names if name in given})
