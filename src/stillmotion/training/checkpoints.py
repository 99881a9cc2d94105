"""Checkpoints: safetensors and JSON, written beside their name, verified, renamed; the one before is kept until then."""

from __future__ import annotations

import errno
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stillmotion.core.errors import FileRefused, UserError

MANIFEST = "checkpoints.json"
REMEDY = "Restore it, or train anew in another folder."


class Checkpoint(NamedTuple):
    """tensors by name; facts: what JSON can hold (stage, step, learning-rate factor, ...)."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, step: int) -> Path:
    """Writes step `step` and forgets all but the one before it.

    Raises UserError where the disk is full; earlier checkpoints then stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:08d}.safetensors"
    partial = final.with_suffix(".partial")
    try:
        tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
        save_file(tensors, partial, metadata={"facts": json.dumps(checkpoint.facts)})
        _sync(partial)
        entry = {"file": final.name, "sha256": _hash(partial), "step": step}
        os.replace(partial, final)
        kept = [old for old in _manifest(folder) if old["step"] < step][-1:]
        write_text(folder / MANIFEST, json.dumps([*kept, entry], indent=1))
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise UserError("room for a checkpoint", f"a full disk at {folder}", "Free some space, then resume the run.") from error
        raise
    names = {entry["file"], *(old["file"] for old in kept)}
    for stale in folder.glob("step-*"):
        if stale.name not in names:
            stale.unlink()
    return final


def load(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose hash is right; None where there is none yet.

    Raises FileRefused where all that are named are damaged.
    """
    entries = _manifest(folder)
    for entry in reversed(entries):
        path = folder / entry["file"]
        if path.is_file() and _hash(path) == entry["sha256"]:
            with safe_open(path, "pt") as file:
                return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["facts"]))  # noqa: SIM118
    if entries:
        names = ", ".join(str(folder / entry["file"]) for entry in entries)
        raise FileRefused("a checkpoint as it was written", f"missing or damaged files: {names}", REMEDY)
    return None


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    _sync(partial)
    os.replace(partial, path)


def _manifest(folder: Path) -> list[dict[str, Any]]:
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [{"file": str(entry["file"]), "sha256": entry["sha256"], "step": int(entry["step"])} for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise FileRefused("a list of checkpoints", f"{path}, which cannot be read", REMEDY) from error


def _hash(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
