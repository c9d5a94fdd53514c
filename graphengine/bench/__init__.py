"""What the engine is measured by: one module a benchmark, each a `Benchmark`; the frame that they share in `frame/`."""

from __future__ import annotations

from graphengine.bench.compile import COMPILE_BENCHMARK
from graphengine.bench.frame.benchmark import Benchmark
from graphengine.bench.install import INSTALL_BENCHMARK
from graphengine.bench.memory import MEMORY_BENCHMARK
from graphengine.bench.naive import NAIVE_BENCHMARK
from graphengine.bench.peers import PEERS_BENCHMARK
from graphengine.bench.start import START_BENCHMARK

__all__ = ["BENCHMARKS"]

_ALL: tuple[Benchmark, ...] = (
    NAIVE_BENCHMARK,
    PEERS_BENCHMARK,
    COMPILE_BENCHMARK,
    START_BENCHMARK,
    MEMORY_BENCHMARK,
    INSTALL_BENCHMARK,
)

BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
