"""Constant folding: values that depend on constants alone are computed now, and not in every run.

Only small ones: a constant stands in memory for good, where a value would have taken turns with others, and a broadcast
of one takes no memory at all. A product of constants, and what is cut out of them, may be small where they are not.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from graphengine.errors import ExecutionError
from graphengine.ir.copying import drop_unneeded
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ir.types import Array, TupleType
from graphengine.ops.broadcast import BroadcastTo
from graphengine.ops.scan import Scan
from graphengine.transform.rewrite.bodies import in_bodies

FOLDED_ELEMENTS = 4096
"""The size up to which a value becomes a constant."""


def fold_constants(graph: Graph) -> bool:
    """Constant folding: compute small values that depend on constants alone, in the bodies of scans too."""
    has_changed = in_bodies(graph, fold_constants)
    values = _Folding(graph).values()
    for node, value in values.items():
        node.op, node.parents = Constant(value=value, dtype=node.dtype), ()
    if values:
        drop_unneeded(graph)
    return bool(values) or has_changed


class _Folding:
    """The values of what is folded, as long as somebody needs them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.fixed: set[Node] = set()
        """The constants, and what is folded: small values whose operands all are fixed."""
        self.folded: set[Node] = set()
        for node in graph.nodes:
            if type(node.op) is Constant:
                self.fixed.add(node)
            elif not node.op.is_leaf and self.fixed.issuperset(node.parents) and _is_small(node):
                self.fixed.add(node)
                self.folded.add(node)
        self.kept = self.folded.intersection([*graph.outputs.values(), *graph.updates.values()])
        """What somebody reads who is not folded, so that it becomes a constant; others are only on the way to it."""
        self.readers: Counter[Node] = Counter()
        for node in graph.nodes if self.folded else ():
            if node in self.folded:
                self.readers.update(node.parents)
            else:
                self.kept.update(self.folded.intersection(node.parents))
        self._values: dict[Node, Array] = {}

    def values(self) -> dict[Node, Array]:
        """The nodes that become constants, each with its value."""
        for node in self.graph.nodes if self.folded else ():
            if node not in self.folded:
                continue
            if self.fixed.issuperset(node.parents):
                self._compute(node)
            else:  # one of them was refused
                self.fixed.discard(node)
        return self._values

    def _compute(self, node: Node) -> None:
        operands = [
            parent.op.value if isinstance(parent.op, Constant) else self._values[parent] for parent in node.parents
        ]
        try:
            with np.errstate(all="ignore"):
                self._values[node] = np.asarray(node.op.eval(np, *operands))
        except ExecutionError:  # a label out of range, say, which the run is to refuse
            self.fixed.discard(node)
            self.kept.update(self.folded.intersection(node.parents))
        for parent in node.parents:
            self.readers[parent] -= 1
            if parent in self._values and not self.readers[parent] and parent not in self.kept:
                del self._values[parent]


def _is_small(node: Node) -> bool:
    if isinstance(node.type, TupleType) or isinstance(node.op, Scan) or node.dim_names():
        return False
    spreads = isinstance(node.op, BroadcastTo) and node.type.size > node.parents[0].type.size
    return node.type.size <= FOLDED_ELEMENTS and not spreads
