"""What no result needs, left out: nodes, and of scans the operands, carries and values of a step.

The planner computes nothing that is not needed, and keeps no items of a scan that nobody reads. But as long as a scan
names an operand, that is computed, and a carry that only itself depends on is carried on.
"""

from __future__ import annotations

from graphengine.ir.bundle import Item
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.rebuild import drop_unneeded, is_held
from graphengine.ops.scan import Scan
from graphengine.transform.narrow import Narrow, live_nodes

__all__ = ["drop_dead"]


def drop_dead(graph: Graph) -> bool:
    """Leave out nodes that outputs and updates do not need, and narrow scans to what is read of them.

    Leaves stay, but for constants.
    """
    results = [*graph.outputs.values(), *graph.updates.values()]
    if not results:
        return False
    live, scans = live_nodes(results, 0)
    narrowed = {node: narrow for node, narrow in scans.items() if _is_less(narrow, node)}
    if not narrowed and all(node in live or is_held(node) for node in graph.nodes):
        return False
    for node in graph.nodes:
        if isinstance(node.op, Item) and node.parents[0] in narrowed:
            items = narrowed[node.parents[0]].items
            node.op = Item(index=items.get(node.op.index, node.op.index))
    for node, narrow in narrowed.items():
        node.op, node.parents = narrow.op, tuple([node.parents[place] for place in narrow.operands])
        node.type = narrow.op.infer(*(parent.type for parent in node.parents))
    drop_unneeded(graph)
    return True


def _is_less(narrow: Narrow, node: Node) -> bool:
    """Whether the narrowed scan has fewer operands, or less to compute in a step."""
    assert isinstance(node.op, Scan)
    return len(narrow.operands) < len(node.parents) or len(narrow.op.body) < len(node.op.body)
