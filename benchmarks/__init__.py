"""What the engine is measured by: one module a benchmark, each a `Benchmark`; the frame that they share in `frame/`."""

from __future__ import annotations

from benchmarks.compile import COMPILE_BENCHMARK
from benchmarks.frame.benchmark import Benchmark
from benchmarks.install import INSTALL_BENCHMARK
from benchmarks.memory import MEMORY_BENCHMARK
from benchmarks.naive import NAIVE_BENCHMARK
from benchmarks.peers import PEERS_BENCHMARK
from benchmarks.start import START_BENCHMARK

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
