"""What a rewritten graph takes over from the one before: outputs and updates, and nothing that these do not need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Leaf
from graphengine.ir.node import Node

__all__ = ["take_results"]


def take_results(twin: Graph, graph: Graph, stand_ins: Sequence[Node], keep: Iterable[Node] = ()) -> Graph:
    """`twin` with the outputs, updates and training section of `graph`, and without what none of these needs.

    `stand_ins` are the nodes of `twin` in the place of those of `graph`, by their index there. Leaves stay, but for
    constants: they are the operands of a scan's body, and what an executable holds. So does what is in `keep`.
    """
    twin.outputs = {name: stand_ins[node.index] for name, node in graph.outputs.items()}
    twin.updates = {stand_ins[leaf.index]: stand_ins[node.index] for leaf, node in graph.updates.items()}
    twin.training = graph.training
    leaves = [node for node in twin.nodes if isinstance(node.op, Leaf) and not isinstance(node.op, Constant)]
    twin.discard(0, keep=[*leaves, *keep, *twin.updates.values()])
    return twin
