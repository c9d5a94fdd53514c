"""Start: a network of the zoo from its graph to the end of its first training step, in a new process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.frame.benchmark import Benchmark, Request
from benchmarks.frame.plot import Dots, Plot
from benchmarks.frame.result import PeerFacts, Record, Result
from benchmarks.frame.run import result_of
from benchmarks.frame.table import Table
from benchmarks.frame.team import THREADS, PeerError, Worker
from benchmarks.frame.text import ABSENT, conditions, seconds_text
from benchmarks.frame.verdict import Verdict
from benchmarks.over_forward import ZOO

__all__ = ["COLD", "NUMPY", "START_BENCHMARK", "WARM", "measure"]

NUMPY, COLD, WARM = "graphengine-numpy", "graphengine-numba-cold", "graphengine-numba-warm"
"""The NumPy backend; the numba backend where no machine code is on disk, and where all that it needs is."""

_LIMITS = {COLD: 5.0, WARM: 0.3}
"""Seconds that the median may be at most."""

_NOTES = (
    "Seconds of compiling a graph and making its first step, in a new process: median (minimum). The clock starts when "
    "the engine is imported and the graph and its batch are in memory; what compiling imports counts.",
    f"{COLD!r} finds an empty store of machine code, {WARM!r} what a process before it has stored.",
)

_SCRIPT = Path(__file__).parent / "worker" / "first_step.py"
_HERE = Path(__file__).parents[1]
_BATCH = 16
_LEAST = {NUMPY: 3, COLD: 1, WARM: 5}
"""Processes that are started for each figure, however long they take."""
_LIMIT = 300.0
"""Seconds that a process may take."""
_BACKENDS: Mapping[str, str] = {NUMPY: "numpy", COLD: "numba", WARM: "numba"}


def measure(request: Request) -> Result:
    """Every peer that is there on every chosen network."""
    facts = {peer: _facts(request, peer) for peer in request.peers}
    there = [peer for peer in request.peers if not facts[peer].missing]
    with tempfile.TemporaryDirectory() as folder:
        networks = [_Network(request, row, Path(folder) / row) for row in request.rows]
        for peer in there:
            networks[0].rehearse(peer)
        records = [network.record(peer) for network in networks for peer in there]
        return result_of("start", request, facts, records)


def _facts(request: Request, peer: str) -> PeerFacts:
    try:
        worker = Worker.of(request, _base(peer))
    except PeerError as reason:
        return PeerFacts(missing=str(reason))
    with contextlib.closing(worker):
        return worker.facts


def _base(peer: str) -> str:
    """Which of the peers that a worker knows it is."""
    return f"graphengine-{_BACKENDS[peer]}"


@dataclass(slots=True)
class _Network:
    """One network of the zoo, and the folder of its graph, its batch and the machine code that is kept."""

    request: Request
    row: str
    folder: Path

    def __post_init__(self) -> None:
        network = replace(ZOO[self.row], batch=_BATCH)
        graph = network.build()
        self.folder.mkdir()
        (self.folder / "graph.json").write_text(graph.to_json(), encoding="utf-8")
        np.savez(self.folder / "feeds.npz", allow_pickle=False, **network.feeds(graph))

    def rehearse(self, peer: str) -> None:
        """A start that does not count, so that the files of the engine are in the system's cache."""
        self.request.say(f"{peer} is read")
        with contextlib.suppress(PeerError):  # which will come again, and be told
            self._start(peer)

    def record(self, peer: str) -> Record:
        """The seconds of all starts, for as long as is asked for."""
        self.request.say(f"{self.row}: {peer}")
        try:
            samples = self._samples(peer)
        except PeerError as reason:
            return Record(row=self.row, peer=peer, note=str(reason))
        figures = {"minimum": min(samples), "median": statistics.median(samples), "samples": len(samples)}
        return Record(row=self.row, peer=peer, figures=figures)

    @property
    def _store(self) -> Path:
        return self.folder / "store"

    def _samples(self, peer: str) -> list[float]:
        samples: list[float] = []
        end = time.perf_counter() + self.request.seconds
        if peer == WARM and not self._store.exists():
            self._start(peer)  # fills it
        while len(samples) < _LEAST[peer] or time.perf_counter() < end:
            if peer == COLD:
                shutil.rmtree(self._store, ignore_errors=True)
            samples.append(self._start(peer))
        return samples

    def _start(self, peer: str) -> float:
        """The seconds that a new process tells. Raises PeerError."""
        threads = str(self.request.threads or "")
        files = [str(self.folder / name) for name in ("graph.json", "feeds.npz")]
        python = self.request.pythons.get(_base(peer), sys.executable)
        command = [python, str(_SCRIPT), _BACKENDS[peer], str(_HERE), *files]
        limits = dict.fromkeys(THREADS, threads) if threads else {}
        environment = {**os.environ, **limits, "GRAPHENGINE_CACHE": str(self._store)}
        try:
            done = subprocess.run(
                [*command, *([threads] if threads else [])],
                capture_output=True,
                encoding="utf-8",
                env=environment,
                timeout=_LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise PeerError(f"not done after {_LIMIT:g} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise PeerError(lines[-1] if lines else f"exit code {done.returncode}")
        return float(json.loads(done.stdout)["seconds"])


def tables(result: Result) -> Sequence[Table]:
    """Seconds by network and peer."""
    peers = result.measured()
    rows = tuple((row, *(_cell(result.find(row, peer)) for peer in peers)) for row in result.rows())
    return [Table("From a graph to its first step", ("network", *peers), rows, (*_NOTES, *conditions(result)))]


def _cell(record: Record | None) -> str:
    if record is None or not record.figures:
        return ABSENT
    median, minimum = (seconds_text(record.figures[name]) for name in ("median", "minimum"))
    return f"{median} ({minimum})" if record.figures["samples"] > 1 else median


def plots(result: Result) -> Sequence[Plot]:
    """Median seconds, all peers on each network."""
    shown = result.by_peer("median")
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


START_BENCHMARK = Benchmark(
    name="start",
    about="seconds to compile a network of the zoo and make its first step, with and without machine code on disk",
    rows=tuple(ZOO),
    peers=tuple(_BACKENDS),
    seconds=1.0,
    measure=measure,
    tables=tables,
    plots=plots,
    verdicts=verdicts,
)
