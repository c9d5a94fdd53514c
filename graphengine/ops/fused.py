"""A region of pointwise ops as one op: what lies between them need not be written to memory and read again.

It is made by a rewrite, after differentiation, and stands in no document: it has no kind of its own there and no VJP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from graphengine.errors import ShapeError
from graphengine.ir.bundle import BundleType
from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph
from graphengine.ir.kernel import LoopCall
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.op import Array, Call, Op
from graphengine.ir.subgraph import evaluate
from graphengine.ir.types import TensorType
from graphengine.ops import fused_loops
from graphengine.ops.broadcast import Reduction
from graphengine.ops.fused_blocks import Blocks
from graphengine.ops.scores import run_all

__all__ = ["Fused"]


class Fused(Op):
    """y = the outputs of `body`, for the operands as its inputs: one value, or a bundle of several.

    All nodes of the body but its leaves have one shape, the space, and are pointwise: they have a scalar form. At the
    ends there may be reductions of these, which no node of the body reads. Its inputs broadcast to the space, and its
    constants are scalars.
    """

    body: Graph

    def infer(self, *types: TensorType) -> TensorType:
        if list(types) != [node.type for node in self.body.inputs]:
            wanted = ", ".join(str(node.type) for node in self.body.inputs)
            raise ShapeError(f"a region of {wanted or 'nothing'} is given {', '.join(map(str, types)) or 'nothing'}")
        items = tuple(node.type for node in self.body.outputs.values())
        return items[0] if len(items) == 1 else BundleType.of(items)

    def eval(self, xp: Any, *values: Any) -> Any:
        inside = evaluate(self.body, xp, values)
        results = tuple(inside[node] for node in self.body.outputs.values())
        return results[0] if len(results) == 1 else results

    def bind(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return run_all, (self.calls(out, *operands, scratch=scratch),)

    def calls(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        outs = out if isinstance(out, tuple) else (out,)
        return list(self._blocks.calls(outs, operands, scratch[0]))

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        return TensorType((self._blocks.scratch_bytes,), "uint8"), *fused_loops.partials(self.body)

    def loops(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Sequence[LoopCall] | None:
        outs = out if isinstance(out, tuple) else (out,)
        return fused_loops.loops(self.body, outs, operands, scratch[1:])

    def may_overwrite(self, item: int = 0) -> Collection[int]:
        """Operands of the type of this output that are read, at every place, no later than it is written there."""
        output = list(self.body.outputs.values())[item]
        if isinstance(output.op, Reduction):
            return ()
        return [
            position
            for position, operand in enumerate(self.body.inputs)
            if operand.type == output.type
            and all(_precedes(reader, operand, output) for reader in self._readers[operand])
        ]

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return sum(node.op.flops(node.type, *(parent.type for parent in node.parents)) for node in self.members)

    def bind_dims(self, binding: Mapping[str, Dim]) -> Op:
        return Fused(kind=self.kind, body=self.body.bind(binding))

    def dim_names(self) -> frozenset[str]:
        return frozenset().union(*(node.dim_names() for node in self.body.inputs))

    @property
    def members(self) -> list[Node]:
        """The nodes of the body that compute something."""
        return [node for node in self.body.nodes if not isinstance(node.op, Input | Constant)]

    @cached_property
    def _readers(self) -> dict[Node, list[Node]]:
        readers: dict[Node, list[Node]] = {node: [] for node in self.body.nodes}
        for node in self.members:
            for parent in dict.fromkeys(node.parents):
                readers[parent].append(node)
        return readers

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.body)


def _precedes(reader: Node, operand: Node, output: Node) -> bool:
    """Whether `reader` has read `operand` when `output` is written, or reads it while it writes `output` itself."""
    if reader is not output:
        return reader.index < output.index
    may_overwrite = reader.op.may_overwrite()
    return all(place in may_overwrite for place, parent in enumerate(reader.parents) if parent is operand)
