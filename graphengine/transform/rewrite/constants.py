"""Values that hang on constants alone, computed once: now, and not in every run.

Only small ones: a constant stands in memory for good, where a value would have taken turns with others, and a broadcast
of one takes no memory at all. A product of constants, and what is cut out of them, may be small where they are not.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from graphengine.errors import ExecutionError
from graphengine.ir.bundle import BundleType
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node
from graphengine.ir.op import Array
from graphengine.ops.broadcast import BroadcastTo
from graphengine.ops.scan import Scan
from graphengine.transform.rewrite.bodies import in_bodies
from graphengine.transform.rewrite.results import take_results

__all__ = ["FOLDED_ELEMENTS", "fold_constants"]

FOLDED_ELEMENTS = 4096
"""The size up to which a value becomes a constant."""


def fold_constants(graph: Graph) -> Graph:
    """`graph` with small values that hang on constants alone made constants, in the bodies of its scans too."""
    graph = in_bodies(graph, fold_constants)
    models = _Folding(graph).models()
    if not models:
        return graph
    twin = Graph(graph.name, graph.dtype)
    copies: list[Node] = []
    for node in graph.nodes:
        parents = () if node in models else tuple([copies[parent.index] for parent in node.parents])
        copies.append(twin.append_copy(models.get(node, node), parents))
    return take_results(twin, graph, copies)


class _Folding:
    """The values of what is folded, as long as somebody needs them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.folded: set[Node] = set()
        for node in graph.nodes:
            if not node.is_leaf and self._is_fixed(node) and _is_small(node):
                self.folded.add(node)
        self.kept = self.folded.intersection([*graph.outputs.values(), *graph.updates.values()])
        """What somebody reads who is not folded, so that it becomes a constant; others are only on the way to it."""
        self.readers: Counter[Node] = Counter()
        for node in graph.nodes if self.folded else ():
            if node in self.folded:
                self.readers.update(node.parents)
            else:
                self.kept.update(self.folded.intersection(node.parents))
        self.values: dict[Node, Array] = {}

    def models(self) -> dict[Node, Node]:
        """The nodes that become constants, each with a node that is like the constant."""
        for node in self.graph.nodes:
            if node in self.folded and self._is_fixed(node):
                self._compute(node)
        return {
            node: Node(node.graph, -1, node.name, op, (), node.type, node.phase, node.where, node.of)
            for node, value in self.values.items()
            if (op := Constant(value=value, dtype=node.dtype))
        }

    def _compute(self, node: Node) -> None:
        operands = [
            parent.op.value if isinstance(parent.op, Constant) else self.values[parent] for parent in node.parents
        ]
        try:
            with np.errstate(all="ignore"):
                self.values[node] = np.asarray(node.op.eval(np, *operands))
        except ExecutionError:  # a label out of range, say, which the run is to refuse
            self.folded.discard(node)
            self.kept.update(self.folded.intersection(node.parents))
        for parent in node.parents:
            self.readers[parent] -= 1
            if parent in self.values and not self.readers[parent] and parent not in self.kept:
                del self.values[parent]

    def _is_fixed(self, node: Node) -> bool:
        """Whether all that it reads is constant, or folded."""
        return all(parent in self.folded or isinstance(parent.op, Constant) for parent in node.parents)


def _is_small(node: Node) -> bool:
    if isinstance(node.type, BundleType) or isinstance(node.op, Scan) or node.dim_names():
        return False
    spreads = isinstance(node.op, BroadcastTo) and node.type.size > node.parents[0].type.size
    return node.type.size <= FOLDED_ELEMENTS and not spreads
