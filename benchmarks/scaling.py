"""What a node costs, from building it to running it, in chains of 1,000 to 100,000 nodes.

    python -m benchmarks.scaling [--profile]

The cost per node should be flat. With --profile, the functions are listed in which the longest chain spends its time.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import time
from collections.abc import Callable
from typing import TypeVar

import graphengine as ge

T = TypeVar("T")

SIZES = (1_000, 10_000, 100_000)
ROW = "{:>9}" + "{:>12}" * 5


def chain(size: int) -> ge.Graph:
    """A chain of `size` scalar nodes below one parameter."""
    graph = ge.Graph("chain", dtype="float64")
    value = graph.parameter("w", (), init=ge.init.Constant(0.5))
    for _ in range(size // 2):
        value = -(value + 1e-6)
    graph.output("loss", value)
    return graph


class Stopwatch:
    """Seconds of each stage of one chain, the garbage of the stage before collected first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.microseconds: list[float] = []

    def time(self, stage: Callable[[], T]) -> T:
        """Run `stage`, and note what it took a node."""
        gc.collect()
        start = time.perf_counter()
        result = stage()
        self.microseconds.append((time.perf_counter() - start) / self.size * 1e6)
        return result


def measure(size: int) -> list[float]:
    """Microseconds a node of: building, differentiating, planning, the first step, a steady step."""
    watch = Stopwatch(size)
    graph = watch.time(lambda: chain(size))
    exe = watch.time(lambda: ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1)))
    watch.time(exe.plan)
    watch.time(lambda: exe.step({}))
    steps = 20
    watch.time(lambda: [exe.step({}) for _ in range(steps)])
    watch.microseconds[-1] /= steps
    return watch.microseconds


def main() -> None:
    """Print the table, and the profile if asked."""
    parser = argparse.ArgumentParser(description="What a node costs, from building it to running it.")
    parser.add_argument("--profile", action="store_true", help="list where the longest chain spends its time")
    profile = parser.parse_args().profile
    print("microseconds a node of the declared chain (a step runs about three instructions for each)")
    print(ROW.format("nodes", "build", "compile", "plan", "first step", "steady step"))
    measure(100)  # imports and caches are no part of the cost of a node
    for size in SIZES:
        print(ROW.format(f"{size:,}", *(f"{microseconds:.2f}" for microseconds in measure(size))))
    if profile:
        profiler = cProfile.Profile()
        profiler.runcall(measure, SIZES[-1])
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
