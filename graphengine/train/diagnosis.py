"""What is wrong with a batch: the element of the user's data, or the node that computes the first value not finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from graphengine.compile import compile
from graphengine.errors import ValueRangeError
from graphengine.executable import Executable
from graphengine.ir.leaf import Input
from graphengine.ir.names import free_name
from graphengine.ir.node import Node, Phase
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import Array
from graphengine.train.data import Arrays, Source

ADVICE = "a lower learning rate, clipped gradients, or data scaled to about 1 may help"


def out_of_range(
    error: ValueRangeError, feeds: Mapping[str, Array], source: Source, start: int, order: Array | None = None
) -> ValueRangeError:
    """The error with the place of the value in the user's data, where it comes from there.

    `start` and `order` say which examples of `source` the `feeds` are, as `source.where` takes them.
    """
    value, index = error.value, error.index or ()
    for name, array in feeds.items():
        inside = len(index) == array.ndim > 0 and all(i < size for i, size in zip(index, array.shape, strict=True))
        if inside and array[index] == value:
            said = f"of {source.where(name, index, start, order)}"
            told = ValueRangeError(error.message.replace(f"at {list(index)}", said, 1), value, index)
            told.quote(*error.context)
            return told
    return error


def odd_input(source: Source, names: Iterable[str], batch: Mapping[str, Array], start: int = 0) -> str | None:
    """The first element that is not finite among the inputs `names` of the user's data, of a stream among a batch."""
    data = source if isinstance(source, Arrays) else batch
    for name in names:
        bad = ~np.isfinite(data[name]) if name in data else np.False_
        if bad.any():
            index = tuple(np.argwhere(bad)[0].tolist())
            where = source.where(name, index, 0 if data is source else start)
            return f"input {where} is {data[name][index]}; leave such examples out, or fill them"
    return None


def not_finite(exe: Executable, feeds: Mapping[str, Array], source: Source, start: int) -> str:
    """Why the loss of a batch is not finite, and what may help: an input that is not, or else the first such value."""
    odd = odd_input(source, feeds, feeds, start)
    node = None if odd else _first_not_finite(exe, feeds)
    first = f"the first value that is not finite is {node.name}, declared at {node.where}; " if node is not None else ""
    return odd or first + ADVICE


def _first_not_finite(exe: Executable, feeds: Mapping[str, Array]) -> Node | None:
    """The first node on the way to the loss whose value is not finite by the weights that `exe` has now."""
    if exe.loss is None:
        return None
    graph = exe.graph.copy()
    nodes = {}
    for node in needed_nodes([graph.outputs[exe.loss]]):
        if node.phase is Phase.FORWARD and node.type.is_float and not isinstance(node.op, Input):
            name = free_name(node.name, graph.outputs)
            nodes[name] = graph.output(name, node)
    watched = compile(graph, rewrites=())
    watched.parameters.update(exe.parameters)
    watched.state.update(exe.state)
    values = watched.forward(feeds, list(nodes))
    return next((node for name, node in nodes.items() if not np.isfinite(values[name]).all()), None)
