"""Rewrites inside of scans: the same pass, made in every body.

The items of a scan are counted by its body's outputs and, behind them, by all other values in it. Items that are read
of the latter become outputs first, so that a pass may do with the rest as it likes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from graphengine.ir.bundle import Item
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.scan import Scan
from graphengine.transform.rewrite.results import take_results

__all__ = ["in_bodies"]


def in_bodies(graph: Graph, rewrite: Callable[[Graph], Graph]) -> Graph:
    """`graph` with `rewrite` made in the body of every scan, whose operands stay; itself where that changes nothing.

    `rewrite` keeps the inputs and the names of the outputs of what it is given.
    """
    scans = [node for node in graph.nodes if isinstance(node.op, Scan)]
    if not scans:
        return graph
    read = _items_read(graph)
    changed = {node: new for node in scans if (new := _rewritten(node, read[node], rewrite)) is not None}
    return _with(graph, changed) if changed else graph


@dataclass(frozen=True, slots=True)
class _Changed:
    """A scan with another body, and the new numbers of the items that were no outputs."""

    op: Scan
    items: Mapping[int, int]


def _items_read(graph: Graph) -> dict[Node, set[int]]:
    """The items that are read of each bundle."""
    read: dict[Node, set[int]] = defaultdict(set)
    for node in graph.nodes:
        if isinstance(node.op, Item):
            read[node.parents[0]].add(node.op.index)
    return read


def _rewritten(scan: Node, read: Collection[int], rewrite: Callable[[Graph], Graph]) -> _Changed | None:
    assert isinstance(scan.op, Scan)
    body, items = _exposed(scan.op, read)
    new = rewrite(body)
    if new is body:
        return None
    return _Changed(scan.op.model_copy(update={"body": new}), items)


def _exposed(op: Scan, read: Collection[int]) -> tuple[Graph, dict[int, int]]:
    """The body with an output for every item that is read, and the new numbers of those that were none before."""
    hidden = sorted(item for item in read if item >= len(op.body.outputs))
    if not hidden:
        return op.body, {}
    body = op.opened.copy()
    new = {item: len(body.outputs) + place for place, item in enumerate(hidden)}
    for item in hidden:
        body.output(_free_output(body, f"item_{item}"), body.nodes[op.items[item].index])
    body.discard(0, keep=body.inputs)  # the items, of scans in the body, that nobody reads
    return body, new


def _free_output(body: Graph, name: str) -> str:
    while name in body.outputs:
        name += "_"
    return name


def _with(graph: Graph, changed: Mapping[Node, _Changed]) -> Graph:
    """`graph` with these scans in the place of its own."""
    twin = Graph(graph.name, graph.dtype)
    copies: list[Node] = []
    for node in graph.nodes:
        parents = tuple([copies[parent.index] for parent in node.parents])
        copies.append(twin.append_copy(_redone(node, changed), parents))
    return take_results(twin, graph, copies)


def _redone(node: Node, changed: Mapping[Node, _Changed]) -> Node:
    """`node`, or if it is a changed scan, or an item of one with another number, a model of what it becomes."""
    op, type_ = node.op, node.type
    if node in changed:
        op = changed[node].op
        type_ = op.infer(*(parent.type for parent in node.parents))
    elif isinstance(op, Item) and node.parents[0] in changed:
        op = Item(index=changed[node.parents[0]].items.get(op.index, op.index))
    else:
        return node
    return Node(node.graph, -1, node.name, op, (), type_, node.phase, node.where, node.of)
