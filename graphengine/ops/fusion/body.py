"""What a fused region computes, and what is found out about that once for all nodes that compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from graphengine.ir.bundle import BundleType
from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.types import TensorType
from graphengine.ops.broadcast import Reduction
from graphengine.ops.fusion import loops as fused_loops
from graphengine.ops.fusion.numpy import Blocks

__all__ = ["Body"]

_BOUND_KEPT = 16
"""For how many sizes of named dims a body is kept: as many as programs are."""


class Body:
    """A region as a graph, which does not change any more: its inputs are the operands, its outputs the results.

    All its nodes but the leaves have one shape, the space, and are pointwise: they have a scalar form. At the ends
    there may be reductions of these, which no node reads. Its inputs broadcast to the space, and its constants are
    scalars. It equals itself alone.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._overwritable: dict[int, tuple[int, ...]] = {}
        self._bound: dict[tuple[tuple[str, Dim], ...], Body] = {}

    @cached_property
    def inputs(self) -> list[TensorType]:
        """The types of the operands."""
        return [node.type for node in self.graph.inputs]

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of dims in the types of the operands, and so in all."""
        return frozenset().union(*(type_.names() for type_ in self.inputs))

    @cached_property
    def results(self) -> list[Node]:
        """The nodes whose values are the results."""
        return list(self.graph.outputs.values())

    @cached_property
    def type(self) -> TensorType:
        """That of the result, or a bundle of those of the results."""
        items = tuple([node.type for node in self.results])
        return items[0] if len(items) == 1 else BundleType(items)

    @cached_property
    def members(self) -> list[Node]:
        """The nodes that compute something."""
        return [node for node in self.graph.nodes if not isinstance(node.op, Input | Constant)]

    @cached_property
    def flops(self) -> int:
        """The FLOPs of all members; of a body whose dims are sizes."""
        return sum(node.op.flops(node.type, *(parent.type for parent in node.parents)) for node in self.members)

    @cached_property
    def blocks(self) -> Blocks:
        """How NumPy computes it; of a body whose dims are sizes."""
        return Blocks(self.graph)

    @cached_property
    def scratch(self) -> tuple[TensorType, ...]:
        """The work memory: of the blocks, then that of the loops; of a body whose dims are sizes."""
        return TensorType((self.blocks.scratch_bytes,), "uint8"), *fused_loops.partials(self.graph)

    def overwritable(self, item: int) -> tuple[int, ...]:
        """The operands of the type of a result that are read, at every place, no later than it is written there."""
        if item not in self._overwritable:
            self._overwritable[item] = tuple(self._overwritable_by(self.results[item]))
        return self._overwritable[item]

    def bound(self, binding: Mapping[str, Dim]) -> Body:
        """The same region with sizes, or other dims, in the place of its named ones; itself if it has none."""
        if not self.names:
            return self
        key = tuple(sorted(binding.items()))
        if key not in self._bound:
            self._bound[key] = Body(self.graph.bind(binding))
            if len(self._bound) > _BOUND_KEPT:
                del self._bound[next(iter(self._bound))]
        return self._bound[key]

    def _overwritable_by(self, result: Node) -> list[int]:
        if isinstance(result.op, Reduction):
            return []
        return [
            position
            for position, operand in enumerate(self.graph.inputs)
            if operand.type == result.type
            and all(_precedes(reader, operand, result) for reader in self._readers[operand])
        ]

    @cached_property
    def _readers(self) -> dict[Node, list[Node]]:
        readers: dict[Node, list[Node]] = {node: [] for node in self.graph.nodes}
        for node in self.members:
            for parent in dict.fromkeys(node.parents):
                readers[parent].append(node)
        return readers


def _precedes(reader: Node, operand: Node, result: Node) -> bool:
    """Whether `reader` has read `operand` when `result` is written, or reads it while it writes `result` itself."""
    if reader is not result:
        return reader.index < result.index
    may_overwrite = reader.op.may_overwrite()
    return all(place in may_overwrite for place, parent in enumerate(reader.parents) if parent is operand)
