"""Which nodes a program computes, and in what order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphengine.ir import order
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import GetItem
from graphengine.ops.finite import CheckFinite


def schedule(nodes: Sequence[Node], updates: Mapping[Node, Node]) -> list[Node]:
    """The nodes of a program, parents first: FORWARD, then BACKWARD, and each UPDATE node as soon as it may go.

    Within a phase they are in the order given. An UPDATE node may go once FORWARD is done, its operands are there and,
    when it gives a leaf its next value, the last other reader of that leaf is past: so gradients are retired one by
    one, and weights are overwritten in place. One that reads leaves alone, the decayed velocity of momentum
    say, goes with its first reader: before, it would only take memory.
    """
    computed = sorted([node for node in nodes if not node.op.is_leaf], key=lambda node: node.phase)
    last_value = sum(node.phase is Phase.FORWARD for node in computed)
    turn = dict.fromkeys(nodes, 0)  # leaves are there from the start
    turn |= {node: number for number, node in enumerate(computed, start=1)}
    last_reader = _last_readers(nodes, turn)
    targets: dict[Node, list[Node]] = {}
    for leaf, node in updates.items():
        writer = node.parents[0] if isinstance(node.op, GetItem) else node
        targets.setdefault(writer, []).append(leaf)
    for node in nodes:
        if node.phase is Phase.UPDATE:
            waits_for = [turn[parent] for parent in node.parents if not parent.op.is_leaf]
            waits_for += [last_reader.get(leaf, 0) for leaf in targets.get(node, ())]
            turn[node] = max(last_value, *waits_for) if waits_for else 0
    checks = {node for node in nodes if isinstance(node.op, CheckFinite)}
    checked = max((turn[node] for node in checks), default=0)
    for node in computed:
        if node.phase is Phase.UPDATE and node not in checks:
            turn[node] = max(turn[node], checked)
    _defer(nodes, turn)
    return order.parents_first(
        {node: node.parents for node in nodes},
        rank=lambda node: (turn[node], node.phase, node not in checks, node.index),
    )


def _defer(nodes: Sequence[Node], turn: dict[Node, int]) -> None:
    """Give every UPDATE node that leaves alone lead to the turn of its first reader; the last turn if it has none."""
    emitted = [node for node in nodes if node.phase is Phase.UPDATE and not node.is_leaf]
    of_leaves: set[Node] = set()
    for node in emitted:
        if all(parent.is_leaf or parent in of_leaves for parent in node.parents):
            of_leaves.add(node)
    first_reader: dict[Node, int] = {}
    for node in reversed(emitted):
        if node in of_leaves:
            turn[node] = max(turn[node], first_reader.get(node, len(nodes)))
        for parent in node.parents:
            first_reader[parent] = min(first_reader.get(parent, len(nodes)), turn[node])


def _last_readers(nodes: Iterable[Node], turn: Mapping[Node, int]) -> dict[Node, int]:
    """For every leaf the turn of the last node, outside the UPDATE phase, that reads it or a view of it."""
    last: dict[Node, int] = {}
    seen: dict[Node, Node] = {}
    for node in nodes:
        is_update = node.phase is Phase.UPDATE
        for slot, parent in enumerate(node.parents):
            leaf = seen.get(parent, parent)
            if leaf.op.is_leaf:
                if slot == 0 and node.op.is_view:
                    seen[node] = leaf
                if not is_update and turn[node] > last.get(leaf, 0):
                    last[leaf] = turn[node]
    return last
