"""A region: pointwise nodes of one shape and reductions of them, which one kernel computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.types import TupleType, ValueType, check_axes
from graphengine.ops.broadcast import Reduction
from graphengine.ops.fusion.numpy import Blocks

_BOUND_KEPT = 16
"""For how many sizes of named dims a region is kept: as many as programs are."""


@dataclass(frozen=True, slots=True)
class Result:
    """What is written: the value of a node at every place of the space, or what it is reduced to over `axes`.

    `divisor` is what a mean divides by; by default the number of values that it is of.
    """

    value: Node
    reduction: str | None = None
    axes: tuple[int, ...] = ()
    keepdims: bool = False
    divisor: float | None = None


class Region:
    """A region as a graph, which does not change any more: its inputs are the operands, its outputs the results.

    All its nodes but the leaves have one shape, the space, and are pointwise: they have a scalar form. At the ends
    there may be reductions of these, which no node reads. Its inputs broadcast to the space, and its constants are
    scalars. It equals itself alone, so that what is cached by it is found quickly.
    """

    def __init__(self, graph: Graph, results: Sequence[Result] | None = None) -> None:
        self.graph = graph
        self.results = [_result(node) for node in graph.outputs.values()] if results is None else list(results)
        self._overwritable: dict[int, tuple[int, ...]] = {}
        self._bound: dict[tuple[tuple[str, Dim], ...], Region] = {}

    @cached_property
    def inputs(self) -> list[ValueType]:
        """The types of the operands."""
        return [node.type for node in self.graph.inputs]

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of dims in the types of the operands, and so in all."""
        return frozenset().union(*(type_.names() for type_ in self.inputs))

    @cached_property
    def outputs(self) -> list[Node]:
        """The nodes whose values are the results."""
        return list(self.graph.outputs.values())

    @cached_property
    def type(self) -> ValueType:
        """That of the result, or a tuple of those of the results."""
        items = tuple([node.type for node in self.outputs])
        return items[0] if len(items) == 1 else TupleType(items)

    @cached_property
    def members(self) -> list[Node]:
        """The nodes that compute something."""
        return [node for node in self.graph.nodes if not isinstance(node.op, Input | Constant)]

    @cached_property
    def pointwise(self) -> list[Node]:
        """The nodes with a value at every place: all but the reductions."""
        return [node for node in self.graph.nodes if not isinstance(node.op, Reduction)]

    @cached_property
    def flops(self) -> int:
        """The FLOPs of all members; of a region whose dims are sizes."""
        return sum(node.op.flops(node.type, *(parent.type for parent in node.parents)) for node in self.members)

    @cached_property
    def blocks(self) -> Blocks:
        """How NumPy computes it; of a region whose dims are sizes."""
        return Blocks(self.graph)

    def overwritable(self, item: int) -> tuple[int, ...]:
        """The operands of the type of a result that are read, at every place, no later than it is written there."""
        if item not in self._overwritable:
            self._overwritable[item] = tuple(self._overwritable_by(self.outputs[item]))
        return self._overwritable[item]

    def bound(self, binding: Mapping[str, Dim]) -> Region:
        """The same region with sizes, or other dims, in the place of its named ones; itself if it has none."""
        if not self.names:
            return self
        key = tuple(sorted(binding.items()))
        if key not in self._bound:
            self._bound[key] = Region(self.graph.bind(binding))
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


def _result(node: Node) -> Result:
    if not isinstance(node.op, Reduction):
        return Result(node)
    (x,) = node.parents
    return Result(x, node.op.kind, check_axes(node.op.axis, x.ndim), node.op.keepdims)


def _precedes(reader: Node, operand: Node, result: Node) -> bool:
    """Whether `reader` has read `operand` when `result` is written, or reads it while it writes `result` itself."""
    if reader is not result:
        return reader.index < result.index
    may_overwrite = reader.op.may_overwrite()
    return all(place in may_overwrite for place, parent in enumerate(reader.parents) if parent is operand)
