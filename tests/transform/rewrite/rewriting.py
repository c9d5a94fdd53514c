"""Small graphs under a rewrite: what becomes of an expression, and that its values stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Leaf
from graphengine.ir.node import Node
from graphengine.transform.rewrite.check import check_rewrite
from graphengine.transform.rewrite.passes import REWRITES, on_copy
from tests.random_graphs import evaluate

BATCH = 4
"""The size of "batch"."""


class Leaves:
    """Leaves to write an expression with."""

    def __init__(self, dtype: str = "float64") -> None:
        self.graph = ge.Graph("sample", dtype)
        self.x = self.graph.input("x", ("batch", 3))
        self.y = self.graph.input("y", ("batch", 3))
        self.v = self.graph.input("v", (3,))
        self.s = self.graph.input("s", ())
        self.a = self.graph.input("a", (3, 3))
        self.b = self.graph.input("b", (3, 3))
        self.labels = self.graph.input("labels", ("batch",), "int64")
        self.i = self.graph.input("i", (3,), "int32")


Write = Callable[[Leaves], Node]


def of(write: Write, dtype: str = "float64") -> Graph:
    """The graph whose output "result" is the expression."""
    leaves = Leaves(dtype)
    leaves.graph.output("result", write(leaves))
    return leaves.graph


def rewritten(name: str, graph: Graph) -> Graph:
    """`graph` after the rewrite of this name, which is checked, and finds nothing more to do in what it has made."""
    after = on_copy(REWRITES[name], graph)
    check_rewrite(graph, after)
    assert on_copy(REWRITES[name], after) is after
    return after


def text(node: Node) -> str:
    """The node as a nested expression."""
    if isinstance(node.op, Constant):
        return repr(node.op.value.tolist())
    if node.is_leaf:
        return node.name
    attributes = [f"{key}={value}" for key, value in node.op.attributes().items()]
    return f"{node.op.kind}({', '.join([*map(text, node.parents), *attributes])})"


def given(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """A value for every leaf, none of them zero; labels are 0, 1 or 2."""
    generator = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if isinstance(node.op, Leaf) and not isinstance(node.op, Constant):
            shape = node.type.bind({"batch": BATCH}).static_shape
            is_float = node.type.is_float
            drawn = generator.uniform(0.2, 1.5, shape) if is_float else generator.integers(0, 3, shape)
            values[node.name] = drawn.astype(node.dtype)
    return values


def results(graph: Graph, values: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """The values of the outputs and of the updates, by `eval` alone."""
    with np.errstate(all="ignore"):
        found = evaluate(graph.nodes, given(graph) if values is None else values, {"batch": BATCH})
    asked = {**graph.outputs, **{f"next {leaf.name}": node for leaf, node in graph.updates.items()}}
    return {name: found[node.name] for name, node in asked.items()}


def assert_same_values(before: Graph, after: Graph, tolerance: float = 1e-12) -> None:
    values = given(before)
    expected, actual = results(before, values), results(after, values)
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        np.testing.assert_allclose(actual[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_becomes(name: str, write: Write, expected: str, dtype: str = "float64") -> None:
    """The rewrite makes this of the expression, whose value and whose type stay."""
    before = of(write, dtype)
    after = rewritten(name, before)
    actual = text(after.outputs["result"])
    assert actual == expected, f"it becomes {actual}"
    assert_same_values(before, after, 1e-12 if dtype == "float64" else 2e-6)


def assert_stays(name: str, write: Write, dtype: str = "float64") -> None:
    """The rewrite finds nothing to do."""
    before = of(write, dtype)
    assert on_copy(REWRITES[name], before) is before
