"""Asks what graphs cost whose axes, one after the other, are huge; prints what takes long or is told in other words.

Run in a process of its own, which `tests/test_huge.py` gives little memory.
"""

import sys
import time
import warnings

import graphengine as ge
from graphengine.ir.node import Node
from graphengine.view.summary import summarize
from tests.sizes import CASES, Case, Sizes

HUGE = 10**12

LONG = 5.0
"""Far more seconds than a case takes, and far less than to count to 10^12."""


def declared(case: Case, sizes: Sizes) -> ge.Graph:
    """The graph of a case, without any array of its operands."""
    graph = ge.Graph("huge", dtype="float64")
    nodes: list[Node] = []
    for text in case.operands:
        kind, _, axes = text.rpartition(":")
        dtype = {"i": "int64", "m": "bool"}.get(kind, "float64")
        nodes.append(graph.input(f"x{len(nodes)}", [sizes[axis] for axis in axes.split()], dtype))
    y = case.build(nodes, sizes)
    graph.output("loss", ge.sum(ge.sin(y)) if y.ndim else ge.identity(y))
    return graph


def ask(case: Case, sizes: Sizes, backend: str) -> None:
    graph = declared(case, sizes)
    wrt = [leaf for leaf in (*graph.inputs, *graph.parameters) if leaf.type.is_float]
    exe = ge.compile(graph, loss="loss", wrt=wrt, backend=backend)
    assert str(exe.plan())
    if backend == "numpy":
        summarize(graph)


warnings.simplefilter("ignore")
for case in CASES:
    for axis, _ in case.sizes:
        start = time.process_time()
        try:
            ask(case, {**dict(case.sizes), axis: HUGE}, sys.argv[1])
        except ge.ShapeError:  # two axes that were of one size; or more bytes than an array can have
            continue
        except Exception as error:
            print(f"{case.name}, {axis}: {type(error).__name__} {error}")
        if time.process_time() - start > LONG:
            print(f"{case.name}, {axis}: took {time.process_time() - start} s")
print("all were asked")
