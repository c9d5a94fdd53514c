"""The steps of a rewrite that builds a graph anew: a node copied, and the rest left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Op

__all__ = ["add_copy", "finish"]


def add_copy(twin: Graph, node: Node, op: Op, parents: Sequence[Node]) -> Node:
    """`op` applied to `parents` in `twin`, under the name of `node` and declared where that was."""
    with twin.declared_at(node.where):
        return twin.add(op, parents, node.name)


def finish(twin: Graph, graph: Graph, copies: Mapping[Node, Node]) -> Graph:
    """`twin` with the outputs of `graph`, what these need, and the inputs that only tell the size of a named dim."""
    twin.outputs = {name: copies[node] for name, node in graph.outputs.items()}
    twin.discard(0, keep=[])
    unknown = {name for node in twin.nodes for name in node.dim_names()}
    unknown -= {name for node in twin.inputs for name in node.type.names()}
    for node in graph.inputs:
        if unknown & node.type.names():
            add_copy(twin, node, node.op, ())
            unknown -= node.type.names()
    return twin
