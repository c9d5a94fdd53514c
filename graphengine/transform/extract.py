"""The part of a graph that one program runs: what its results and its updates need, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes

__all__ = ["extract"]


def extract(graph: Graph, results: Iterable[Node], updates: Mapping[Node, Node]) -> Graph:
    """A graph of the nodes that `results` and `updates` need, with the results as outputs under their own names.

    Nodes keep their names, phases, and where they were declared.
    """
    part = Graph(graph.name, graph.dtype)
    copies = part.append_copies(needed_nodes([*results, *updates, *updates.values()]))
    part.outputs = {node.name: copies[node] for node in results}
    part.updates = {copies[leaf]: copies[node] for leaf, node in updates.items()}
    return part
