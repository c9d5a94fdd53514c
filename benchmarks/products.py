"""Matrix products of the backend `numba`: by tiles in registers beside BLAS, and which part of a step they are.

    python -m benchmarks.products

All threads run each of them, both ways in turn, whichever the engine would choose. Products are run again and again by
themselves, so that part of what they read is in the caches.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from unittest import mock

import numpy as np

import graphengine as ge
from graphengine.backends.native.gemm import products
from graphengine.backends.native.llvm.machine import vector_bytes
from graphengine.backends.numba import NativeProgram, NumbaBackend
from graphengine.schedule.program import Program

SIZES = (
    (128, 784, 512, ""),
    (128, 512, 512, "b"),
    (784, 128, 512, "a"),
    (512, 1024, 1024, ""),
    (512, 1024, 1024, "b"),
    (1024, 512, 1024, "a"),
    (32, 96, 256, ""),
    (512, 64, 192, ""),
    (128, 128, 32, ""),
    (512, 1024, 10, ""),
)
"""Rows, depth, columns, and which operand is transposed."""

MLPS = {"wide": ((784, 512, 512, 10), 128), "gemm": ((1024, 1024, 1024, 1024, 10), 512)}
SECONDS = 0.5


def main() -> None:
    """Print the tables."""
    if not vector_bytes():
        sys.exit("this CPU has no vectors for which there are tiles")
    show_products()
    show_steps()


def show_products() -> None:
    """How fast each product is, by tiles and by BLAS."""
    print(f"{'product':<28}{'tiles':>16}{'BLAS':>16}   GFLOP/s of the minimum and the median")
    for m, k, n, turned in SIZES:
        program = product(m, k, n, turned)
        ways = {}
        for name, by_tiles in (("tiles", True), ("BLAS", False)):
            with mock.patch.object(products, "pays", lambda *_, by_tiles=by_tiles: by_tiles):
                ways[name] = partial(load(program).run, 0, len(program.instructions))
        text = f"[{m}, {k}] @ [{k}, {n}]" + (f", {turned} transposed" if turned else "")
        rates = [[2e-9 * m * k * n / value for value in taken] for taken in timed(ways).values()]
        print(f"{text:<28}" + "".join(f"{low:>8.0f}{middle:>8.0f}" for low, middle in rates))


def show_steps() -> None:
    """Which part of a step the products are."""
    print(f"\n{'step':<28}{'us':>8}{'products alone':>18}   minimum")
    for name, (widths, batch) in MLPS.items():
        program = step(widths, batch)
        loaded = load(program)
        alone = 0.0
        for place, line in enumerate(program.instructions):
            if line.op.kind in ("matmul", "add_product"):
                alone += timed({"": partial(loaded.run, place, place + 1)}, SECONDS / 5)[""][0]
        low, _ = timed({"": partial(loaded.run, 0, len(program.instructions))}, 4 * SECONDS)[""]
        print(f"{name:<28}{1e6 * low:>8.0f}{1e6 * alone:>10.0f} = {alone / low:.0%}")


def product(m: int, k: int, n: int, turned: str) -> Program:
    """The program of one product of two parameters."""
    graph = ge.Graph("product")
    a = graph.parameter("a", (k, m) if turned == "a" else (m, k))
    b = graph.parameter("b", (n, k) if turned == "b" else (k, n))
    graph.output("c", (a.T if turned == "a" else a) @ (b.T if turned == "b" else b))
    return ge.compile(graph).plan("forward")


def step(widths: tuple[int, ...], batch: int) -> Program:
    """The program of a training step of an MLP."""
    graph = ge.Graph("mlp")
    h, labels = graph.input("x", ("batch", widths[0])), graph.input("labels", ("batch",), "int64")
    for place, (fan_in, fan_out) in enumerate(pairwise(widths)):
        h = h @ graph.parameter(f"w{place}", (fan_in, fan_out)) + graph.parameter(f"b{place}", (fan_out,))
        h = ge.relu(h) if place < len(widths) - 2 else h
    graph.output("loss", ge.mean(ge.cross_entropy(h, labels)))
    return ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.01)).plan("step", batch=batch)


def load(program: Program) -> NativeProgram:
    """The program on leaves of small numbers."""
    draw = np.random.default_rng(0)
    types = {name: buffer.type for name, buffer in program.leaves.items()}
    leaves = {name: np.asarray(0.01 * draw.random(t.static_shape), t.dtype) for name, t in types.items()}
    return NumbaBackend().load(program, leaves)


def timed(ways: Mapping[str, Callable[[], None]], seconds: float = SECONDS) -> dict[str, tuple[float, float]]:
    """The minimum and the median of each way, run in turn for so many seconds."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, way in ways.items():
            way()  # once more than is timed, so that what another way has left in the caches is gone
            start = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - start)
    return {name: (min(values), statistics.median(values)) for name, values in taken.items()}


if __name__ == "__main__":
    main()
