"""Regions and arrays drawn at random, and their kernels run by Python: what the tests of fused loops share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
from hypothesis import strategies as st

import graphengine as ge
from graphengine.backends.native import vocabulary
from graphengine.backends.native.kernel import VOCABULARY, LoopCall
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.subgraph import evaluate
from graphengine.ops.broadcast import Reduction
from graphengine.ops.compare import mask

Array = np.ndarray
Case = tuple[Graph, list[Array]]

FLOAT_STEPS: list[Callable[..., Node]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: 0.3 * a - 2.0 * b,
    lambda a, b: ge.maximum(a, b),
    lambda a, b, c: ge.where(c > 0.25, a, b),
    lambda a, c: mask(a, ge.logical_not(c <= 0.0)),
    lambda a: -a,
    lambda a: ge.square(a),
    lambda a: ge.relu(a),
    lambda a: ge.tanh(a),
    lambda a: ge.sigmoid(a),
    lambda a: ge.leaky_relu(a, 0.1),
    lambda a: ge.cast(ge.cast(a, "float32"), a.dtype),
    lambda a: ge.cast(0.5 * ge.cast(a, "float64"), a.dtype),
]
INT_STEPS: list[Callable[..., Node]] = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: ge.minimum(a, b),
    lambda a, b, c: mask(a, c > b),
    lambda a: ge.cast(ge.cast(a, "uint8"), a.dtype),
]
REDUCTIONS = {"sum": ge.sum, "mean": ge.mean, "max": ge.max, "min": ge.min}


@st.composite
def cases(draw: Any) -> Case:
    """A body and arrays for its inputs."""
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
    dtype = draw(st.sampled_from(["float32", "float64", "float32", "int32", "int64"]))
    graph = Graph("body", dtype if dtype.startswith("float") else "float32")
    arrays = [draw(_arrays(shape, dtype, whole=number == 0)) for number in range(draw(st.integers(1, 3)))]
    inputs = [graph.input(f"x{number}", array.shape, array.dtype) for number, array in enumerate(arrays)]
    steps = FLOAT_STEPS if dtype.startswith("float") else INT_STEPS
    values = list(inputs)
    for _ in range(draw(st.integers(1, 6))):
        operands = {"a": draw(st.sampled_from(values)), "b": draw(st.sampled_from(values))}
        step = draw(st.sampled_from(steps))
        values.append(named(step, **operands, c=draw(st.sampled_from(inputs))))
    whole = [value for value in values if value.shape == shape and value not in inputs] or [inputs[0] * inputs[0]]
    results = [_end(draw, draw(st.sampled_from(whole))) for _ in range(draw(st.integers(1, 3)))]
    for number, node in enumerate(dict.fromkeys(results)):
        graph.output(f"y{number}", node)
    return graph, arrays


def _end(draw: Any, node: Node) -> Node:
    """`node`, or a reduction of it."""
    kinds = ["", "", "sum", "sum", "max", *(["mean", "min"] if node.type.is_float else [])]
    kind = draw(st.sampled_from(kinds))
    if not kind:
        return node
    axes = [axis for axis in range(node.ndim) if draw(st.booleans())]
    return REDUCTIONS[kind](node, axes or None, draw(st.booleans()))


@st.composite
def _arrays(draw: Any, shape: tuple[int, ...], dtype: str, whole: bool) -> Array:
    """An array that broadcasts to `shape`, in memory in any order, perhaps a part of a larger one."""
    if not whole:
        shape = tuple(size if draw(st.booleans()) else 1 for size in shape)[draw(st.integers(0, len(shape))) :]
    return laid_out(draw, np.random.default_rng(draw(st.integers(0, 99))), shape, dtype)


def laid_out(draw: Any, generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """An array of small numbers with its axes in any order in memory, some of them with gaps."""
    order = draw(st.permutations(range(len(shape))))
    gaps = [draw(st.sampled_from([1, 1, 2, 3])) for _ in shape]
    memory = np.asarray(generator.uniform(-3, 3, [shape[axis] * gaps[axis] for axis in order]), dtype)
    part = memory[(*(slice(None, None, gaps[axis]) for axis in order), ...)]
    return part.transpose([order.index(axis) for axis in range(len(shape))])


def expected(case: Case) -> tuple[list[Array], list[float]]:
    """What NumPy makes of it, and by how much each result may differ: a few roundings of all that it is made of."""
    graph, arrays = case
    with np.errstate(all="ignore"):
        values = evaluate(graph, np, arrays)
    greatest = max(float(np.max(np.abs(np.asarray(value, "float64")), initial=1.0)) for value in values.values())
    results, bounds = [], []
    for node in graph.outputs.values():
        results.append(np.asarray(values[node]))
        count = node.parents[0].type.size if isinstance(node.op, Reduction) and node.op.kind == "sum" else 1
        unit = 1e-7 if "float32" in {other.dtype for other in graph.nodes} else 1e-14
        bounds.append(32 * unit * greatest * count if node.type.is_float else 0.0)
    return results, bounds


def check(results: Sequence[Array], case: Case) -> None:
    """Hold results against NumPy's."""
    for result, wanted, bound in zip(results, *expected(case), strict=True):
        np.testing.assert_allclose(np.asarray(result, wanted.dtype), wanted, rtol=0, atol=bound)


def by_python(calls: Sequence[LoopCall], threads: int = 1) -> None:
    """Run kernels as Python, on NumPy's numbers, as so many threads one after the other."""
    for call in calls:
        kernel, arguments = call  # type: ignore[misc]  # no product among them
        names = {name: getattr(vocabulary, name, bool) for name in VOCABULARY}
        exec(kernel.source, names)  # type: ignore[union-attr]  # and no function
        flat = [_memory(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]
        is_shared = "rank, ranks)" in kernel.source.splitlines()[0]  # type: ignore[union-attr]  # likewise
        with np.errstate(all="ignore"):
            for rank in range(threads if is_shared else 1):
                names[kernel.name](*flat, *([rank, threads] if is_shared else []))  # type: ignore[union-attr]


def _memory(array: Array) -> Array:
    """All memory from the first element of an array to its last."""
    reach = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True))
    return np.lib.stride_tricks.as_strided(array, (reach // array.itemsize + 1,), (array.itemsize,))


def empty(node: Node) -> Array:
    """An array for the value of `node`, with garbage in it."""
    return np.full(node.type.static_shape, 77, node.dtype)


def named(function: Callable[..., Any], **operands: Any) -> Any:
    """What a function makes of those of the operands that it names."""
    return function(*(operands[name] for name in signature(function).parameters))
