"""A graph's nodes laid out anew in the graph itself: each stays, or another stands in for it."""

from __future__ import annotations

from collections.abc import Iterable

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import Op
from graphengine.ir.types import TensorType
from graphengine.ir.where import Where

__all__ = ["Rebuild", "drop_unneeded"]


class Rebuild:
    """The nodes of `graph` from place `start` on, given back one by one, in any order that has parents first.

    Each of `old` is kept, or something that is there by then stands in for it. `finish` ends it.
    """

    def __init__(self, graph: Graph, start: int = 0) -> None:
        self.graph = graph
        self.old = graph.nodes[start:]
        self.stand_ins: dict[Node, Node] = {}
        """What stands in for nodes that are not kept."""
        del graph.nodes[start:]

    def relink(self, node: Node) -> None:
        """Let `node` read what stands in for its parents."""
        stand_ins = self.stand_ins
        for parent in node.parents:
            if parent in stand_ins:
                node.parents = tuple([stand_ins.get(parent, parent) for parent in node.parents])
                return

    def keep(self, node: Node) -> None:
        """Give back a node, which has been relinked."""
        nodes = self.graph.nodes
        node.index = len(nodes)
        nodes.append(node)

    def add(
        self,
        op: Op,
        parents: tuple[Node, ...],
        type_: TensorType,
        name: str,
        phase: Phase,
        where: Where,
        of: str | None,
    ) -> Node:
        """Append a new node. Its name may be that of one for which it stands in; nothing is checked."""
        node = Node(self.graph, len(self.graph.nodes), name, op, parents, type_, phase, where, of)
        self.graph.nodes.append(node)
        self.graph._by_name[name] = node
        return node

    def finish(self, keep: Iterable[Node] = ()) -> None:
        """Let results be what stands in for them, and drop what nothing needs, but for what is in `keep`."""
        graph, stand_ins = self.graph, self.stand_ins
        graph.outputs = {name: stand_ins.get(node, node) for name, node in graph.outputs.items()}
        graph.updates = {leaf: stand_ins.get(node, node) for leaf, node in graph.updates.items()}
        for node in stand_ins:
            if graph._by_name.get(node.name) is node:
                del graph._by_name[node.name]
        drop_unneeded(graph, keep)


def drop_unneeded(graph: Graph, keep: Iterable[Node] = ()) -> None:
    """Take out of `graph` what its outputs and updates do not need, nor what is in `keep`.

    Leaves stay, but for constants: they are the operands of a scan's body, and what an executable holds.
    """
    leaves = [node for node in graph.nodes if node.op.is_leaf and type(node.op) is not Constant]
    graph.discard(0, keep=[*leaves, *keep, *graph.updates.values()])
