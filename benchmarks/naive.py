"""Naive: what backpropagation saves, against ways of computing a gradient that share less.

Three rows compare the ways in seconds and in FLOPs: networks that grow in width, the same networks declared unit by
unit, and the diamond ladder, which grows in depth. Two rows hold the value with its gradient against the value alone.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from platform import python_version

from benchmarks import over_forward
from benchmarks.frame.benchmark import Benchmark, Request
from benchmarks.frame.plot import Lines, Panels, Plot, Series
from benchmarks.frame.result import PeerFacts, Record, Result
from benchmarks.frame.run import result_of
from benchmarks.frame.table import Table
from benchmarks.frame.team import THREADS
from benchmarks.frame.text import ABSENT, conditions, ratio_text, seconds_text
from benchmarks.frame.verdict import Verdict
from benchmarks.networks import BATCH, LAYERS, by_units, deep_mlp, deep_mlp_feeds, ladder
from benchmarks.over_forward import MLPS, NETWORKS
from graphengine.backends.installed import BACKENDS, installed_backends
from graphengine.baselines import WAYS, Comparison, Unshared, Way, compare

__all__ = ["NAIVE_BENCHMARK", "count_text", "jobs"]

Job = Callable[[], list[Record]]

_BACKPROP, _UNSHARED = "backpropagation", "chain rule, unshared"
_UNITS = (1, 4, 15, 49, 157, 499)
"""Of a layer: 4 n^2 + 5 n + 1 parameters, so about 10, 10^2, ... 10^6."""
_BY_UNITS = _UNITS[:4]
"""Beyond, the nodes of the network declared unit by unit are too many."""
_BY_UNITS_TIMED = _UNITS[:3]
_RUNGS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 32, 48, 64)
_RUNGS_TIMED = 24

_MLP_LIMIT, _ZOO_LIMIT, _RANDOM_LIMIT = 3.0, 4.0, 5.0

_GOAL = "value and gradient over the value"

_UNIT_BY_UNIT = "chain rule, unit by unit"
"""How the row "units", which has one way alone, is called beside the others."""

_COMPARED = {
    "width": f"One full gradient of a network of {LAYERS} equal hidden layers, tanh, batch {BATCH}, float64",
    "units": "The same network declared unit by unit",
    "ladder": "One full gradient of the diamond ladder, v <- v * v + v",
}
_SIZES = {"width": "parameters", "units": "parameters", "ladder": "rungs"}
_FIGURES = {"seconds": ("seconds", seconds_text), "flops": ("FLOPs", lambda value: count_text(value))}
_SCALED = (
    "~: measured on a part, some parameters or some paths, and scaled to all. FLOPs are counted, for all, exactly."
)


def measure(request: Request) -> Result:
    """All jobs of the rows that are asked for, one after the other, in a process that has so many threads."""
    backends = [peer for peer in request.peers if peer in BACKENDS]
    facts = {backend: _facts(backend) for backend in backends}
    records: list[Record] = []
    with _worker(request.threads) as worker:
        for about, job in jobs(request, [backend for backend in backends if not facts[backend].missing]):
            request.say(about)
            records += worker.submit(job).result()
    return result_of("naive", request, facts, records)


def jobs(request: Request, backends: list[str]) -> Iterator[tuple[str, Job]]:
    """What is to be done, in words and as a function that can be sent to another process."""
    ways, seconds = tuple(way for way in WAYS if way in request.peers), request.seconds
    if "width" in request.rows:
        yield from ((f"width: {n} units", partial(_width, n, ways, seconds)) for n in _UNITS)
    if "units" in request.rows and _UNSHARED in ways:
        yield from ((f"units: {n} units", partial(_units, n, seconds)) for n in _BY_UNITS)
    if "ladder" in request.rows:
        yield from ((f"ladder: {rungs} rungs", partial(_ladder, rungs, ways, seconds)) for rungs in _RUNGS)
    if "networks" in request.rows:
        for backend in backends:
            for name in over_forward.NETWORKS:
                yield f"{name}, {backend}", partial(_network, name, backend, seconds)
    if "random" in request.rows:
        yield "random graphs", _random


def _width(units: int, ways: tuple[str, ...], seconds: float) -> list[Record]:
    compared = compare(deep_mlp(units), "loss", deep_mlp_feeds(units), ways=ways, seconds=seconds)
    return _records("width", compared.parameters, compared)


def _units(units: int, seconds: float) -> list[Record]:
    """One way alone: the others cost the same as on the network of arrays, up to the overhead of small nodes."""
    graph = by_units(units)
    if units not in _BY_UNITS_TIMED:
        return [_counted("units", len(graph.parameters), sum(Unshared(graph, "loss").flops({"batch": BATCH}).values()))]
    compared = compare(graph, "loss", deep_mlp_feeds(units), ways=[_UNSHARED], seconds=seconds)
    return _records("units", compared.parameters, compared)


def _ladder(rungs: int, ways: tuple[str, ...], seconds: float) -> list[Record]:
    graph = ladder(rungs)
    if rungs > _RUNGS_TIMED:
        return [_counted("ladder", rungs, *Unshared(graph, "loss").flops({}).values())] if _UNSHARED in ways else []
    return _records("ladder", rungs, compare(graph, "loss", {}, ways=ways, seconds=seconds))


def _network(name: str, backend: str, seconds: float) -> list[Record]:
    return [over_forward.measure(name, backend, seconds)]


def _random() -> list[Record]:
    return [over_forward.count(seed) for seed in over_forward.RANDOM]


def _records(row: str, size: int, compared: Comparison) -> list[Record]:
    forward = {"seconds": compared.forward_seconds, "flops": compared.forward_flops}
    ways = {_BACKPROP: compared.backprop, **compared.others}
    records = [Record(row=row, peer="forward", size=size, figures=forward)]
    return records + [Record(row=row, peer=name, size=size, figures=_figures(way)) for name, way in ways.items()]


def _figures(way: Way) -> dict[str, float]:
    figures = {"seconds": way.seconds, "flops": way.flops, "sample": way.sample, "scaled": float(way.scaled)}
    return figures if way.disagreement is None else {**figures, "disagreement": way.disagreement}


def _counted(row: str, size: int, flops: int) -> Record:
    """Of the way that cannot be run: its cost is known all the same."""
    return Record(row=row, peer=_UNSHARED, size=size, figures={"flops": flops})


def _facts(backend: str) -> PeerFacts:
    if backend not in installed_backends():
        return PeerFacts(missing=f"{backend} is not installed")
    packages = ["numpy"] if backend == "numpy" else ["numpy", "numba"]
    return PeerFacts(versions={"python": python_version()} | {name: version(name) for name in packages})


@contextmanager
def _worker(threads: int | None) -> Iterator[ProcessPoolExecutor]:
    """A fresh process: libraries look at how many threads they may have when they are loaded."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(THREADS, str(threads)) if threads else {})
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as worker:
            yield worker
    finally:
        os.environ.clear()
        os.environ.update(before)


def tables(result: Result) -> Sequence[Table]:
    """The ways beside each other, in seconds and in FLOPs; the value with its gradient over the value."""
    compared = [table for row in _COMPARED for table in _compared(result, row)]
    found = [*compared, *_networks(result), *_random_graphs(result)]
    notes = (*found[-1].notes, *conditions(result)) if found else ()
    return [*found[:-1], Table(found[-1].title, found[-1].columns, found[-1].rows, notes)] if found else []


def plots(result: Result) -> Sequence[Plot]:
    """Seconds beside FLOPs, against the number of parameters, and against the depth of the ladder."""
    found = []
    for row in ("width", "ladder"):
        panels = [
            Lines(figure, "", _SIZES[row], unit, tuple(_series(result, row, figure)))
            for figure, (unit, _) in _FIGURES.items()
        ]
        if panels[0].series:
            found.append(Panels(f"naive-{row}", _COMPARED[row], tuple(panels)))
    return found


def count_text(count: float | None) -> str:
    """Whole up to a million, and three digits beyond."""
    if count is None:
        return ABSENT
    return f"{count:,.0f}" if count < 1e6 else f"{count:.2e}".replace("e+0", "e").replace("e+", "e")


def _compared(result: Result, row: str) -> Iterator[Table]:
    """A table of seconds and one of FLOPs: a line for each size."""
    records = list(result.among(row=row))
    ways = list(dict.fromkeys(record.peer for record in records))
    sizes = sorted({record.size for record in records if record.size is not None})
    for figure, (unit, text) in _FIGURES.items() if records else ():
        cells = {size: [_cell(result.find(row, way, size), figure, text) for way in ways] for size in sizes}
        rows = tuple((f"{size:,}", *texts) for size, texts in cells.items() if set(texts) != {ABSENT})
        notes = (_SCALED,) if figure == "seconds" else ()
        yield Table(f"{_COMPARED[row]}: {unit}", (_SIZES[row], *ways), rows, notes)


def _cell(record: Record | None, figure: str, text: Callable[[float | None], str]) -> str:
    if record is None or figure not in record.figures:
        return ABSENT
    return ("~" if figure == "seconds" and record.figures.get("scaled") else "") + text(record.figures[figure])


def _networks(result: Result) -> Iterator[Table]:
    records = [record for name in NETWORKS for record in result.among(row=name)]
    if records:
        sizes, times = ("network", "backend", "parameters", "batch"), ("value", "and gradient")
        columns = (*sizes, *times, "ratio", "of minima", "of FLOPs", "at most")
        rows = tuple(tuple(_cells(record)) for record in records)
        yield Table("A value with its gradient, over the value", columns, rows)


def _cells(record: Record) -> Iterator[str]:
    figures = record.figures
    yield from (record.row, record.peer, f"{figures['parameters']:,.0f}", f"{figures['batch']:.0f}")
    yield from (seconds_text(figures["forward"]), seconds_text(figures["gradient"]))
    yield from (ratio_text(_ratio(record, suffix)) for suffix in ("", "_minimum", "_flops"))
    yield f"{_limit_of(record.row):g}x"


def _random_graphs(result: Result) -> Iterator[Table]:
    ratios = [_ratio(record, "_flops") for record in result.among(row="random graphs")]
    if ratios:
        cells = (f"{len(ratios)}", *(ratio_text(of(ratios)) for of in (min, statistics.median, max)))
        columns = ("random graphs", "least", "median", "greatest", "at most")
        yield Table("A value with its gradient, over the value: FLOPs", columns, ((*cells, f"{_RANDOM_LIMIT:g}x"),))


def _series(result: Result, row: str, figure: str) -> Iterator[Series]:
    for way in dict.fromkeys(record.peer for record in result.among(row=row)):
        yield _line(way, result.among(row=row, peer=way), figure)
    units = list(result.among(row="units", peer=_UNSHARED))
    if row == "width" and units:
        yield _line(_UNIT_BY_UNIT, units, figure)


def _line(name: str, records: Iterable[Record], figure: str) -> Series:
    known = [record for record in records if record.size is not None and figure in record.figures]
    points = tuple((float(record.size or 0), record.figures[figure]) for record in known)
    is_scaled = figure == "seconds"  # FLOPs never are
    scaled = frozenset(float(record.size or 0) for record in known if is_scaled and record.figures.get("scaled"))
    return Series(name, points, scaled)


def _ratio(record: Record, suffix: str = "") -> float:
    """How many times as much the value and its gradient take: by the median, or "_minimum", or "_flops"."""
    return record.figures[f"gradient{suffix}"] / record.figures[f"forward{suffix}"]


def _limit_of(network: str) -> float:
    """What the ratio may be at most."""
    return _MLP_LIMIT if network in MLPS else _ZOO_LIMIT


def verdicts(result: Result) -> Sequence[Verdict]:
    """Every network by the clock and in FLOPs, and the worst of the random graphs in FLOPs."""
    return [*_of_networks(result), *_of_random_graphs(result)]


def _of_networks(result: Result) -> Iterator[Verdict]:
    for name in NETWORKS:
        for record in result.among(row=name):
            subject, limit = f"{name}, {record.peer}", _limit_of(name)
            yield Verdict(f"{_GOAL}, time", subject, _ratio(record), limit, at_least=False)
            yield Verdict(f"{_GOAL}, FLOPs", subject, _ratio(record, "_flops"), limit, at_least=False)


def _of_random_graphs(result: Result) -> Iterator[Verdict]:
    ratios = [_ratio(record, "_flops") for record in result.among(row="random graphs")]
    if ratios:
        subject = f"the worst of {len(ratios)} random graphs"
        yield Verdict(f"{_GOAL}, FLOPs", subject, max(ratios), _RANDOM_LIMIT, at_least=False)


NAIVE_BENCHMARK = Benchmark(
    name="naive",
    about="a whole gradient by backpropagation against three ways that go parameter by parameter",
    rows=("width", "units", "ladder", "networks", "random"),
    peers=(_BACKPROP, *WAYS, *BACKENDS),
    seconds=4.0,
    measure=measure,
    tables=tables,
    plots=plots,
    verdicts=verdicts,
)
