"""Rewrites inside of scans: the same pass, made in every body.

The items of a scan are counted by its body's outputs and, behind them, by all other values in it. Items that are read
of the latter become outputs first, so that a pass may do with the rest as it likes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection

from graphengine.ir.graph import Graph
from graphengine.ir.names import free_name
from graphengine.ir.node import Node
from graphengine.ir.op import GetItem
from graphengine.ops.scan import Scan
from graphengine.transform.scan_dce import NarrowedScan, replace_scans


def in_bodies(graph: Graph, rewrite: Callable[[Graph], bool]) -> bool:
    """Make `rewrite` in the body of every scan of `graph`, whose operands stay; whether that changes anything.

    `rewrite` keeps the inputs and the names of the outputs of what it is given, and tells whether it has changed it.
    """
    scans = [node for node in graph.nodes if isinstance(node.op, Scan)]
    if not scans:
        return False
    read: dict[Node, set[int]] = defaultdict(set)
    for node in graph.nodes:
        if isinstance(node.op, GetItem):
            read[node.parents[0]].add(node.op.index)
    changed = {}
    for node in scans:
        assert isinstance(node.op, Scan)
        body, items = _exposed(node.op, read[node])
        if rewrite(body):
            op = node.op.model_copy(update={"body": body})
            changed[node] = NarrowedScan(op, range(len(node.parents)), items)
    replace_scans(graph, changed)
    return bool(changed)


def _exposed(op: Scan, read: Collection[int]) -> tuple[Graph, dict[int, int]]:
    """A copy of the body with an output for every item that is read, and the new numbers of those that had none."""
    hidden = sorted(item for item in read if item >= len(op.body.outputs))
    if not hidden:
        return op.body.copy(), {}
    body = op.opened.copy()
    new = {item: len(body.outputs) + index for index, item in enumerate(hidden)}
    for item in hidden:
        body.output(free_name(f"item_{item}", body.outputs), body.nodes[op.items[item].index])
    body.discard(0, keep=body.inputs)  # the items, of scans in the body, that nobody reads
    return body, new
