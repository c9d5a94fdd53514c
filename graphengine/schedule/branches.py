"""An order that finishes one branch before it begins the next, for graphs declared level by level.

Each node is followed up to what it is computed from, the parent first that needs the most memory beyond its own size
(Sethi and Ullman 1970, who count registers of trees; on a graph, where values are shared, their number is a guess). It
is planned beside the order of declaration where less seems to live at one time, and taken if the plan is smaller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from graphengine.ir.node import Node, Phase

_WORTH_IT = 0.95
"""How much must live in the other order, of what lives in the declared one, for it to be taken."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the nodes of a program take."""

    nbytes: Mapping[Node, int]
    """Bytes of values; none of views."""
    views: Collection[Node]
    """The nodes that show what their first parent holds."""
    held: Collection[Node] = ()
    """The nodes whose values are read after the last step."""


def by_branch(nodes: Sequence[Node], memory: Memory) -> list[Node] | None:
    """The nodes, those of each phase branch by branch; None unless much less lives at one time than in the order given.

    That is judged without UPDATE nodes, and as if no value were written over another.
    """
    leaves: list[Node] = []
    phases: dict[Phase, list[Node]] = {phase: [] for phase in Phase}
    for node in nodes:
        (leaves if node.op.is_leaf else phases[node.phase]).append(node)
    forward, backward, update = phases.values()
    declared = [*forward, *backward]
    alive = _alive(declared, memory)
    most = max(alive, default=0)
    if backward and alive[len(forward)] - memory.nbytes[backward[0]] > _WORTH_IT * most:
        return None  # what FORWARD leaves to BACKWARD lives in any order
    order = [*_depth_first(forward, memory), *_depth_first(backward, memory)]
    if order == declared or max(_alive(order, memory)) > _WORTH_IT * most:
        return None
    return [*leaves, *order, *update]


def _depth_first(nodes: Sequence[Node], memory: Memory) -> list[Node]:
    """The nodes, each right after what it is computed from; what nobody here reads comes in the order given."""
    parents = _hungriest_first(nodes, memory)
    read = {parent for found in parents.values() for parent in found}
    order: dict[Node, None] = {}
    for root in nodes:
        pending = [] if root in read else [(root, iter(parents[root]))]
        while pending:
            node, rest = pending[-1]
            before = next((parent for parent in rest if parent not in order), None)
            if before is None:
                order[node] = None
                pending.pop()
            else:
                pending.append((before, iter(parents[before])))
    return list(order)


def _hungriest_first(nodes: Sequence[Node], memory: Memory) -> dict[Node, list[Node]]:
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
        is_view = node in memory.views
        size[node] = size.get(node.parents[0], 0) if is_view else memory.nbytes[node]
        need[node] = max(most, held if is_view else held + size[node])
    return parents


def _alive(order: Sequence[Node], memory: Memory) -> list[int]:
    """The bytes that live while each node is computed; every value up to its last reader."""
    owner: dict[Node, Node] = {}
    last: dict[Node, int] = {}
    for place, node in enumerate(order):
        own = owner[node] = owner.get(node.parents[0], node) if node in memory.views else node
        last[own] = place
        for parent in node.parents:
            if parent in owner:
                last[owner[parent]] = place
    last.update({owner[node]: len(order) for node in memory.held if node in owner})
    nbytes = memory.nbytes
    change = [nbytes[node] for node in order]
    change.append(0)
    for node, place in last.items():
        if place < len(order):
            change[place + 1] -= nbytes[node]
    return list(accumulate(change[:-1]))
