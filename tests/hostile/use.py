"""What is done with a document of a stranger: all that needs no data, and one run with the smallest feeds."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np

import graphengine as ge
from graphengine.view import lint, summarize

LARGEST = 2**24
"""The bytes and the operations of a program up to which it is run."""


def use(graph: ge.Graph, backend: str = "numpy") -> str | None:
    """Do everything, and return the class of the first error; an error that is not graphengine's comes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        errors = [name for action in _actions(graph, backend) if (name := _error(action))]
    return errors[0] if errors else None


def _actions(graph: ge.Graph, backend: str) -> Iterator[Callable[[], object]]:
    sizes = {dim: 2 for node in graph.inputs for dim in node.type.names()}
    yield lambda: str(summarize(graph, **sizes))
    yield lambda: summarize(graph).to_dict()
    yield lambda: [str(finding) for finding in lint(graph)]
    yield lambda: ge.Graph.from_json(graph.to_json())
    yield lambda: _run(ge.compile(graph, backend=backend), sizes)
    if graph.training is not None:
        loss, optimizer = graph.training.loss, graph.training.optimizer
        yield lambda: _run(ge.compile(graph, loss=loss, backend=backend), sizes)
        yield lambda: _run(ge.compile(graph, loss=loss, optimizer=optimizer, backend=backend), sizes)


def _run(exe: ge.Executable, sizes: dict[str, int]) -> None:
    cost = exe.cost(**sizes)
    str(cost), str(exe.plan(**sizes)), str(exe.explain(**sizes))
    if max(cost.total_flops, *cost.bytes_moved.values(), cost.peak_bytes, cost.leaf_bytes) > LARGEST:
        return
    names = list(exe.graph.outputs)
    given = {node.name: np.ones(node.type.bind(sizes).static_shape, node.dtype) for node in exe.graph.inputs}
    exe.forward({name: given[name] for name in exe.needs(names)}, names)
    if exe.loss is not None:
        exe.backward()
        exe.step({name: given[name] for name in exe.needs()})


def _error(action: Callable[[], object]) -> str | None:
    try:
        action()
    except ge.GraphEngineError as error:
        str(error)
        return type(error).__name__
    return None
