"""Where the time goes from the text of a graph to its first step: seconds of each stage, a forward node.

    python -m benchmarks.stages [chain|layers] [NODES]

The minimum of three runs of each, by the NumPy backend; `python -m benchmarks compile` measures the whole.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np

import graphengine as ge
from benchmarks.dags import chain_dag, layered_dag
from benchmarks.worker.with_graphengine import graph_of
from graphengine.backends.numpy import NumpyBackend
from graphengine.ir.subgraph import needed_nodes
from graphengine.schedule.memory import plan
from graphengine.schedule.order import schedule
from graphengine.transform.extract import extract
from graphengine.transform.rewrite.passes import REWRITES

ROUNDS = 3
Made = TypeVar("Made")


def main(kind: str = "layers", nodes: str = "10000") -> None:
    """Print a line for each stage."""
    dag = {"chain": chain_dag, "layers": layered_dag}[kind](int(nodes))
    feeds = {name: np.zeros(shape, np.float32) for name, shape in dag["feeds"]}
    text, count = graph_of("dag", dag, feeds).to_json(), len(dag["nodes"])

    def timed(what: str, stage: Callable[[], Made]) -> Made:
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            made = stage()
            seconds.append(time.perf_counter() - start)
        print(f"{what:<44}{1e6 * min(seconds) / count:>8.1f} us")
        return made

    print(f"{kind}, {count:,} forward nodes")
    graph = timed("read and check the text", lambda: ge.Graph.from_json(text))
    loss = next(iter(graph.outputs))
    exe = timed(
        "differentiate, emit updates, draw parameters",
        lambda: ge.compile(graph, loss=loss, optimizer=ge.SGD(learning_rate=0.01)),
    )
    whole = exe.graph
    part = timed("extract the program's graph", lambda: extract(whole, [whole.outputs[loss]], whole.updates))
    for name, rewrite in REWRITES.items():
        copies = [part.copy() for _ in range(ROUNDS)]  # as a rewrite changes what it is given
        part = copies[-1]
        timed(f"rewrite: {name}", partial(_next, rewrite, iter(copies)))
    nodes_needed = needed_nodes([*part.outputs.values(), *part.updates.values()])
    timed("order (part of the next)", lambda: schedule(nodes_needed, part.updates))
    program = timed("plan instructions and memory", lambda: plan("step", part.outputs, part.updates, {}))
    leaves = {name: np.zeros(buffer.type.static_shape, buffer.type.dtype) for name, buffer in program.leaves.items()}
    loaded = timed("bind kernels to arrays", lambda: NumpyBackend().load(program, leaves))
    timed("run once", lambda: loaded.run(0, len(program.instructions)))


def _next(rewrite: Callable[[ge.Graph], bool], graphs: Iterator[ge.Graph]) -> None:
    rewrite(next(graphs))


if __name__ == "__main__":
    main(*sys.argv[1:3])
