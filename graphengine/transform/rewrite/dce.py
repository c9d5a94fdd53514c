"""Dead-code elimination: nodes that no result needs, and of scans the operands, carries and values of a step.

The planner computes nothing that is not needed, and keeps no items of a scan that nobody reads. But as long as a scan
names an operand, that is computed, and a carry that only itself depends on is carried on.
"""

from __future__ import annotations

from graphengine.ir.copying import drop_unneeded, is_held
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.scan import Scan
from graphengine.transform.scan_dce import NarrowedScan, live_nodes, replace_scans


def eliminate_dead_code(graph: Graph) -> bool:
    """Dead-code elimination: remove nodes, and parts of scans, that no output and no update needs.

    Leaves stay, but for constants.
    """
    results = [*graph.outputs.values(), *graph.updates.values()]
    if not results:
        return False
    live, scans = live_nodes(results, 0)
    narrowed = {node: narrow for node, narrow in scans.items() if _is_less(narrow, node)}
    if not narrowed and all(node in live or is_held(node) for node in graph.nodes):
        return False
    replace_scans(graph, narrowed)
    drop_unneeded(graph)
    return True


def _is_less(narrow: NarrowedScan, node: Node) -> bool:
    """Whether the narrowed scan has fewer operands, or less to compute in a step."""
    assert isinstance(node.op, Scan)
    return len(narrow.operands) < len(node.parents) or len(narrow.op.body) < len(node.op.body)
