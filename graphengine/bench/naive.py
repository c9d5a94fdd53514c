"""Naive: what backpropagation saves, against ways of computing a gradient that share less.

Three rows compare the ways in seconds and in FLOPs: networks that grow in width, the same networks declared unit by
unit, and the diamond ladder, which grows in depth. Two rows hold the value with its gradient against the value alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

from graphengine.baselines import WAYS, Comparison, Unshared, Way, compare
from graphengine.bench import over_forward
from graphengine.bench.frame.benchmark import Benchmark, Request
from graphengine.bench.frame.result import PeerFacts, Record, Result
from graphengine.bench.frame.run import result_of
from graphengine.bench.frame.team import THREADS
from graphengine.bench.naive_goals import verdicts
from graphengine.bench.naive_show import plots, tables
from graphengine.bench.networks import BATCH, by_units, deep_mlp, deep_mlp_feeds, ladder
from graphengine.compile import BACKENDS, installed_backends

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

__all__ = ["NAIVE_BENCHMARK", "jobs"]

Job = Callable[[], list[Record]]

_BACKPROP, _UNSHARED = "backpropagation", "chain rule, unshared"
_UNITS = (1, 4, 15, 49, 157, 499)
"""Of a layer: 4 n^2 + 5 n + 1 parameters, so about 10, 10^2, ... 10^6."""
_BY_UNITS = _UNITS[:4]
"""Beyond, the nodes of the network declared unit by unit are too many."""
_BY_UNITS_TIMED = _UNITS[:3]
_RUNGS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 32, 48, 64)
_RUNGS_TIMED = 24


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
    from concurrent.futures import ProcessPoolExecutor  # heavy, and `graphengine --help` should not wait for it
    from multiprocessing import get_context

    before = dict(os.environ)
    os.environ.update(dict.fromkeys(THREADS, str(threads)) if threads else {})
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as worker:
            yield worker
    finally:
        os.environ.clear()
        os.environ.update(before)


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
