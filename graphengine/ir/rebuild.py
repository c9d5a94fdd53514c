"""A graph's nodes laid out anew in the graph itself: each stays, or another stands in for it."""

from __future__ import annotations

from collections.abc import Iterable

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node


class Rebuild:
    """The nodes of `graph` from place `start` on, given back one by one, in any order that has parents first.

    Each of `old` is kept, or something that is there by then stands in for it: a node from before, or a new one, which
    has been appended to the graph and may bear its name. `finish` ends it.
    """

    def __init__(self, graph: Graph, start: int = 0) -> None:
        self.graph = graph
        self.old = graph.nodes[start:]
        self.replacements: dict[Node, Node] = {}
        """What stands in for nodes that are not kept."""
        del graph.nodes[start:]

    def relink(self, node: Node) -> None:
        """Let `node` read what stands in for its parents."""
        replacements = self.replacements
        for parent in node.parents:
            if parent in replacements:
                node.parents = tuple([replacements.get(parent, parent) for parent in node.parents])
                return

    def keep(self, node: Node) -> None:
        """Give back a node, which has been relinked."""
        nodes = self.graph.nodes
        node.index = len(nodes)
        nodes.append(node)

    def finish(self, keep: Iterable[Node] = ()) -> None:
        """Let results be what stands in for them, and drop what nothing needs, but for what is in `keep`."""
        graph, replacements = self.graph, self.replacements
        graph.outputs = {name: replacements.get(node, node) for name, node in graph.outputs.items()}
        graph.updates = {leaf: replacements.get(node, node) for leaf, node in graph.updates.items()}
        graph.forget(replacements)
        drop_unneeded(graph, keep)


def drop_unneeded(graph: Graph, keep: Iterable[Node] = ()) -> None:
    """Take out of `graph` what neither its outputs and updates nor `keep` need. What `is_held` stays."""
    held = [node for node in graph.nodes if is_held(node)]
    graph.discard(0, keep=[*held, *keep, *graph.updates.values()])


def is_held(node: Node) -> bool:
    """Whether a node is a leaf, but no constant: an operand of a scan's body, or what an executable holds."""
    return node.op.is_leaf and type(node.op) is not Constant
