"""Scans narrowed to what is read of them: no operand, carry or node of the body more than the items read depend on.

A planner leaves out what a body need not compute. But as long as the scan names an operand, the operand is computed,
and the graph says that the items depend on it, which a derivative of a derivative would take at its word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphengine.ir.copying import copy_nodes
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import GetItem, Op
from graphengine.ir.types import ValueType
from graphengine.ops.scan import Scan


@dataclass(frozen=True, slots=True)
class NarrowedScan:
    """A scan that yields items of another: its op, and which operands of the other it reads."""

    op: Scan
    operands: Sequence[int]
    items: Mapping[int, int]
    """The number here of each item of the other; the same number if it is left out."""


def narrow_scans(results: Sequence[Node], start: int) -> list[Node]:
    """`results` computed by scans narrowed to what they read; emitted again are only the nodes that this changes.

    Nodes that were in the graph when it had `start` stay as they are.
    """
    graph = results[0].graph
    live, narrowed = live_nodes(results, start)
    nodes = [node for node in graph.nodes[start:] if node in live]
    return _copy(nodes, graph, narrowed, results)


def replace_scans(graph: Graph, scans: Mapping[Node, NarrowedScan]) -> None:
    """Let scans of `graph` be these, and take their items by the new numbers."""
    for node in graph.nodes:
        if isinstance(node.op, GetItem) and node.parents[0] in scans:
            node.op = GetItem(index=scans[node.parents[0]].items.get(node.op.index, node.op.index))
    for node, scan in scans.items():
        node.op, node.parents = scan.op, tuple([node.parents[index] for index in scan.operands])
        node.type = scan.op.infer(*(parent.type for parent in node.parents))


def live_nodes(results: Sequence[Node], start: int) -> tuple[set[Node], dict[Node, NarrowedScan]]:
    """The nodes from index `start` on that `results` are computed from, and each scan among them, narrowed."""
    live, read = set(results), dict[Node, set[int]]()
    narrowed: dict[Node, NarrowedScan] = {}
    for node in reversed(results[0].graph.nodes[start:]):
        if node not in live:
            continue
        if isinstance(node.op, GetItem):
            read.setdefault(node.parents[0], set()).add(node.op.index)
        parents: Sequence[Node] = node.parents
        if isinstance(node.op, Scan):
            narrowed[node] = _narrow(node.op, sorted(read[node]), [parent.type for parent in parents])
            parents = [parents[index] for index in narrowed[node].operands]
        live.update(parents)
    return live, narrowed


def _copy(
    nodes: Iterable[Node], graph: Graph, narrowed: Mapping[Node, NarrowedScan], results: Sequence[Node]
) -> list[Node]:
    """Emit into `graph` those of `nodes` that are not there yet, or differ by what they are narrowed to."""
    copies: dict[Node, Node] = {}

    def replaced(node: Node) -> Node | tuple[Op, Sequence[Node]]:
        op, parents = node.op, node.parents
        if node in narrowed:
            op, parents = narrowed[node].op, tuple([parents[index] for index in narrowed[node].operands])
        elif isinstance(op, GetItem) and parents[0] in narrowed:
            op = GetItem(index=narrowed[parents[0]].items[op.index])
        stays = node.graph is graph and parents == node.parents and not any(copies.get(p, p) is not p for p in parents)
        return node if stays and op == node.op else (op, parents)

    copy_nodes(nodes, graph, copies, replace=replaced, rename=lambda node: None if node.name in graph else node.name)
    return [copies.get(node, node) for node in results]


def _narrow(op: Scan, items: Sequence[int], types: Sequence[ValueType]) -> NarrowedScan:
    """The scan that yields `items` of `op`, for operands of these types."""
    carries, live, narrowed = _live_carries(op, items)
    inputs, stepped = op.opened.inputs, range(op.carries, op.carries + op.sequences)
    operands = [*carries, *(index for index in range(op.carries, len(inputs)) if inputs[index] in live)]
    body = Graph(op.body.name, op.body.dtype)
    yielded = [*carries, *(item for item in items if item >= op.carries)]
    nodes = [*(inputs[index] for index in operands), *(node for node in op.opened.nodes if node in live)]
    for node in _copy(nodes, body, narrowed, [op.items[item] for item in yielded]):
        body.output(f"output_{len(body.outputs)}", node)
    sequences = sum(index in stepped for index in operands)
    length = 0 if sequences else op.steps(types)
    narrower = Scan(body=body, carries=len(carries), sequences=sequences, length=length, reverse=op.reverse)
    return NarrowedScan(narrower, tuple(operands), {item: index for index, item in enumerate(yielded)})


def _live_carries(op: Scan, items: Collection[int]) -> tuple[list[int], set[Node], dict[Node, NarrowedScan]]:
    """The carries that `items` depend on, and what of the body these and the items are computed from."""
    carries = {item for item in items if item < op.carries}
    while True:
        live, narrowed = live_nodes([op.items[item] for item in {*items, *carries}], 0)
        more = {index for index in range(op.carries) if op.opened.inputs[index] in live} | carries
        if more == carries:
            return sorted(carries), live, narrowed
        carries = more
