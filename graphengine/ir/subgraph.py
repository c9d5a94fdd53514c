"""Parts of graphs: what lies between some nodes and others as a graph of its own, and the values in such a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from graphengine.ir.copying import as_input, copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.names import NAME_LENGTH
from graphengine.ir.node import Node

_INDEX = attrgetter("index")


def cut(name: str, inputs: Sequence[Node], outputs: Mapping[str, Node]) -> Graph:
    """The graph that computes `outputs` from `inputs`, under the names that the nodes have in the graph around them.

    Its inputs are in the order of `inputs`, and its outputs in that of `outputs`. Its own name is cut to what fits.
    """
    source = (*inputs, *outputs.values())[0].graph
    part = Graph(name[:NAME_LENGTH].rstrip("."), source.dtype)
    copies = copy_nodes(inputs, part, replace=as_input, keep_phase=False)
    copy_nodes(needed_nodes(outputs.values(), inputs), part, copies, keep_phase=False)
    part.outputs = {output: copies[node] for output, node in outputs.items()}
    return part


def needed_nodes(targets: Iterable[Node], given: Iterable[Node] = ()) -> list[Node]:
    """The nodes from which `targets`, all of one graph, are computed once the `given` ones are there, parents first."""
    stops = set(given)
    found = {node for node in targets if node not in stops}
    seen = found | stops
    pending = list(found)
    while pending:
        for parent in pending.pop().parents:
            if parent not in seen:
                seen.add(parent)
                pending.append(parent)
    return sorted(seen - stops, key=_INDEX)


def between(
    sources: Iterable[Node], targets: Iterable[Node], passes: Callable[[Node], bool] = lambda _: True
) -> list[Node]:
    """The nodes on paths from `sources` to `targets`, these included, parents first; all but `sources` are to pass."""
    ends, reached = list(targets), set(sources)
    if not reached or not ends:
        return []
    first, last = min(node.index for node in reached), max(node.index for node in ends)
    nodes = ends[0].graph.nodes[first : last + 1]
    needed = set(ends)
    for node in nodes:
        if not reached.isdisjoint(node.parents) and passes(node):
            reached.add(node)
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.parents)
    return [node for node in nodes if node in reached and node in needed]


def evaluate(graph: Graph, xp: Any, inputs: Sequence[Any]) -> dict[Node, Any]:
    """The value of every node of `graph`, a tuple's being a tuple, by `eval` alone: the reference semantics."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        if node not in values:
            values[node] = node.op.eval(xp, *(values[parent] for parent in node.parents))
    return values
