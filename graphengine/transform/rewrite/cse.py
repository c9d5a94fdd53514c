"""Common-subexpression elimination: equal ops on the same operands, found by hash-consing in one walk.

Of equal nodes the first stays, whatever its phase, unless it is of a later one: what is FORWARD never reads BACKWARD.
Inputs, parameters and states are never equal, and small constants are where all their elements are. a + b is b + a.
Draws are a function of seed, step and stream, which are operands and attributes: nodes of different streams differ.
"""

from __future__ import annotations

from collections.abc import Hashable

from graphengine.ir.copying import drop_unneeded
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ops.elementwise import Add, Multiply
from graphengine.transform.rewrite.bodies import in_bodies

COMPARED_ELEMENTS = 1024
"""The size up to which constants are compared; larger ones are equal only if they are one op."""


def merge_common_subexpressions(graph: Graph, follow: list[Node] | None = None) -> bool:
    """Common-subexpression elimination: merge nodes that compute the same value, in the bodies of scans too.

    With `follow`, all nodes keep their names, those stay that nothing reads any more, and each node of `follow` is
    replaced there by the one that computes its value.
    """
    has_changed = in_bodies(graph, merge_common_subexpressions)
    first = _first_equals(graph)
    if first == graph.nodes:
        return has_changed
    for node in graph.nodes:
        node.parents = tuple([first[parent.index] for parent in node.parents])
    graph.outputs = {name: first[node.index] for name, node in graph.outputs.items()}
    graph.updates = {leaf: first[node.index] for leaf, node in graph.updates.items()}
    if follow is None:
        drop_unneeded(graph)
    else:
        follow[:] = [first[node.index] for node in follow]
    return True


def _first_equals(graph: Graph) -> list[Node]:
    """For every node, by its index, the one that replaces it: itself, or one of the same value before it."""
    numbers = OpNumbers()
    replacements: list[Node] = []
    known: dict[tuple[int, ...], Node] = {}
    for node in graph.nodes:
        kind, replacement = type(node.op), node
        is_constant = kind is Constant
        if is_constant or not kind.is_leaf:
            operands = [replacements[parent.index].index for parent in node.parents]
            if kind in _COMMUTATIVE:
                operands.sort()
            key = (numbers.of(node.op), *operands)
            found = known.setdefault(key, node)
            if is_constant or found.phase <= node.phase:
                replacement = found
            else:
                known[key] = node
        replacements.append(replacement)
    return replacements


_COMMUTATIVE = frozenset({Add, Multiply})


class OpNumbers:
    """A number for each op: the same for equal ones."""

    def __init__(self) -> None:
        self._by_identity: dict[int, int] = {}
        self._by_value: dict[Hashable, int] = {}

    def of(self, op: Op) -> int:
        """The number of `op`, which is alive as long as this is."""
        number = self._by_identity.get(id(op))
        if number is None:
            is_large = isinstance(op, Constant) and op.value.size > COMPARED_ELEMENTS
            try:
                number = self._by_value.setdefault(id(op) if is_large else op.exactly(), len(self._by_value))
            except TypeError:  # it has no hash, as an op of somebody's own may have none, with a list for an attribute
                number = self._by_value.setdefault(id(op), len(self._by_value))
            self._by_identity[id(op)] = number
        return number
