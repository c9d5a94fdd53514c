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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from graphengine.bench.frame.benchmark import Benchmark, Request
from graphengine.bench.frame.result import PeerFacts, Record, Result
from graphengine.bench.frame.run import result_of
from graphengine.bench.frame.team import THREADS, PeerError, Worker
from graphengine.bench.over_forward import ZOO
from graphengine.bench.start_show import COLD, NUMPY, WARM, plots, tables, verdicts

__all__ = ["START_BENCHMARK", "measure"]

_SCRIPT = Path(__file__).parent / "worker" / "first_step.py"
_HERE = Path(__file__).parents[2]
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
        worker = Worker(_base(peer), _python(request, peer), request.threads)
    except PeerError as reason:
        return PeerFacts(missing=str(reason))
    with contextlib.closing(worker):
        return worker.facts


def _base(peer: str) -> str:
    """Which of the peers that a worker knows it is."""
    return f"graphengine-{_BACKENDS[peer]}"


def _python(request: Request, peer: str) -> str:
    return request.pythons.get(_base(peer), sys.executable)


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
        command = [_python(self.request, peer), str(_SCRIPT), _BACKENDS[peer], str(_HERE), *files]
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
