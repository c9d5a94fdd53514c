"""How compile times look, and what they are to be."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.bench.frame.plot import Lines, Plot, Series
from graphengine.bench.frame.result import Record, Result
from graphengine.bench.frame.table import Table
from graphengine.bench.frame.text import ABSENT, conditions, seconds_text
from graphengine.bench.frame.verdict import Verdict

__all__ = ["COLD", "plots", "tables", "verdicts"]

COLD = "graphengine-numba-cold"
"""The same peer where nothing is in its cache on disk, and nothing has been loaded by the process."""

_BACKEND, _NODE, _FLAT = "graphengine-numpy", 200.0, 2.0
"""Whose goals they are; microseconds a node at most; how many times as many at one size as at another, at most."""

_NOTES = (
    "Seconds from the text of a graph to the end of its first step, divided by its forward nodes (leaves not counted).",
    f"The process has compiled a small graph before, so that imports are no part of it; but {COLD!r} has not, and its "
    "cache is empty: it imports and compiles all that it needs.",
)


def tables(result: Result) -> Sequence[Table]:
    """For each kind of graph, its sizes by the peers."""
    peers = [peer for peer, facts in result.peers.items() if not facts.missing]

    def cell(record: Record | None) -> str:
        if record is None or "seconds" not in record.figures:
            return ABSENT
        return f"{seconds_text(record.figures['seconds'])} ({seconds_text(_a_node(record))})"

    shown = []
    for row in result.rows():
        sizes = sorted({record.size for record in result.among(row=row) if record.size})
        rows = tuple((f"{size:,}", *(cell(result.find(row, peer, size)) for peer in peers)) for size in sizes)
        title = f"{row}: seconds to the end of the first step (of each node)"
        shown.append(Table(title, ("nodes", *peers), rows, (*_NOTES, *conditions(result))))
    return shown


def plots(result: Result) -> Sequence[Plot]:
    """Seconds of a node against nodes, for each kind of graph."""
    return [_plot(result, row) for row in result.rows()]


def _plot(result: Result, row: str) -> Plot:
    series = []
    for peer in result.peers:
        points = [(float(record.size or 0), _a_node(record)) for record in _timed(result, row, peer)]
        if points:
            series.append(Series(peer, tuple(points)))
    return Lines(
        name=f"compile-{row}",
        title=f"From the text of a graph to its first step: {row}",
        x="forward nodes of the graph",
        y="seconds a node",
        series=tuple(series),
        unit="s",
        limit=("goal of the NumPy backend", _NODE * 1e-6),
    )


def verdicts(result: Result) -> Sequence[Verdict]:
    """The NumPy backend's time of a node, at each size; and that it is much the same at all."""
    if _BACKEND not in result.peers:
        return []
    found = []
    for row in result.rows():
        timed = _timed(result, row, _BACKEND)
        for record in result.among(row=row, peer=_BACKEND):
            subject, value = f"{row}, {record.size:,} nodes", 1e6 * _a_node(record) if record in timed else None
            words = f"{_BACKEND}, a forward node"
            found.append(Verdict(words, subject, value, _NODE, at_least=False, unit=" us", why=record.note))
        nodes = [_a_node(record) for record in timed]
        ratio = max(nodes) / min(nodes) if nodes else None
        why = "" if nodes else "nothing was compiled"
        found.append(Verdict(f"{_BACKEND}, flat", row, ratio, _FLAT, at_least=False, why=why))
    return found


def _timed(result: Result, row: str, peer: str) -> list[Record]:
    return [record for record in result.among(row=row, peer=peer) if "seconds" in record.figures]


def _a_node(record: Record) -> float:
    return record.figures["seconds"] / (record.size or 1)
