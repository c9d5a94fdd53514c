"""Which values of a fused region share work memory: each is in a register until its last reader has run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.types import TensorType
from graphengine.ops.broadcast import Reduction

__all__ = ["Registers", "width"]


def width(type_: TensorType) -> int:
    """The bytes of one element."""
    return np.dtype(type_.dtype).itemsize


class Registers:
    """The registers for a run of `members`, nodes of `body`, one after the other.

    A result of the body is written to its own array. A register has one element for each place, so it is enough for
    whatever an op wants as work memory: that is of the shape of its value, or of an operand.
    """

    def __init__(self, body: Graph, members: Sequence[Node]) -> None:
        self.widths: list[int] = []
        """The bytes of an element, by register."""
        self.of: dict[Node, int] = {}
        """The register of every value that is no result."""
        self.work: dict[Node, list[int]] = {}
        """The registers for the work memory of an op; of a reduction, for what it makes of one part of the space."""
        self.wanted: dict[Node, Sequence[TensorType]] = {}
        """The types of that work memory, where all of the space is computed at once."""
        self._free: dict[int, list[int]] = defaultdict(list)
        self._results = set(body.outputs.values())
        self._last_reader = {parent: node for node in members for parent in node.parents}
        for node in members:
            self._assign(node)

    def _assign(self, node: Node) -> None:
        dying = [parent for parent in dict.fromkeys(node.parents) if self._dies(parent, node)]
        wanted = (
            [node.type]
            if isinstance(node.op, Reduction)
            else node.op.scratch(node.type, *(parent.type for parent in node.parents))
        )
        self.wanted[node] = wanted
        self.work[node] = [self._take(width(type_)) for type_ in wanted]
        if node not in self._results:
            heir = next((parent for parent in dying if _may_take_over(node, parent)), None)
            self.of[node] = self._take(width(node.type)) if heir is None else self.of[heir]
            dying = [parent for parent in dying if parent is not heir]
        for number in (*self.work[node], *(self.of[parent] for parent in dying)):
            self._free[self.widths[number]].append(number)

    def _dies(self, parent: Node, node: Node) -> bool:
        return parent in self.of and self._last_reader[parent] is node

    def _take(self, nbytes: int) -> int:
        if self._free[nbytes]:
            return self._free[nbytes].pop()
        self.widths.append(nbytes)
        return len(self.widths) - 1


def _may_take_over(node: Node, parent: Node) -> bool:
    """Whether the value of `node` may be written over that of `parent`, which nobody reads afterwards."""
    allowed = node.op.may_overwrite()
    places = [place for place, other in enumerate(node.parents) if other is parent]
    return parent.type == node.type and all(place in allowed for place in places)
