"""What an op function gives, and its derivatives, through the whole way: declared, differentiated, compiled, run."""

from collections.abc import Callable
from typing import Any

import numpy as np

import graphengine as ge

Function = Callable[..., ge.Node]


def evaluate(function: Function, *arrays: np.ndarray, **options: Any) -> np.ndarray:
    """The value of `function`, of nodes, at these arrays; `options` are those of `compile`."""
    graph, nodes, feeds = _declare(arrays)
    graph.output("y", function(*nodes))
    return ge.compile(graph, **options).forward(feeds)["y"]


def derivatives(function: Function, *arrays: np.ndarray, **options: Any) -> list[np.ndarray]:
    """The gradients of the sum of `function` with respect to the operands that hold floats."""
    graph, nodes, feeds = _declare(arrays)
    floats = [node for node in nodes if node.type.is_float]
    gradients = ge.grad(ge.sum(function(*nodes)), floats)
    for node, gradient in zip(floats, gradients, strict=True):
        graph.output(f"{node.name}_bar", gradient)
    values = ge.compile(graph, **options).forward(feeds)
    return [values[f"{node.name}_bar"] for node in floats]


def _declare(arrays: tuple[np.ndarray, ...]) -> tuple[ge.Graph, list[ge.Node], dict[str, np.ndarray]]:
    graph = ge.Graph("evaluation", "float64")
    feeds = {f"x{place}": np.asarray(array) for place, array in enumerate(arrays)}
    return graph, [graph.input(name, array.shape, array.dtype) for name, array in feeds.items()], feeds
