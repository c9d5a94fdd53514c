"""The part of a graph that one program runs: what its results and its updates need, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes


def extract(graph: Graph, results: Iterable[Node], updates: Mapping[Node, Node]) -> Graph:
    """A graph of the nodes that `results` and `updates` need, with the results as outputs under their own names.

    Nodes keep their names, phases, and where they were declared.
    """
    part = Graph(graph.name, graph.dtype)
    copies = copy_nodes(needed_nodes([*results, *updates, *updates.values()]), part)
    part.outputs = {node.name: copies[node] for node in results}
    part.updates = {copies[leaf]: copies[node] for leaf, node in updates.items()}
    return part


def finish(twin: Graph, graph: Graph, copies: Mapping[Node, Node]) -> Graph:
    """`twin` with the outputs of `graph`, what these need, and the inputs that only tell the size of a named dim."""
    twin.outputs = {name: copies[node] for name, node in graph.outputs.items()}
    twin.discard(0, keep=[])
    unknown = {name for node in twin.nodes for name in node.dim_names()}
    unknown -= {name for node in twin.inputs for name in node.type.names()}
    for node in graph.inputs:
        if unknown & node.type.names():
            copy_nodes([node], twin, keep_phase=False)
            unknown -= node.type.names()
    return twin
