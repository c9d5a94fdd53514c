"""An order that finishes one branch before it begins the next, for graphs declared level by level.

Each node is followed up to what it is computed from, the parent first that needs the most memory beyond its own size
(Sethi and Ullman 1970, who count registers of trees; on a graph, where values are shared, their number is a guess). It
is planned beside the order of declaration where less seems to live at one time, and taken if the plan is smaller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graphengine.ir.node import Node, Phase

__all__ = ["Memory", "by_branch"]

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
    phases = [[node for node in nodes if node.phase is phase and not node.is_leaf] for phase in Phase]
    declared = [*phases[Phase.FORWARD], *phases[Phase.BACKWARD]]
    order = [*_depth_first(phases[Phase.FORWARD], memory), *_depth_first(phases[Phase.BACKWARD], memory)]
    if order == declared or _most_alive(order, memory) > _WORTH_IT * _most_alive(declared, memory):
        return None
    return [*(node for node in nodes if node.is_leaf), *order, *phases[Phase.UPDATE]]


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


def _most_alive(order: Sequence[Node], memory: Memory) -> int:
    """The most bytes that live at one time; every value up to its last reader."""
    owner: dict[Node, Node] = {}
    last: dict[Node, int] = {}
    for place, node in enumerate(order):
        owner[node] = owner.get(node.parents[0], node) if node in memory.views else node
        last[owner[node]] = place
        last.update({owner[parent]: place for parent in node.parents if parent in owner})
    last.update({owner[node]: len(order) for node in memory.held if node in owner})
    freed: Counter[int] = Counter()
    for node, place in last.items():
        freed[place] += memory.nbytes[node]
    alive = most = 0
    for place, node in enumerate(order):
        alive += memory.nbytes[node]
        most = max(most, alive)
        alive -= freed[place]
    return most
