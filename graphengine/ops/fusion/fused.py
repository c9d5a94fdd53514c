"""A region of pointwise ops as one op: what lies between them need not be written to memory and read again.

It is made by a rewrite, after differentiation, and stands in no document: it has no kind of its own there and no VJP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field

from graphengine.errors import ShapeError
from graphengine.ir.dims import Dim
from graphengine.ir.kernel import LoopCall
from graphengine.ir.node import Phase
from graphengine.ir.op import Array, Call, Op
from graphengine.ir.subgraph import evaluate
from graphengine.ir.types import TensorType
from graphengine.ops.fusion import loops as fused_loops
from graphengine.ops.fusion.body import Body
from graphengine.ops.run_all import run_all

__all__ = ["Fused"]


class Fused(Op):
    """y = the results of `body`, for the operands as its inputs: one value, or a bundle of several.

    `computes` names the nodes, with their phases, whose values it computes: `body` may be that of other nodes, too.
    """

    body: Body = Field(exclude=True)
    computes: tuple[tuple[str, Phase], ...] = Field(exclude=True)

    def infer(self, *types: TensorType) -> TensorType:
        if list(types) != self.body.inputs:
            wanted = ", ".join(map(str, self.body.inputs))
            raise ShapeError(f"a region of {wanted or 'nothing'} is given {', '.join(map(str, types)) or 'nothing'}")
        return self.body.type

    def eval(self, xp: Any, *values: Any) -> Any:
        inside = evaluate(self.body.graph, xp, values)
        results = tuple(inside[node] for node in self.body.results)
        return results[0] if len(results) == 1 else results

    def bind(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return run_all, (self.calls(out, *operands, scratch=scratch),)

    def calls(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        outs = out if isinstance(out, tuple) else (out,)
        return list(self.body.blocks.calls(outs, operands, scratch[0]))

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        return self.body.scratch

    def loops(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Sequence[LoopCall] | None:
        outs = out if isinstance(out, tuple) else (out,)
        return fused_loops.loops(self.body.graph, outs, operands, scratch[1:])

    def may_overwrite(self, item: int = 0) -> Collection[int]:
        return self.body.overwritable(item)

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return self.body.flops

    def bind_dims(self, binding: Mapping[str, Dim]) -> Op:
        body = self.body.bound(binding)
        return self if body is self.body else Fused(kind=self.kind, body=body, computes=self.computes)

    def dim_names(self) -> frozenset[str]:
        return self.body.names
