"""Graphs made of parts of others: what is in them, the inputs that they need, and the phases of their nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input
from graphengine.ir.node import Node, Phase
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
    copy_nodes(sizing_inputs(twin.nodes, graph), twin, keep_phase=False)
    return twin


def sizing_inputs(nodes: Collection[Node], graph: Graph) -> list[Node]:
    """The inputs of `graph` that only tell the sizes of named dims, which no input among `nodes` tells."""
    if not any(node.type.names() for node in graph.inputs):
        return []
    unknown = {name for node in nodes for name in node.dim_names()}
    unknown -= {name for node in nodes if isinstance(node.op, Input) for name in node.type.names()}
    found = []
    for node in graph.inputs:
        if unknown & node.type.names():
            found.append(node)
            unknown -= node.type.names()
    return found


def settle_phases(graph: Graph, values: Iterable[Node]) -> None:
    """Let `values` and all that they are computed from be FORWARD, and no node be of a later phase than its readers.

    A gradient or a next value of one graph may be an output of another, or be read by a node of an earlier phase. A
    leaf is computed in no phase: its own says who declared it.
    """
    for node in values:
        _settle(node, Phase.FORWARD)
    for node in reversed(graph.nodes):
        for parent in node.parents:
            _settle(parent, node.phase)


def _settle(node: Node, phase: Phase) -> None:
    if node.phase > phase and not node.is_leaf:
        node.phase = phase
