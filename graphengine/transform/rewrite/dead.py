"""What no result needs, left out: nodes, and of scans the operands, carries and values of a step.

The planner computes nothing that is not needed, and keeps no items of a scan that nobody reads. But as long as a scan
names an operand, that is computed, and a carry that only itself depends on is carried on.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphengine.ir.bundle import Item
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Leaf
from graphengine.ir.node import Node
from graphengine.ops.scan import Scan
from graphengine.transform.narrow import Narrow, live_nodes
from graphengine.transform.rewrite.results import take_results

__all__ = ["drop_dead"]


def drop_dead(graph: Graph) -> Graph:
    """`graph` without nodes that its outputs and updates do not need, and with scans narrowed to what is read of them.

    Leaves stay, but for constants.
    """
    results = [*graph.outputs.values(), *graph.updates.values()]
    if not results:
        return graph
    live, scans = live_nodes(results, 0)
    narrowed = {node: narrow for node, narrow in scans.items() if _is_less(narrow, node)}
    if not narrowed and all(node in live or _is_given(node) for node in graph.nodes):
        return graph
    twin = Graph(graph.name, graph.dtype)
    copies: list[Node] = []
    for node in graph.nodes:
        model = _model(node, narrowed)
        parents = tuple([copies[parent.index] for parent in model.parents])
        copies.append(twin.append_copy(model, parents))
    return take_results(twin, graph, copies)


def _is_given(node: Node) -> bool:
    return isinstance(node.op, Leaf) and not isinstance(node.op, Constant)


def _is_less(narrow: Narrow, node: Node) -> bool:
    """Whether the narrowed scan has fewer operands, or less to compute in a step."""
    assert isinstance(node.op, Scan)
    return len(narrow.operands) < len(node.parents) or len(narrow.op.body) < len(node.op.body)


def _model(node: Node, narrowed: Mapping[Node, Narrow]) -> Node:
    """`node`, or what it becomes as a narrowed scan, or as an item of one, on parents of the graph as it was."""
    op, parents, type_ = node.op, node.parents, node.type
    if node in narrowed:
        narrow = narrowed[node]
        op, parents = narrow.op, tuple(parents[place] for place in narrow.operands)
        type_ = op.infer(*(parent.type for parent in parents))
    elif isinstance(op, Item) and parents[0] in narrowed:
        if op.index not in narrowed[parents[0]].items:
            return node
        op = Item(index=narrowed[parents[0]].items[op.index])
    else:
        return node
    return Node(node.graph, -1, node.name, op, parents, type_, node.phase, node.where, node.of)
