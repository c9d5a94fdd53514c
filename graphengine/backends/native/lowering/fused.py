"""Fused regions: one nest of loops each, whose threads share what is reduced by partial results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphengine.backends.native.fusion.loops import loops, partials
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.ir.types import Array, ValueType
from graphengine.ops.fusion.fused import Fused


def _partials(op: Fused, *_: ValueType) -> Sequence[ValueType]:
    return partials(op.region)


@register_lowering(Fused, scratch=_partials)
def lower_fused(op: Fused, out: Any, *operands: Array, scratch: Sequence[Array]) -> Calls:
    return loops(op.region, out if isinstance(out, tuple) else (out,), operands, scratch)
