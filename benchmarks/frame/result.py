"""What a benchmark measured, on what machine, of whom: the JSON that is kept, compared and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphengine.errors import SpecError

__all__ = ["Machine", "PeerFacts", "Record", "Result", "read_result"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(_Document):
    """Where it was run."""

    processor: str
    cores: int
    memory_bytes: int
    system: str


class PeerFacts(_Document):
    """Who was measured: by which Python, with which versions; or why not at all."""

    versions: dict[str, str] = {}
    blas: str = ""
    threads: int = 0
    missing: str = ""
    """The reason why it was not measured; empty if it was."""


class Record(_Document):
    """Some figures of one peer on one row, and at one size where a row has several."""

    row: str
    peer: str
    """An engine, or a way of computing: whatever is set beside others."""
    size: int | None = None
    figures: dict[str, float] = {}
    """Named with their unit where it is no second: "minimum", "median", "flops", "peak_bytes"."""
    note: str = ""
    """What a reader has to know of the figures: that they are scaled from a sample, or why there are none."""


class Result(_Document):
    """One run of one benchmark."""

    format: Literal["graphengine-bench"] = "graphengine-bench"
    version: Literal[1] = 1
    benchmark: str
    day: str
    """The date, as 2025-12-31."""
    machine: Machine
    seconds: float
    """What was to be spent on one peer and row."""
    threads: int | None = None
    """What every peer was limited to; None for its own default."""
    busy: int = 0
    """How many other processes computed without end meanwhile."""
    peers: dict[str, PeerFacts] = Field(default_factory=dict)
    """All that were asked for."""
    records: tuple[Record, ...] = ()

    def rows(self) -> tuple[str, ...]:
        """The rows that have records, in the order in which they were measured."""
        return tuple(dict.fromkeys(record.row for record in self.records))

    def measured(self) -> list[str]:
        """The peers that were there."""
        return [peer for peer, facts in self.peers.items() if not facts.missing]

    def by_peer(self, name: str) -> dict[str, dict[str, float]]:
        """One figure of every peer on every row; a peer or a row that has none is left out."""
        found: dict[str, dict[str, float]] = {}
        for peer in self.peers:
            values = {record.row: record.figures[name] for record in self.among(peer=peer) if name in record.figures}
            found |= {peer: values} if values else {}
        return found

    def find(self, row: str, peer: str, size: int | None = None) -> Record | None:
        """The record of this row, peer and size."""
        return next(self.among(row=row, peer=peer, size=size), None)

    def figure(self, row: str, peer: str, name: str, size: int | None = None) -> float | None:
        """One figure; None if it was not measured."""
        record = self.find(row, peer, size)
        return record.figures.get(name) if record else None

    def among(self, **wanted: str | int | None) -> Iterator[Record]:
        """The records whose fields have these values."""
        items = wanted.items()
        return (record for record in self.records if all(getattr(record, name) == value for name, value in items))

    def to_json(self) -> str:
        """The document, a figure a line, so that two runs can be compared by eye and by diff."""
        return self.model_dump_json(indent=2) + "\n"


def read_result(path: Path) -> Result:
    """The result that a file holds. Raises OSError or SpecError."""
    try:
        return Result.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "/".join(map(str, first["loc"])) or "the document"
        raise SpecError(f"{path}: not the result of a benchmark: {place}: {first['msg']}") from None
