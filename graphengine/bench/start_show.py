"""How the seconds to the first step look, and what they are to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphengine.bench.frame.plot import Dots, Plot
from graphengine.bench.frame.result import Record, Result
from graphengine.bench.frame.table import Table
from graphengine.bench.frame.text import ABSENT, conditions, seconds_text
from graphengine.bench.frame.verdict import Verdict

__all__ = ["COLD", "NUMPY", "WARM", "plots", "tables", "verdicts"]

NUMPY, COLD, WARM = "graphengine-numpy", "graphengine-numba-cold", "graphengine-numba-warm"
"""The NumPy backend; the numba backend where no machine code is on disk, and where all that it needs is."""

_LIMITS = {COLD: 5.0, WARM: 0.3}
"""Seconds that the median may be at most."""

_NOTES = (
    "Seconds of compiling a graph and making its first step, in a new process: median (minimum). The clock starts when "
    "the engine is imported and the graph and its batch are in memory; what compiling imports counts.",
    f"{COLD!r} finds an empty store of machine code, {WARM!r} what a process before it has stored.",
)


def tables(result: Result) -> Sequence[Table]:
    """Seconds by network and peer."""
    peers = [peer for peer, facts in result.peers.items() if not facts.missing]
    rows = tuple((row, *(_cell(result.find(row, peer)) for peer in peers)) for row in result.rows())
    return [Table("From a graph to its first step", ("network", *peers), rows, (*_NOTES, *conditions(result)))]


def _cell(record: Record | None) -> str:
    if record is None or not record.figures:
        return ABSENT
    median, minimum = (seconds_text(record.figures[name]) for name in ("median", "minimum"))
    return f"{median} ({minimum})" if record.figures["samples"] > 1 else median


def plots(result: Result) -> Sequence[Plot]:
    """Median seconds, all peers on each network."""
    peers = {
        peer: {record.row: record.figures["median"] for record in result.among(peer=peer) if record.figures}
        for peer in result.peers
    }
    shown = {peer: medians for peer, medians in peers.items() if medians}
    title, label = "From a graph to its first step", "median seconds to compile and make one step"
    return [Dots("start", title, label, result.rows(), shown, unit="s")] if shown else []


def verdicts(result: Result) -> Sequence[Verdict]:
    """The limits of the numba backend on each network, as far as it was asked for."""
    return [verdict for peer in _LIMITS if peer in result.peers for verdict in _of(result, peer)]


def _of(result: Result, peer: str) -> Iterator[Verdict]:
    for row in result.rows():
        record = result.find(row, peer)
        value, why = result.figure(row, peer, "median"), record.note if record else result.peers[peer].missing
        yield Verdict(f"{peer}, first step", row, value, _LIMITS[peer], at_least=False, unit=" s", why=why)
