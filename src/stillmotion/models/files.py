"""A model as a folder: config.json and model.safetensors. Loading never runs code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from stillmotion import __version__
from stillmotion.core.abilities import Model
from stillmotion.core.errors import FileRefused, UserError
from stillmotion.core.registry import JUDGES, MODELS, resolve

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".tar")
KINDS: dict[str, type] = {"model": str, "options": dict, "facts": dict, "sha256": str}
INNER = "model"
"""Where a run folder keeps its final model."""


class Sort(NamedTuple):
    """What a folder may hold, and the command that makes one."""

    registry: Mapping[str, str]
    word: str
    command: str


SORTS = (Sort(MODELS, "model", "stillmotion train"), Sort(JUDGES, "judge", "stillmotion judge train"))


class Loaded(NamedTuple):
    """model: in eval mode, on the CPU. facts: what was written beside it (frame specification, number of frames, ...)."""

    model: Model
    facts: dict[str, Any]


def build(name: str, options: dict[str, Any], seed: int, registry: Mapping[str, str] = MODELS) -> Model:
    """A new model of a registered kind, its weights drawn from `seed`; the global generator is left as it was.

    Raises UserError for an unknown model and for options that it does not have.
    """
    kind = resolve(registry, name)
    try:
        config = kind.config_type.model_validate(options)
    except ValidationError as error:
        remedy = f"See docs/models/{name}.md for all of them." if registry is MODELS else ""  # only models have a page each
        raise UserError(f"options of {name}", _first(error), remedy) from error
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
        model: Model = kind(config)
    return model


def save(model: Model, folder: Path | str, **facts: Any) -> Path:
    """Writes the model and the facts given with it; an older model in the folder is replaced only when the new one is whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = bytes_of({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    config = {
        "format": 1, "stillmotion": __version__, "model": model.name, "options": model.config.model_dump(mode="json"), "facts": facts,
        "sha256": sha256(weights).hexdigest(),
    }
    for name, content in ((WEIGHTS, weights), (CONFIG, json.dumps(config, indent=1).encode())):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)
    return folder


def load(path: Path | str, registry: Mapping[str, str] = MODELS) -> Loaded:
    """The model of a model folder or a run folder; what it may be is said by the registry.

    Raises FileRefused, naming the file, for pickles, for folders without a model, for damaged files, for those of another program, and
    for a judge where a model is asked for, or the other way round.
    """
    sort = next((sort for sort in SORTS if sort.registry is registry), SORTS[0])
    folder = _folder(Path(path), sort)
    config = _config(folder / CONFIG)
    _check_sort(folder, config["model"], sort)
    weights = (folder / WEIGHTS).read_bytes() if (folder / WEIGHTS).is_file() else b""
    if sha256(weights).hexdigest() != config["sha256"]:
        raise FileRefused("weights as they were saved", f"{folder / WEIGHTS}, which is damaged or missing", "Copy the folder again.")
    try:
        model = build(config["model"], as_written(registry, config["model"], config["options"]), seed=0, registry=registry)
    except UserError as error:
        raise FileRefused(error.expected, f"{error.got} in {folder / CONFIG}", error.remedy) from error
    try:
        model.load_state_dict(tensors_of(weights))
    except (SafetensorError, RuntimeError) as error:
        raise FileRefused("weights of this model", f"{folder / WEIGHTS}, which holds others", str(error)[:200]) from error
    return Loaded(model.eval(), config["facts"])


def as_written(registry: Mapping[str, str], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a saved model, with what those that are younger than its file were then: all that a model has are saved."""
    return {**getattr(resolve(registry, name).config_type, "BEFORE", {}), **options}


def _folder(path: Path, sort: Sort) -> Path:
    if path.suffix.lower() in PICKLES:
        remedy = "Loading a pickle can run any code. Give a folder with config.json and model.safetensors."
        raise FileRefused(f"a {sort.word} folder", f"{path}, a pickle", remedy)
    for folder in (path, path / INNER):
        if (folder / CONFIG).is_file():
            return folder
    if (path / "run.json").is_file():
        resume = f"stillmotion resume {path}" if sort.registry is MODELS else sort.command
        raise FileRefused("a finished run", f"{path}, which has no {sort.word} yet", f"Go on with `{resume}`.")
    remedy = f"Train one with `{sort.command}`."
    raise FileRefused(f"the folder of a {sort.word} ({CONFIG} and {WEIGHTS}) or of its run", f"{path}", remedy)


def _check_sort(folder: Path, name: str, wanted: Sort) -> None:
    """A judge is no model and a model is no judge, although their folders look alike."""
    for sort in SORTS:
        if sort is not wanted and name in sort.registry and name not in wanted.registry:
            remedy = f"Give the folder of a {wanted.word}; `{wanted.command}` makes one."
            raise FileRefused(f"a {wanted.word}", f"{folder}, which holds a {sort.word}", remedy)


def _config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"format", *KINDS} - config.keys()
    except (ValueError, AttributeError) as error:
        raise FileRefused("the description of a model in JSON", f"{path}, which cannot be read", "Copy the folder again.") from error
    if missing or config["format"] != 1:
        got = f"{path}, which lacks {', '.join(sorted(missing))}" if missing else f"{path} of format {config['format']}"
        raise FileRefused("a model folder written by stillmotion, format 1", got, "Was it written by another program or a newer version?")
    odd = [name for name, kind in KINDS.items() if not isinstance(config[name], kind)]
    if odd:
        raise FileRefused("a model folder written by stillmotion", f"{path} with {odd[0]} = {config[odd[0]]!r}", "Copy the folder again.")
    return config


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic in one line."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} = {first.get('input')!r} ({first['msg']})"
