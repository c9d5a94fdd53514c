"""Scans narrowed to what is read of them: no operand, carry or node of the body more than the items read depend on.

A planner leaves out what a body need not compute. But as long as the scan names an operand, the operand is computed,
and the graph says that the items depend on it, which a derivative of a derivative would take at its word.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graphengine.ir.bundle import Item
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.types import TensorType
from graphengine.ops.scan import Scan

__all__ = ["Narrow", "live_nodes", "narrow"]


@dataclass(frozen=True, slots=True)
class Narrow:
    """A scan that yields some items of another: its op, which operands of the other it reads, and the items' places."""

    op: Scan
    operands: tuple[int, ...]
    items: dict[int, int]


def narrow(results: Sequence[Node], start: int) -> list[Node]:
    """`results` computed by scans narrowed to what they read; emitted again are only the nodes that this changes.

    Nodes that were in the graph when it had `start` stay as they are.
    """
    graph = results[0].graph
    live, narrowed = live_nodes(results, start)
    nodes = [node for node in graph.nodes[start:] if node in live]
    return _emit(graph, nodes, narrowed, {node: node for node in graph.nodes[:start]}, results)


def live_nodes(results: Sequence[Node], start: int) -> tuple[set[Node], dict[Node, Narrow]]:
    """The nodes from place `start` on that `results` are computed from, and each scan among them, narrowed."""
    live, read = set(results), dict[Node, set[int]]()
    narrowed: dict[Node, Narrow] = {}
    for node in reversed(results[0].graph.nodes[start:]):
        if node not in live:
            continue
        if isinstance(node.op, Item):
            read.setdefault(node.parents[0], set()).add(node.op.index)
        parents: Sequence[Node] = node.parents
        if isinstance(node.op, Scan):
            narrowed[node] = _narrow(node.op, sorted(read[node]), [parent.type for parent in parents])
            parents = [parents[place] for place in narrowed[node].operands]
        live.update(parents)
    return live, narrowed


def _emit(
    target: Graph,
    nodes: Sequence[Node],
    narrowed: Mapping[Node, Narrow],
    copies: dict[Node, Node],
    results: Sequence[Node],
) -> list[Node]:
    """Emit into `target` those of `nodes` that are not there yet, or differ by what they are narrowed to."""
    for node in nodes:
        if node in copies:
            continue
        op, parents = node.op, node.parents
        if node in narrowed:
            op, parents = narrowed[node].op, tuple(parents[place] for place in narrowed[node].operands)
        elif isinstance(op, Item) and parents[0] in narrowed:
            op = Item(index=narrowed[parents[0]].items[op.index])
        given = tuple(copies[parent] for parent in parents)
        if node.graph is target and (op, given) == (node.op, node.parents):
            copies[node] = node
            continue
        with target.emitting_like(node):
            copies[node] = target.add(op, given, None if node.name in target else node.name)
    return [copies[node] for node in results]


def _narrow(op: Scan, items: Sequence[int], types: Sequence[TensorType]) -> Narrow:
    """The scan that yields `items` of `op`, for operands of these types."""
    carries, live, narrowed = _live_carries(op, items)
    inputs, stepped = op.opened.inputs, range(op.carries, op.carries + op.sequences)
    operands = [*carries, *(place for place in range(op.carries, len(inputs)) if inputs[place] in live)]
    body = Graph(op.body.name, op.body.dtype)
    copies = {inputs[place]: body.add(inputs[place].op, (), inputs[place].name) for place in operands}
    yielded = [*carries, *(item for item in items if item >= op.carries)]
    nodes = [node for node in op.opened.nodes if node in live]
    for node in _emit(body, nodes, narrowed, copies, [op.items[item] for item in yielded]):
        body.output(f"output_{len(body.outputs)}", node)
    sequences = sum(place in stepped for place in operands)
    length = 0 if sequences else op.steps(types)
    narrower = Scan(body=body, carries=len(carries), sequences=sequences, length=length, reverse=op.reverse)
    return Narrow(narrower, tuple(operands), {item: place for place, item in enumerate(yielded)})


def _live_carries(op: Scan, items: Collection[int]) -> tuple[list[int], set[Node], dict[Node, Narrow]]:
    """The carries that `items` depend on, and what of the body these and the items are computed from."""
    carries = {item for item in items if item < op.carries}
    while True:
        live, narrowed = live_nodes([op.items[item] for item in {*items, *carries}], 0)
        more = {place for place in range(op.carries) if op.opened.inputs[place] in live} | carries
        if more == carries:
            return sorted(carries), live, narrowed
        carries = more
