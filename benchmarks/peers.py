"""Peers: one full training step of ten networks, by this engine and by others, turn by turn in one run."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.frame.benchmark import Benchmark, Request
from benchmarks.frame.plot import Dots, Plot
from benchmarks.frame.result import Record, Result
from benchmarks.frame.run import result_of
from benchmarks.frame.table import Table
from benchmarks.frame.team import PeerError, Team
from benchmarks.frame.text import ABSENT, conditions, ratio_text, seconds_text
from benchmarks.frame.verdict import Verdict
from benchmarks.worker.case import Case, write_case
from benchmarks.worker.peers import ALONE, BLAS, ENGINE, PEERS
from benchmarks.workloads import WORKLOADS

__all__ = ["PEERS_BENCHMARK", "best_other", "mean_speed", "measure_cases", "speed", "spread"]

_ROUNDS = 10
_REST = 0.04
"""Seconds between turns: threads of the peer before spin a while on the cores before they sleep."""
_LOSSES = 10
_FIRST = 300.0
"""Seconds that compiling and the first steps may take."""


def measure(request: Request) -> Result:
    """Every peer on every row; the products alone where they are nearly all there is."""
    return measure_cases(request, {row: WORKLOADS[row].case() for row in request.rows})


def measure_cases(request: Request, cases: Mapping[str, Case]) -> Result:
    """Every peer on every case: the losses of the first steps, then turns of steps that are timed."""
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder, Team(request) as team:
        for row, case in cases.items():
            path = Path(folder) / f"{row}.npz"
            write_case(path, case)
            records += _Row(request, team, row, path).records()
        return result_of("peers", request, team.facts, records)


class _Row:
    """One case, and how far the peers have come with it. Who fails is out, with the reason; the others go on."""

    def __init__(self, request: Request, team: Team, row: str, path: Path) -> None:
        self.request, self.team, self.row, self.path = request, team, row, path
        self.playing = [peer for peer in team if peer != BLAS or row == "gemm"]
        self.losses: dict[str, list[float]] = {}
        self.samples: dict[str, list[float]] = {peer: [] for peer in self.playing}
        self.out: dict[str, str] = {}

    def records(self) -> list[Record]:
        """Measure, and tell of every peer, in the order in which they were asked for."""
        for peer in list(self.playing):
            self.request.say(f"{self.row}: {peer} makes its first steps")
            self._attempt(peer, self._begin)
        for turn in range(_ROUNDS):
            self.request.say(f"{self.row}: round {turn + 1} of {_ROUNDS}")
            start = turn % max(1, len(self.playing))  # each begins a round, so none always follows the same one
            for peer in [*self.playing[start:], *self.playing[:start]]:
                self._attempt(peer, self._turn)
        return [self._record(peer) for peer in self.samples]

    def _attempt(self, peer: str, what: Callable[[str], None]) -> None:
        try:
            what(peer)
        except PeerError as reason:
            self.playing.remove(peer)
            self.out[peer] = str(reason)

    def _begin(self, peer: str) -> None:
        worker = self.team[peer]
        worker.ask("prepare", _FIRST, path=str(self.path))
        self.losses[peer] = worker.ask("steps", _FIRST, count=_LOSSES)["losses"]
        worker.ask("warm", _FIRST, seconds=self.request.seconds / 5)

    def _turn(self, peer: str) -> None:
        time.sleep(_REST)
        seconds = self.request.seconds / _ROUNDS
        self.samples[peer] += self.team[peer].ask("time", _FIRST, seconds=seconds)["samples"]

    def _record(self, peer: str) -> Record:
        if peer in self.out:
            return Record(row=self.row, peer=peer, note=self.out[peer])
        samples, losses = self.samples[peer], self.losses[peer]
        late = statistics.quantiles(samples, n=100, method="inclusive")[98] if len(samples) > 1 else samples[0]
        figures = {"minimum": min(samples), "median": statistics.median(samples), "p99": late, "samples": len(samples)}
        if peer != BLAS:
            figures |= {"first_loss": losses[0], "last_loss": losses[-1]}
        return Record(row=self.row, peer=peer, figures=figures)


def tables(result: Result) -> Sequence[Table]:
    """Seconds a step, how late steps come, and how these compare."""
    return [_seconds(result), _late(result), _ratios(result)]


def _seconds(result: Result) -> Table:
    peers = result.measured()

    def cell(row: str, peer: str) -> str:
        median = result.figure(row, peer, "median")
        return seconds_text(median) + (f" ({seconds_text(result.figure(row, peer, 'minimum'))})" if median else "")

    rows = [(row, *(cell(row, peer) for peer in peers)) for row in result.rows()]
    return Table("One training step: median (minimum)", ("row", *peers), tuple(rows), tuple(conditions(result)))


def _late(result: Result) -> Table:
    """The time that one step in a hundred exceeds."""
    peers = result.measured()
    rows = [(row, *(seconds_text(result.figure(row, peer, "p99")) for peer in peers)) for row in result.rows()]
    return Table("One training step: 99th percentile", ("row", *peers), tuple(rows))


def _ratios(result: Result) -> Table:
    """How many times as fast this engine is as others."""
    columns = (
        "row",
        "numpy : torch",
        "numba : torch",
        "best other",
        "numba : best other",
        "numba : with one thread",
        "losses within",
    )

    def cells(row: str) -> tuple[str, ...]:
        best, apart = best_other(result, row), spread(result, row)
        pairs = (("graphengine-numpy", "torch"), ("graphengine-numba", "torch"), ("graphengine-numba", best))
        numpy, numba, against_best = (ratio_text(speed(result, row, *pair)) for pair in pairs)
        against_one = ratio_text(speed(result, row, "graphengine-numba", ALONE))
        within = ABSENT if apart is None else f"{apart:.0e}"
        return (row, numpy, numba, best or ABSENT, against_best, against_one, within)

    numpy, numba = (ratio_text(mean_speed(result, f"graphengine-{name}", ["torch"])) for name in ("numpy", "numba"))
    mean = ("geometric mean", numpy, numba, "", ratio_text(mean_speed(result, "graphengine-numba", OTHERS)), "", "")
    return Table("How many times as fast", columns, (*map(cells, result.rows()), mean), _NOTES)


_NOTES = (
    "Ratios are of medians: 2x is half the time.",
    "The losses of all engines after ten steps lie within this part of the greatest loss.",
)


def plots(result: Result) -> Sequence[Plot]:
    """Seconds a step, all peers on each row."""
    shown = result.by_peer("median")
    return [Dots("peers", "One training step, float32", "median seconds a step", result.rows(), shown, unit="s")]


OTHERS = tuple(name for name in PEERS if name not in ENGINE and name != BLAS)
"""The other engines."""

_AGREE = 1e-3
"""By how much losses after ten steps may differ, relative to the greatest: float32, summed in other orders."""
_PRODUCTS = 1.1
"""How many times as long as its products alone the step may take that is nearly all products."""
_SHARED = 1.1
"""How many times as long a step may take with all threads as with one, however busy the machine is."""


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times as fast a backend is to be, at least."""

    backend: str
    others: tuple[str, ...]
    against: str
    """The others in words."""
    each: float
    """On each row."""
    mean: float
    """In the geometric mean of all rows."""


GOALS = (
    Goal("graphengine-numba", OTHERS, "the best peer", each=1.0, mean=1.5),
    Goal("graphengine-numpy", ("torch",), "torch, eager", each=0.5, mean=1.0),
)


def speed(result: Result, row: str, peer: str, other: str | None) -> float | None:
    """How many times as fast `peer` is as `other`, by the medians; None if one was not measured."""
    ours = result.figure(row, peer, "median")
    theirs = result.figure(row, other, "median") if other else None
    return theirs / ours if ours and theirs else None


def best_other(result: Result, row: str, others: Sequence[str] = OTHERS) -> str | None:
    """The fastest of the others on a row."""
    medians = {peer: result.figure(row, peer, "median") for peer in others}
    measured = {peer: median for peer, median in medians.items() if median is not None}
    return min(measured, key=measured.__getitem__, default=None)


def mean_speed(result: Result, peer: str, others: Sequence[str]) -> float | None:
    """The geometric mean of the speeds against the best of `others`, over the rows where both were measured."""
    speeds = [speed(result, row, peer, best_other(result, row, others)) for row in result.rows()]
    known = [value for value in speeds if value is not None]
    return math.exp(math.fsum(map(math.log, known)) / len(known)) if known else None


def spread(result: Result, row: str) -> float | None:
    """The greatest difference between two peers' losses after the same steps, relative to the greatest loss."""
    figures = [record.figures for record in result.among(row=row) if "last_loss" in record.figures]
    last = [entry["last_loss"] for entry in figures]
    greatest = max((abs(entry[name]) for entry in figures for name in ("first_loss", "last_loss")), default=0.0)
    return (max(last) - min(last)) / greatest if len(last) > 1 and greatest else None


def verdicts(result: Result) -> list[Verdict]:
    """Every goal on every row, as far as those it speaks of were asked for."""
    return [
        *(verdict for goal in GOALS for verdict in _of_speed(result, goal)),
        *_of_products(result),
        *_of_threads(result),
        *_of_losses(result),
    ]


def _of_speed(result: Result, goal: Goal) -> Iterator[Verdict]:
    if goal.backend not in result.peers or not set(goal.others) & set(result.peers):
        return
    words = f"{goal.backend} against {goal.against}"
    for row in result.rows():
        value = speed(result, row, goal.backend, best_other(result, row, goal.others))
        why = _why(result, row, goal.backend, *goal.others)
        yield Verdict(words, row, value, goal.each, at_least=True, why=why)
    value = mean_speed(result, goal.backend, goal.others)
    why = _why(result, "", goal.backend, *goal.others)
    yield Verdict(f"{words}, geometric mean", "all rows", value, goal.mean, at_least=True, why=why)


def _of_products(result: Result) -> Iterator[Verdict]:
    """The row that is nearly all products, which BLAS makes."""
    backend, row = "graphengine-numba", "gemm"
    if row in result.rows() and backend in result.peers and BLAS in result.peers:
        value, why = speed(result, row, BLAS, backend), _why(result, row, backend, BLAS)
        yield Verdict(f"{backend} against its matrix products alone", row, value, _PRODUCTS, at_least=False, why=why)


def _of_threads(result: Result) -> Iterator[Verdict]:
    if "graphengine-numba" not in result.peers or ALONE not in result.peers:
        return
    for row in result.rows():
        value, why = speed(result, row, ALONE, "graphengine-numba"), _why(result, row, "graphengine-numba", ALONE)
        yield Verdict("all threads against one", row, value, _SHARED, at_least=False, why=why)


def _of_losses(result: Result) -> Iterator[Verdict]:
    for row in result.rows():
        value = spread(result, row)
        if value is not None:
            yield Verdict("losses differ by", row, value, _AGREE, at_least=False, unit="")


def _why(result: Result, row: str, *peers: str) -> str:
    """What stands in the way of a figure."""
    absent = [f"{peer}: {result.peers[peer].missing}" for peer in peers if peer in result.peers]
    failed = [f"{record.peer}: {record.note}" for record in result.among(row=row) if record.peer in peers]
    return "; ".join(text for text in [*absent, *failed] if not text.endswith(": ")) or "nothing to compare with"


PEERS_BENCHMARK = Benchmark(
    name="peers",
    about="one full training step against PyTorch, JAX and autograd, on ten networks",
    rows=tuple(WORKLOADS),
    peers=tuple(PEERS),
    seconds=5.0,
    measure=measure,
    tables=tables,
    plots=plots,
    verdicts=verdicts,
)
