"""A region of pointwise ops as one op: what lies between them need not be written to memory and read again.

It is made by a rewrite, after differentiation, and stands in no document: it has no kind of its own there and no VJP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field

from graphengine.errors import ShapeError
from graphengine.ir.dims import Dim
from graphengine.ir.node import Phase
from graphengine.ir.op import Call, Op
from graphengine.ir.subgraph import evaluate
from graphengine.ir.types import Array, TensorType, ValueType
from graphengine.ops.fusion.region import Region
from graphengine.ops.support.run_all import run_all


class Fused(Op):
    """y = the results of `region`, for the operands as its inputs: one value, or a tuple of several.

    `computes` names the nodes, with their phases, whose values it computes: `region` may be that of other nodes, too.
    """

    region: Region = Field(exclude=True)
    computes: tuple[tuple[str, Phase], ...] = Field(exclude=True)

    def infer(self, *types: TensorType) -> ValueType:
        if list(types) != self.region.inputs:
            wanted = ", ".join(map(str, self.region.inputs))
            raise ShapeError(f"a region of {wanted or 'nothing'} is given {', '.join(map(str, types)) or 'nothing'}")
        return self.region.type

    def eval(self, xp: Any, *values: Any) -> Any:
        inside = evaluate(self.region.graph, xp, values)
        results = tuple(inside[node] for node in self.region.outputs)
        return results[0] if len(results) == 1 else results

    def bind(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return run_all, (self.calls(out, *operands, scratch=scratch),)

    def calls(self, out: Any, *operands: Array, scratch: Sequence[Array] = ()) -> list[Call]:
        outs = out if isinstance(out, tuple) else (out,)
        return list(self.region.blocks.calls(outs, operands, scratch[0]))

    def scratch(self, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType((self.region.blocks.scratch_bytes,), "uint8"),)

    def may_overwrite(self, item: int = 0) -> Collection[int]:
        return self.region.overwritable(item)

    def flops(self, y: TensorType, *types: TensorType) -> int:
        return self.region.flops

    def bind_dims(self, binding: Mapping[str, Dim]) -> Op:
        region = self.region.bound(binding)
        return self if region is self.region else Fused(kind=self.kind, region=region, computes=self.computes)

    def dim_names(self) -> frozenset[str]:
        return self.region.names
