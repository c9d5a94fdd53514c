"""Peers: one full training step of ten networks, by this engine and by others, turn by turn in one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from graphengine.bench.frame.benchmark import Benchmark, Request
from graphengine.bench.frame.plot import Dots, Plot
from graphengine.bench.frame.result import Record, Result
from graphengine.bench.frame.run import result_of
from graphengine.bench.frame.table import Table
from graphengine.bench.frame.team import PeerError, Team
from graphengine.bench.frame.text import ABSENT, conditions, ratio_text, seconds_text
from graphengine.bench.peers_goals import OTHERS, best_other, mean_speed, speed, spread, verdicts
from graphengine.bench.worker.case import Case, write_case
from graphengine.bench.worker.peers import ALONE, BLAS, PEERS
from graphengine.bench.workloads import WORKLOADS

__all__ = ["PEERS_BENCHMARK", "measure_cases"]

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
    with tempfile.TemporaryDirectory() as folder, Team(request.peers, request.pythons, request.threads) as team:
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
    peers = [peer for peer, facts in result.peers.items() if not facts.missing]

    def cell(row: str, peer: str) -> str:
        median = result.figure(row, peer, "median")
        return seconds_text(median) + (f" ({seconds_text(result.figure(row, peer, 'minimum'))})" if median else "")

    rows = [(row, *(cell(row, peer) for peer in peers)) for row in result.rows()]
    return Table("One training step: median (minimum)", ("row", *peers), tuple(rows), tuple(conditions(result)))


def _late(result: Result) -> Table:
    """The time that one step in a hundred exceeds."""
    peers = [peer for peer, facts in result.peers.items() if not facts.missing]
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
    peers = {
        peer: {row: median for row in result.rows() if (median := result.figure(row, peer, "median")) is not None}
        for peer, facts in result.peers.items()
        if not facts.missing
    }
    shown = {peer: values for peer, values in peers.items() if values}
    return [Dots("peers", "One training step, float32", "median seconds a step", result.rows(), shown, unit="s")]


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
