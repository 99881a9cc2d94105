"""What a user changes in a recipe: options from the command line and from a YAML file, validated like the run itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stillmotion.core.errors import UserError
from stillmotion.training.settings import Run

EXAMPLE = "for example  model: {static: 24}  stages: {poses: {steps: 8000}}  seed: 1"


def override(run: Run, changes: dict[str, Any]) -> Run:
    """The run with `changes`: run settings by name; `model` and `data`: options; `stages`: stage name -> settings.

    Raises UserError for keys and values that do not exist.
    """
    whole = run.model_dump(mode="json")
    for key, value in changes.items():
        if key in ("model", "data"):
            whole[key]["options"] |= _mapping(key, value)
        elif key == "stages":
            _change_stages(whole["stages"], _mapping(key, value))
        else:
            whole[key] = value
    try:
        return Run.model_validate(whole)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError("settings of a run", f"{where} = {first.get('input')!r} ({first['msg']})", f"Write {EXAMPLE}.") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError where there is none or it is no mapping."""
    try:
        changes = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError("a YAML file of settings", f"{path}, which cannot be read: {error}") from error
    return _mapping(str(path), changes or {})


def _change_stages(stages: list[dict[str, Any]], changes: dict[str, Any]) -> None:
    names = [stage["name"] for stage in stages]
    for name, settings in changes.items():
        if name not in names:
            raise UserError(f"a stage of this run: {', '.join(names)}", repr(name))
        stage = stages[names.index(name)]
        for key, value in _mapping(name, settings).items():
            stage[key] = stage[key] | value if isinstance(value, dict) and isinstance(stage.get(key), dict) else value


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"a mapping for {name}", f"{value!r}", f"Write {EXAMPLE}.")
    return value
