"""Compile: from the text of a graph to the end of its first training step, against the number of nodes."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dags import chain_dag, layered_dag
from benchmarks.frame.benchmark import Benchmark, Request
from benchmarks.frame.plot import Lines, Plot, Series
from benchmarks.frame.result import PeerFacts, Record, Result
from benchmarks.frame.run import result_of
from benchmarks.frame.table import Table
from benchmarks.frame.team import PeerError, Worker
from benchmarks.frame.text import ABSENT, conditions, seconds_text
from benchmarks.frame.verdict import Verdict
from benchmarks.worker.peers import ENGINE
from benchmarks.worker.with_graphengine import graph_of

__all__ = ["COMPILE_BENCHMARK", "measure_sizes"]

COLD = "graphengine-numba-cold"
"""The same peer where nothing is in its cache on disk, and nothing has been loaded by the process."""

_BACKEND, _NODE, _FLAT = "graphengine-numpy", 200.0, 2.0
"""Whose goals they are; microseconds a node at most; how many times as many at one size as at another, at most."""

_NOTES = (
    "Seconds from the text of a graph to the end of its first step, divided by its forward nodes (leaves not counted).",
    f"The process has compiled a small graph before, so that imports are no part of it; but {COLD!r} has not, and its "
    "cache is empty: it imports and compiles all that it needs.",
)

_ROWS: Mapping[str, Callable[[int], dict[str, Any]]] = {"chain": chain_dag, "layers": layered_dag}
_SIZES = (100, 1_000, 10_000, 100_000)
_SMALL = 20
"""Nodes of the graph that comes before the one that is timed: what is loaded once for all is no part of its time."""
_REPEATS, _AGAIN = 3, 5.0
"""Times that a graph is compiled, if it takes fewer seconds than this."""
_WHOLE = 3.0
"""How many times as long as is asked for a graph may take before its process is ended."""


def measure(request: Request) -> Result:
    """All sizes of the chosen kinds of graph."""
    return measure_sizes(request, _SIZES)


def measure_sizes(request: Request, sizes: Sequence[int]) -> Result:
    """Every peer on graphs of these sizes, ascending, up to the first that takes longer than `request.seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(request, Path(folder))
        records = [record for row in request.rows for record in run.row(row, sizes)]
        return result_of("compile", request, run.facts, records)


@dataclass(slots=True)
class _Run:
    """What is asked, where graphs are written, and who has been met."""

    request: Request
    folder: Path
    facts: dict[str, PeerFacts] = field(default_factory=dict)
    gone: dict[tuple[str, str], str] = field(default_factory=dict)
    """By peer and row why it goes no further."""

    def row(self, row: str, sizes: Sequence[int]) -> Iterator[Record]:
        """A record for every size and peer."""
        for size in sizes:
            dag = _ROWS[row](size)
            for peer in self.request.peers:
                self.request.say(f"{row}, {size:,} nodes: {peer}")
                if not self.facts.get(peer, PeerFacts()).missing:
                    yield self._record(row, peer, size, dag)

    def _record(self, row: str, peer: str, size: int, dag: dict[str, Any]) -> Record:
        note, figures = self.gone.get((peer, row), ""), {}
        if not note:
            try:
                figures = self._figures(row, peer, dag)
            except PeerError as reason:
                note = self.gone[peer, row] = f"{reason} at {size:,} nodes"
            else:
                if figures["seconds"] > self.request.seconds:
                    self.gone[peer, row] = f"not tried after {size:,} nodes took {figures['seconds']:.0f} s"
        return Record(row=row, peer=peer, size=len(dag["nodes"]), figures=figures, note=note)

    def _figures(self, row: str, peer: str, dag: dict[str, Any]) -> dict[str, float]:
        text, small = self._written(peer, dag, "graph"), self._written(peer, _ROWS[row](_SMALL), "small")
        worker = self._worker(peer)
        try:
            limit = _WHOLE * self.request.seconds
            if peer != COLD:
                worker.ask("first", limit, text=small)
            seconds = [worker.ask("first", limit, text=text)["seconds"]]
            while peer != COLD and len(seconds) < _REPEATS and seconds[0] < _AGAIN:
                seconds.append(worker.ask("first", limit, text=text)["seconds"])
        finally:
            worker.close()
        return {"seconds": statistics.median(seconds), "repeats": len(seconds)}

    def _written(self, peer: str, dag: dict[str, Any], name: str) -> str:
        """The file of a graph: the engine's own documents for the engine, the list of nodes for others."""
        kind = "engine" if _base(peer) in ENGINE else "list"
        path = self.folder / f"{name}-{kind}.json"
        if kind == "engine":
            feeds = {name: np.empty(shape, np.float32) for name, shape in dag["feeds"]}
            path.write_text(graph_of("dag", dag, feeds).to_json(), encoding="utf-8")
        else:
            path.write_text(json.dumps(dag), encoding="utf-8")
        return str(path)

    def _worker(self, peer: str) -> Worker:
        """A process of its own for every figure; nothing that others have compiled is found on disk."""
        kept = self.folder / "kept"
        empty = tempfile.mkdtemp(dir=self.folder)
        environment = {
            "GRAPHENGINE_CACHE": empty if peer == COLD else str(kept),
            "TORCHINDUCTOR_CACHE_DIR": empty,
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        }
        try:
            worker = Worker.of(self.request, _base(peer), **environment)
        except PeerError as reason:
            self.facts.setdefault(peer, PeerFacts(missing=str(reason)))
            raise
        self.facts.setdefault(peer, worker.facts)
        return worker


def _base(peer: str) -> str:
    """Which of the peers that a worker knows it is."""
    return peer.removesuffix("-cold")


def tables(result: Result) -> Sequence[Table]:
    """For each kind of graph, its sizes by the peers."""
    peers = result.measured()

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


COMPILE_BENCHMARK = Benchmark(
    name="compile",
    about="seconds from the text of a graph to the end of the first step, for 100 to 100,000 nodes",
    rows=tuple(_ROWS),
    peers=("graphengine-numpy", "graphengine-numba", COLD, "torch-compile", "jax"),
    seconds=60.0,
    measure=measure,
    tables=tables,
    plots=plots,
    verdicts=verdicts,
)
