"""Ops that move values: copies of parts, and what is written beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphengine.backends.native.fusion.loops import pointwise_loops
from graphengine.backends.native.kernel import LoopCall
from graphengine.backends.native.lowering.copies import copies, copies_of, fills, placed
from graphengine.backends.native.lowering.reductions import joined
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.ir import dims
from graphengine.ir.op import Op
from graphengine.ir.types import Array
from graphengine.ops.broadcast import DimSize, Reshape
from graphengine.ops.elementwise import Add, Copy
from graphengine.ops.index import AddSlice, Fixed, SliceAdjoint, part_of
from graphengine.ops.shape import Concat, Pad, Stack, block_of


@register_lowering(Copy, Reshape)
def lower_copy(op: Op, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    return copies(out.reshape(x.shape), x)


@register_lowering(Fixed)
def lower_fixed(op: Fixed, out: Array, *, scratch: Sequence[Array]) -> Calls:
    return copies(out, op.eval(np))


@register_lowering(DimSize)
def lower_dim_size(op: DimSize, out: Array, *, scratch: Sequence[Array]) -> list[LoopCall]:
    return fills(out, dims.bind(op.size, {}))


@register_lowering(Concat)
def lower_concat(op: Concat, out: Array, *operands: Array, scratch: Sequence[Array]) -> list[LoopCall] | None:
    ends = np.cumsum([operand.shape[op.axis] for operand in operands])
    return copies_of(zip(np.split(out, ends[:-1], op.axis), operands, strict=True))


@register_lowering(Stack)
def lower_stack(op: Stack, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    layers = np.split(out, len(operands), op.axis)
    return copies_of((layer.squeeze(op.axis), operand) for layer, operand in zip(layers, operands, strict=True))


@register_lowering(Pad)
def lower_pad(op: Pad, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    return placed(out, block_of(out, op.before, x.shape), x, op.value)


@register_lowering(SliceAdjoint)
def lower_slice_adjoint(op: SliceAdjoint, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    return placed(out, part_of(out, op.key), x, 0)


@register_lowering(AddSlice)
def lower_add_slice(op: AddSlice, out: Array, x: Array, part: Array, *, scratch: Sequence[Array]) -> Calls:
    moved = [] if x.ctypes.data == out.ctypes.data else copies(out, x)
    target = part_of(out, op.key)
    return joined(moved, pointwise_loops(Add(), target, (target, part)))
