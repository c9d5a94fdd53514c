"""Compile: from the text of a graph to the end of its first training step, against the number of nodes."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graphengine.bench.compile_show import COLD, plots, tables, verdicts
from graphengine.bench.dags import chain_dag, layered_dag
from graphengine.bench.frame.benchmark import Benchmark, Request
from graphengine.bench.frame.result import PeerFacts, Record, Result
from graphengine.bench.frame.run import result_of
from graphengine.bench.frame.team import PeerError, Worker
from graphengine.bench.worker.peers import ENGINE
from graphengine.bench.worker.with_graphengine import graph_of

__all__ = ["COMPILE_BENCHMARK", "measure_sizes"]

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
        python = self.request.pythons.get(_base(peer), sys.executable)
        try:
            worker = Worker(_base(peer), python, self.request.threads, **environment)
        except PeerError as reason:
            self.facts.setdefault(peer, PeerFacts(missing=str(reason)))
            raise
        self.facts.setdefault(peer, worker.facts)
        return worker


def _base(peer: str) -> str:
    """Which of the peers that a worker knows it is."""
    return peer.removesuffix("-cold")


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
