"""Random scans: carries that trade places, pass through or are read by nobody, captures, bodies in bodies.

A scan is drawn as data, so that it can be declared twice: as a scan, and written out. Values are [2, 3] wherever one
is needed of that shape; a step's number says which of the values before it a step takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from tests.arrays import boolean, f64
from tests.ops.unrolled import Loop

SHAPE = (2, 3)

POINTWISE = ["add", "subtract", "multiply", "sin", "tanh", "maximum", "where", "flag", "square"]
KINDS = [*POINTWISE, "matmul", "reshape", "transpose", "sum", "slice", "softmax", "slope", "inner"]


@dataclass(frozen=True)
class Step:
    """One op on two of the values so far, or a scan over the rows of the second."""

    kind: str
    first: int
    second: int
    inner: Drawn | None = None


@dataclass(frozen=True)
class Drawn:
    """A scan: what it starts from and goes over, its steps, and which values are carried on and yielded."""

    firsts: tuple[int, ...]
    sequences: int
    length: int
    reverse: bool
    steps: tuple[Step, ...]
    nexts: tuple[int, ...]
    results: tuple[int, ...]
    read: tuple[bool, ...]
    """Whether somebody reads each carry at the end, and each result."""


def draw(random: np.random.Generator, around: int, depth: int = 0) -> Drawn:
    """A scan in a graph, or a body, of so many values."""
    carries = int(random.integers(0, 4))
    sequences = int(random.integers(0, 3)) if carries else 1
    length = int(random.choice([0, 1, 2, 3, 4], p=[0.1, 0.15, 0.25, 0.3, 0.2]))
    inside = carries + sequences + around
    steps: list[Step] = []
    for _ in range(int(random.integers(0, 6))):
        kind = str(random.choice(KINDS))
        first, second = (_place(random, inside + len(steps), carries + sequences) for _ in range(2))
        inner = draw(random, inside + len(steps), depth + 1) if kind == "inner" and depth < 2 else None
        steps.append(Step(kind if inner or kind != "inner" else "add", first, second, inner))
    count = inside + len(steps)
    results = int(random.integers(0, 4))
    return Drawn(
        firsts=tuple(int(place) for place in random.integers(0, around, carries)),
        sequences=sequences,
        length=length,
        reverse=bool(random.integers(2)),
        steps=tuple(steps),
        nexts=tuple(_place(random, count, carries) for _ in range(carries)),
        results=tuple(_place(random, count, carries + sequences) for _ in range(results)),
        read=tuple(bool(flag) for flag in random.integers(0, 3, carries + results)),
    )


def _place(random: np.random.Generator, count: int, near: int) -> int:
    """One of `count` values; often one of the first, which are what a step is given, or of the last."""
    choice = random.integers(4)
    if choice == 0 and near:
        return int(random.integers(near))
    return count - 1 - int(random.integers(min(3, count))) if choice == 1 else int(random.integers(count))


FEEDS = {
    "a": f64(*SHAPE),
    "b": f64(*SHAPE, seed=1),
    "k": f64(3, seed=2),
    "flag": boolean(*SHAPE),
    **{f"x{length}": f64(length, *SHAPE, seed=3) for length in range(5)},
}


def declared(graph: Graph, loop: Loop, drawn: Drawn) -> tuple[Node, list[Node]]:
    """The scan in `graph`: a scalar that reads of it what is read, and the leaves that it may depend on."""
    leaves = [graph.input("a", SHAPE), graph.input("b", SHAPE), graph.input("k", (3,)), graph.parameter("w", (3, 3))]
    leaves.append(graph.state("s", SHAPE, ge.init.Normal()))
    sequence = graph.input(f"x{drawn.length}", (drawn.length, *SHAPE))
    flag = graph.input("flag", SHAPE, dtype="bool")
    pool = [*leaves, ge.sin(leaves[2]), graph.constant("c", f64(*SHAPE, seed=5)), ge.broadcast_to(leaves[2], SHAPE)]
    sequences = [ge.sin(sequence) if place else sequence for place in range(drawn.sequences)]
    total = ge.sum(leaves[0])
    ends, ys = looped(loop, drawn, pool, sequences, flag)
    for node in (*ends, *ys):
        total = total + ge.sum(ge.sin(node))
    return total, [*leaves, sequence]


AROUND = 8
"""How many values `declared` has around its scan."""


def looped(
    loop: Loop, drawn: Drawn, pool: Sequence[Node], sequences: Sequence[Node], flag: Node
) -> tuple[list[Node], list[Node]]:
    """What is read of the scan: last carries, and results of all steps."""

    def body(carry: Any, x: Any) -> Any:
        values = [*carry, *(x or ()), *pool]
        for step in drawn.steps:
            values.append(_made(loop, step, values, flag))
        return tuple(_shaped(values[place]) for place in drawn.nexts), tuple(values[place] for place in drawn.results)

    firsts = tuple(_shaped(pool[place]) for place in drawn.firsts)
    length = None if sequences else drawn.length
    ends, ys = loop(body, firsts, tuple(sequences) or None, length=length, reverse=drawn.reverse)
    carries = len(drawn.firsts)
    return (
        [node for node, is_read in zip(ends, drawn.read[:carries], strict=True) if is_read],
        [node for node, is_read in zip(ys or (), drawn.read[carries:], strict=False) if is_read],
    )


def _made(loop: Loop, step: Step, values: Sequence[Node], flag: Node) -> Node:
    """The value of one step of a body; all stay about as large as they are."""
    a, b = _shaped(values[step.first]), _shaped(values[step.second])
    match step.kind:
        case "multiply":
            return ge.tanh(a) * b
        case "where":
            return ge.where(a > 0.1, b, a)
        case "flag":
            return ge.where(flag, b, a)
        case "square":
            return ge.tanh(ge.square(a))
        case "matmul":
            return 0.3 * (a @ b.T) @ a
        case "reshape":
            return ge.reshape(ge.reshape(a, (6,)), SHAPE)
        case "transpose":
            return a.T
        case "sum":
            return ge.tanh(ge.sum(a, axis=0))
        case "slice":
            return a[1]
        case "softmax":
            return ge.softmax(a)
        case "slope":
            moved = a * 1.0
            return ge.grad(ge.sum(ge.sin(moved * b)), [moved])[0]
        case "inner":
            assert step.inner is not None
            rows = ge.reshape(ge.concat([a] * max(step.inner.length, 1)), (max(step.inner.length, 1), *SHAPE))
            over = [rows[: step.inner.length]] * step.inner.sequences
            ends, ys = looped(loop, step.inner, values, over, flag)
            return ge.tanh(sum((_shaped(node) for node in (*ends, *(ge.sum(y, axis=0) for y in ys))), b))
    function = {"add": ge.add, "subtract": ge.subtract, "maximum": ge.maximum}.get(step.kind)
    return {"sin": ge.sin, "tanh": ge.tanh}[step.kind](a) if function is None else function(a, b)


def _shaped(x: Node) -> Node:
    """`x`, brought to the one shape."""
    if x.shape == SHAPE[::-1]:
        return x.T
    if x.shape == (3, 3):
        return x[1:]
    return x if x.shape == SHAPE else ge.broadcast_to(x, SHAPE)
