"""Models to differentiate, and the values of nodes in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import graphengine as ge
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.scan import scan

N = 5
"""The size of "batch"."""


def compiled(nodes: Sequence[Node], seed: int = 0) -> Executable:
    """An executable whose outputs are `nodes`, as "_0", "_1", ...."""
    twin = nodes[0].graph.copy()
    twin.outputs = {f"_{place}": twin.nodes[node.index] for place, node in enumerate(nodes)}
    return ge.compile(twin, seed=seed)


def values(
    nodes: Sequence[Node], feeds: Mapping[str, np.ndarray], parameters: Mapping[str, np.ndarray] | None = None
) -> list[np.ndarray]:
    """The values of `nodes`, for these feeds and parameters; those of other parameters are drawn from seed 0."""
    exe = compiled(nodes)
    for name, value in (parameters or {}).items():
        exe.parameters[name] = value
    return list(exe.forward(feeds).values())


def parameters(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """A float64 value for each parameter, none of them zero."""
    generator = np.random.default_rng(seed)
    return {node.name: generator.normal(size=node.type.static_shape) * 0.7 for node in graph.parameters}


def mlp() -> tuple[Graph, Node, dict[str, np.ndarray]]:
    """Two dense layers and a cross entropy: the graph, its loss, feeds."""
    graph = ge.Graph("mlp", dtype="float64")
    x, y = graph.input("x", ("batch", 4)), graph.input("y", ("batch",), dtype="int64")
    w, b = graph.parameter("w", (4, 6)), graph.parameter("b", (6,))
    v, c = graph.parameter("v", (6, 3)), graph.parameter("c", (3,))
    loss = ge.cross_entropy(ge.tanh(x @ w + b) @ v + c, y, name="loss")
    generator = np.random.default_rng(1)
    return graph, loss, {"x": generator.normal(size=(N, 4)), "y": generator.integers(0, 3, N)}


def recurrent() -> tuple[Graph, Node, dict[str, np.ndarray]]:
    """A recurrent layer whose states all enter the loss: the graph, its loss, feeds."""
    graph = ge.Graph("recurrent", dtype="float64")
    x, h = graph.input("x", (6, "batch", 2)), graph.input("h", ("batch", 3))
    w, u, b = graph.parameter("w", (2, 3)), graph.parameter("u", (3, 3)), graph.parameter("b", (3,))

    def step(state: Node, x_t: Node) -> tuple[Node, Node]:
        after = ge.tanh(x_t @ w + state @ u + b)
        return after, after * state

    last, products = scan(step, h, x)
    loss = ge.add(ge.sum(ge.exp(products * 0.3)), ge.sum(last * last), name="loss")
    generator = np.random.default_rng(2)
    return graph, loss, {"x": generator.normal(size=(6, N, 2)), "h": generator.normal(size=(N, 3))}


def normal_like(nodes: Sequence[Node], seed: int = 3) -> list[Node]:
    """Constant directions, one for each of `nodes`."""
    generator = np.random.default_rng(seed)
    shapes = [[N if dim == "batch" else int(dim) for dim in node.shape] for node in nodes]
    return [nodes[0].graph.constant(None, generator.normal(size=shape)) for shape in shapes]


def inner(first: Sequence[Node], second: Sequence[Node]) -> Node:
    """The sum over all elements of products."""
    terms = [ge.sum(a * b) for a, b in zip(first, second, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
