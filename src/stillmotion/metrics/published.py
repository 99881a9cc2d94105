"""Published numbers, from one data file: who measured what, under which protocol, on which clips, and where it is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, model_validator

from stillmotion.metrics.protocols import PROTOCOLS, protocol_of, unit_of

FILE = "published.json"
VERSIONS = {"sprites": "standard"}
"""Of data sets that come in several, the one that is meant where none is named."""
Text = Annotated[str, MinLen(1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Entry):
    """A data set and its version, empty where there is but one."""

    name: Text
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.version})" if self.version else self.name


class Source(_Entry):
    """Where a number is printed."""

    paper: Text
    table: Text

    def __str__(self) -> str:
        return f"{self.paper}, {self.table}"


class Row(_Entry):
    """What was published of one method. figures: name -> value, shares as fractions, entropies and bounds in nats.

    differs: in what it was measured otherwise than ours under the same names; `published` leaves such a row out, and a table that shows
    it all the same says below it that it was measured otherwise. note: what a reader should know, printed below the table.
    """

    protocol: Text
    method: Text
    data: Data
    source: Source
    figures: Annotated[dict[str, float], MinLen(1)]
    differs: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _of_one_protocol(self) -> Row:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"{self.method}: no protocol {self.protocol!r}")
        for name, value in self.figures.items():
            if protocol_of(name) != self.protocol:
                raise ValueError(f"{self.method}: {name} is a figure of {protocol_of(name)}, not of {self.protocol}")
            if unit_of(name) == "share" and not 0 <= value <= 1:
                raise ValueError(f"{self.method}: {name} is a share and must be between 0 and 1, got {value}")
        return self


class _Published(_Entry):
    rows: tuple[Row, ...]


@cache
def every_row() -> tuple[Row, ...]:
    """All of the data file, in its order."""
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return _Published.model_validate_json(text).rows


def published(protocol: str, data: Data) -> list[Row]:
    """What was measured on the same data under the same protocol as ours."""
    return [row for row in every_row() if row.protocol == protocol and row.data == data and not row.differs]


def data_of(name: str, options: Mapping[str, Any]) -> Data:
    """Which published data set a run's data is."""
    return Data(name=name, version=str(options.get("version", VERSIONS.get(name, ""))))


def sources(rows: Sequence[Row]) -> list[str]:
    """Where numbers are printed and what to know of them; methods of which the same is to be said share a sentence."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(f"{row.source}. {row.note}".strip(), []).append(row.method)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in methods.items()]
