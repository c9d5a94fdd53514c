"""Memory: how far a process grows while it makes training steps, beside what the plan says, and what steps allocate."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.frame.benchmark import Benchmark, Request
from benchmarks.frame.plot import Dots, Plot
from benchmarks.frame.result import PeerFacts, Record, Result
from benchmarks.frame.run import result_of
from benchmarks.frame.table import Table
from benchmarks.frame.team import PeerError, Worker
from benchmarks.frame.text import bytes_text, conditions
from benchmarks.worker.case import Case, write_case
from benchmarks.worker.peers import ENGINE
from benchmarks.workloads import WORKLOADS

__all__ = ["MEMORY_BENCHMARK", "measure_cases"]

_ROWS = ("mnist", "wide", "gemm", "lenet", "lstm", "block", "elementwise")
"""Those whose steps take more than the noise of a process, which is about a megabyte."""
_STEPS = 5
_LIMIT = 600.0
"""Seconds that a peer may take."""


def measure(request: Request) -> Result:
    """All peers on the chosen rows."""
    return measure_cases(request, {row: WORKLOADS[row].case() for row in request.rows})


def measure_cases(request: Request, cases: Mapping[str, Case]) -> Result:
    """All peers on these cases, in a new process for each."""
    facts: dict[str, PeerFacts] = {}
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for row, case in cases.items():
            path = Path(folder) / f"{row}.npz"
            write_case(path, case)
            for peer in request.peers:
                request.say(f"{row}: {peer}")
                record = _record(request, peer, row, path, facts)
                records += [record] if record else []
    return result_of("memory", request, facts, records)


def _record(request: Request, peer: str, row: str, path: Path, facts: dict[str, PeerFacts]) -> Record | None:
    """What a peer takes; None if it is not there."""
    try:
        worker = Worker.of(request, peer)
    except PeerError as reason:
        facts.setdefault(peer, PeerFacts(missing=str(reason)))
        return None
    facts.setdefault(peer, worker.facts)
    with contextlib.closing(worker):
        try:
            return Record(row=row, peer=peer, figures=_figures(worker, path))
        except PeerError as reason:
            return Record(row=row, peer=peer, note=str(reason))


def _figures(worker: Worker, path: Path) -> dict[str, float]:
    grown = worker.ask("memory", _LIMIT, path=str(path), steps=_STEPS)
    figures = {"first_step_bytes": grown["first"], "step_bytes": grown["steady"]}
    if worker.peer in ENGINE:
        allocated = worker.ask("allocations", _LIMIT, steps=_STEPS)
        figures |= {"planned_bytes": worker.ask("peak", _LIMIT)["bytes"]}
        figures |= {"allocated_bytes": allocated["peak"], "left_bytes": allocated["left"]}
    return figures


def tables(result: Result) -> Sequence[Table]:
    """Bytes by row and peer; then what is known of the engine alone."""
    peers = result.measured()
    grown = tuple(
        (row, *(bytes_text(result.figure(row, peer, "step_bytes")) for peer in peers)) for row in result.rows()
    )
    shown = [Table("Memory of a step", ("row", *peers), grown, (*_NOTES, *conditions(result)))]
    for peer in peers:
        if peer in ENGINE:
            shown.append(_own(result, peer))
    return shown


_NOTES = (
    "How far the resident set of a new process grows at most, from where parameters and batch are in memory: over "
    f"{_STEPS} steps, after the first. All was run once before, so that a compiler's own memory is no part of it.",
)


def _own(result: Result, peer: str) -> Table:
    names = ("planned_bytes", "step_bytes", "first_step_bytes", "allocated_bytes", "left_bytes")
    rows = tuple(
        (row, *(bytes_text(result.figure(row, peer, name)) for name in names))
        for row in result.rows()
        if result.figure(row, peer, "step_bytes") is not None
    )
    columns = ("row", "planned", "grown", "with the first step", "allocated by steps", "left by them")
    notes = (
        "Planned is what the program says: the arena of all values and adjoints, and nothing of the leaves.",
        f"Allocated is the peak of what {_STEPS} steps allocate by Python's allocators and NumPy's, as tracemalloc has "
        "it; left is what of that is still there after them.",
    )
    return Table(f"Memory of {peer}", columns, rows, notes)


def plots(result: Result) -> Sequence[Plot]:
    """Bytes of a step, all peers on each row."""
    grown = {
        peer: {row: count for row, count in rows.items() if count > 0}
        for peer, rows in result.by_peer("step_bytes").items()
    }
    peers = {peer: rows for peer, rows in grown.items() if rows}
    return [Dots("memory", "Memory of one training step", "growth of the resident set", result.rows(), peers, unit="B")]


MEMORY_BENCHMARK = Benchmark(
    name="memory",
    about="peak bytes of a training step, and what steps allocate",
    rows=_ROWS,
    peers=("graphengine-numpy", "graphengine-numba", "torch", "torch-compile", "jax"),
    seconds=0.0,
    measure=measure,
    tables=tables,
    plots=plots,
)
