"""The registered models, judges and data sets by name. Adding one is a line here; nothing is imported until it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from stillmotion.core.errors import UserError

MODELS: dict[str, str] = {
    "vdsm": "stillmotion.models.vdsm:VDSM",
    "dsa": "stillmotion.models.dsa:DSA",
    "kvae": "stillmotion.models.kvae:KVAE",
    "dmm": "stillmotion.models.dmm:DMM",
    "dvbf": "stillmotion.models.dvbf:DVBF",
    "ae_rnn": "stillmotion.models.ae_rnn:AERNN",
    "vae_rnn": "stillmotion.models.vae_rnn:VAERNN",
    "srnn": "stillmotion.models.srnn:SRNN",
}

JUDGES: dict[str, str] = {
    "judge": "stillmotion.metrics.judge:Judge",
}

DATA: dict[str, str] = {
    "pendula": "stillmotion.data.pendula:load",
    "digits": "stillmotion.data.digits:load",
    "sprites": "stillmotion.data.sprites:load",
    "box": "stillmotion.data.balls:box",
    "gravity": "stillmotion.data.balls:gravity",
    "polygon": "stillmotion.data.balls:polygon",
    "pong": "stillmotion.data.pong:load",
    "torque": "stillmotion.data.torque:load",
    "mug": "stillmotion.data.mug:load",
    "videos": "stillmotion.data.videos:load",
}


def resolve(registry: Mapping[str, str], name: str) -> Any:
    """The object registered as `name`. Raises UserError with the known names."""
    if name not in registry:
        raise UserError(f"one of {', '.join(sorted(registry))}", repr(name), "Check the spelling.")
    module, attribute = registry[name].split(":")
    return getattr(import_module(module), attribute)
