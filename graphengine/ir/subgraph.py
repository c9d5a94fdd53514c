"""Parts of graphs: what lies between some nodes and others as a graph of its own, and the values in such a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input
from graphengine.ir.names import NAME_LENGTH
from graphengine.ir.node import Node

__all__ = ["cut", "evaluate", "needed_nodes"]


def cut(name: str, inputs: Sequence[Node], outputs: Mapping[str, Node]) -> Graph:
    """The graph that computes `outputs` from `inputs`, under the names that the nodes have in the graph around them.

    Its inputs are in the order of `inputs`, and its outputs in that of `outputs`. Its own name is cut to what fits.
    """
    source = (*inputs, *outputs.values())[0].graph
    part = Graph(name[:NAME_LENGTH].rstrip("."), source.dtype)
    copies: dict[Node, Node] = {}
    for node in inputs:
        with part.declared_at(node.where):
            copies[node] = part.add(Input(shape=node.shape, dtype=node.dtype), name=node.name)
    for node in needed_nodes(outputs.values(), inputs):
        with part.declared_at(node.where):
            copies[node] = part.add(node.op, [copies[parent] for parent in node.parents], name=node.name)
    part.outputs = {output: copies[node] for output, node in outputs.items()}
    return part


def needed_nodes(targets: Iterable[Node], given: Iterable[Node] = ()) -> list[Node]:
    """The nodes from which `targets`, all of one graph, are computed once the `given` ones are there, parents first."""
    stops = set(given)
    found: dict[int, Node] = {}
    pending = list(targets)
    while pending:
        node = pending.pop()
        if node.index not in found and node not in stops:
            found[node.index] = node
            pending.extend(node.parents)
    return [found[index] for index in sorted(found)]


def evaluate(graph: Graph, xp: Any, inputs: Sequence[Any]) -> dict[Node, Any]:
    """The value of every node of `graph`, a bundle's being a tuple, by `eval` alone: the reference semantics."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        if node not in values:
            values[node] = node.op.eval(xp, *(values[parent] for parent in node.parents))
    return values
