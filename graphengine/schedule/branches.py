"""An order that finishes one branch before it begins the next, for graphs declared level by level.

Each node is followed up to what it is computed from, the parent first that needs the most memory beyond its own size
(Sethi and Ullman 1970, who count registers of trees; on a graph, where values are shared, their number is a guess). It
is planned beside the order of declaration where less seems to live at one time, and taken if the plan is smaller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from graphengine.ir.node import Node, Phase
from graphengine.schedule.arena import fullest
from graphengine.schedule.program import Slot

_WORTH_IT = 0.95
"""How much must live in the other order, of what lives in the declared one, for it to be taken."""


def by_branch(nodes: Sequence[Node], nbytes: Mapping[Node, int], held: Collection[Node] = ()) -> list[Node] | None:
    """The nodes, those of each phase branch by branch; None unless much less lives at one time than in the order given.

    `nbytes` gives the bytes of each value; a node without any is a view of its first parent. `held` are read after the
    last node. It is judged without UPDATE nodes, and as if no value were written over another.
    """
    leaves, computed = [node for node in nodes if node.op.is_leaf], [node for node in nodes if not node.op.is_leaf]
    forward, backward, update = ([node for node in computed if node.phase is phase] for phase in Phase)
    declared = [*forward, *backward]
    lifetimes = _lifetimes(declared, nbytes, held)
    most, _ = fullest(lifetimes)
    retained = sum(slot.nbytes for slot in lifetimes if slot.first < len(forward) <= slot.last)
    if backward and retained > _WORTH_IT * most:
        return None  # what FORWARD leaves to BACKWARD lives in any order
    order = [*_depth_first(forward, nbytes), *_depth_first(backward, nbytes)]
    if order == declared or fullest(_lifetimes(order, nbytes, held))[0] > _WORTH_IT * most:
        return None
    return [*leaves, *order, *update]


def _depth_first(nodes: Sequence[Node], nbytes: Mapping[Node, int]) -> list[Node]:
    """The nodes, each right after what it is computed from; what none of them reads comes in the order given."""
    parents = _hungriest_first(nodes, nbytes)
    read = {parent for found in parents.values() for parent in found}
    order: dict[Node, None] = {}
    pending = [(node, iter(parents[node])) for node in reversed(nodes) if node not in read]
    while pending:
        node, rest = pending[-1]
        before = next((parent for parent in rest if parent not in order), None)
        if before is None:
            order[node] = None
            pending.pop()
        else:
            pending.append((before, iter(parents[before])))
    return list(order)


def _hungriest_first(nodes: Sequence[Node], nbytes: Mapping[Node, int]) -> dict[Node, list[Node]]:
    """For every node those of its parents that are among `nodes`, the one first that needs most beyond its own size."""
    parents: dict[Node, list[Node]] = {}
    size: dict[Node, int] = {}
    need: dict[Node, int] = {}
    for node in nodes:
        own = [parent for parent in dict.fromkeys(node.parents) if parent in size]
        parents[node] = own if len(own) < 2 else sorted(own, key=lambda parent: size[parent] - need[parent])
        most = held = 0
        for parent in parents[node]:
            most = max(most, held + need[parent])
            held += size[parent]
        size[node] = nbytes[node] if node in nbytes else size.get(node.parents[0], 0)
        need[node] = max(most, held + nbytes.get(node, 0))
    return parents


def _lifetimes(order: Sequence[Node], nbytes: Mapping[Node, int], held: Collection[Node]) -> list[Slot]:
    """The memory of each node in this order, which lives up to the last reader of it or of a view of it."""
    slots: dict[Node, Slot] = {}
    for number, node in enumerate(order):
        seen = None if node in nbytes else slots.get(node.parents[0])
        slot = slots[node] = seen or Slot(nbytes.get(node, 0), number, number)
        slot.last = number
        for parent in node.parents:
            if parent in slots:
                slots[parent].last = number
    for node in held:
        if node in slots:
            slots[node].last = len(order)
    return list(dict.fromkeys(slots.values()))
