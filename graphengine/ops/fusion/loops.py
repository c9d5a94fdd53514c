"""Kernels for regions of pointwise ops that end in reductions: one nest of loops computes all of a region's results.

The text of a kernel depends on the ops, the dtypes, and the form of the nest; sizes, strides and most constants are its
parameters. So one kernel serves all sizes, and every model that computes the same.

Threads share the outermost loop that every reduction keeps, so that the result is the same whatever their number. Where
there is none, and the space is large, the space is cut into a number of pieces that depends on its size alone. Each is
reduced by itself into scratch memory, and a second kernel reduces those.

A sum of n floats adds up blocks of at most 128 elements, or lines of them, in its dtype, and the blocks in twice the
digits: its error is at most that of one block, about 128 u sum |x|, whatever n (u is 2^-24 for float32), and mostly
below that of NumPy's pairwise sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from graphengine.ir import dims
from graphengine.ir.graph import Graph
from graphengine.ir.kernel import LoopCall
from graphengine.ir.op import Array, Op
from graphengine.ir.types import TensorType, broadcast_shapes
from graphengine.ops.fusion.plan import plan
from graphengine.ops.fusion.region import Region, region_of, single

__all__ = ["loops", "partials", "pointwise_loops"]

PIECE = 8192
"""The least number of elements in a piece of a space."""

MOST_PIECES = 64
"""The most pieces: enough for as many threads, few enough to be reduced quickly."""

WIDE = 128
"""How many places the axes that all reductions keep have at least, if threads share those."""


def loops(
    body: Graph, outs: Sequence[Array], operands: Sequence[Array], scratch: Sequence[Array] = ()
) -> list[LoopCall] | None:
    """The calls that compute the outputs of `body`, in order, from arrays for its inputs.

    `scratch` are arrays of the types that `partials` gives. None where there are no such calls: an op has no scalar
    form, an array is read backwards, or an output overlaps another array without being the same.
    """
    return _calls(region_of(body), outs, operands, scratch)


def pointwise_loops(op: Op, out: Array | tuple[Array, ...], operands: Sequence[Array]) -> list[LoopCall] | None:
    """The calls that compute a pointwise op; None where there are no such calls, of another op say."""
    if isinstance(out, tuple):
        return None
    region = single(op, out.dtype, tuple([operand.dtype for operand in operands]))
    return None if region is None else _calls(region, (out,), operands, ())


def partials(body: Graph) -> tuple[TensorType, ...]:
    """The types of the scratch memory with which threads share the reductions of `body`: for each, a row a piece.

    There are none where threads share an axis that all reductions keep, or where the space is small.
    """
    region = region_of(body)
    places = [place for place, result in enumerate(region.results) if result.reduction is not None]
    shape = [dims.bind(dim, {}) for dim in broadcast_shapes(*(node.shape for node in body.inputs))]
    reduced = {axis for place in places for axis in region.results[place].axes}
    kept = math.prod(size for axis, size in enumerate(shape) if axis not in reduced)
    pieces = min(MOST_PIECES, math.prod(shape) // PIECE)
    types = [node.type for place, node in enumerate(body.outputs.values()) if place in places]
    if pieces < 2 or kept >= WIDE or sum(type.size for type in types) * pieces > math.prod(shape) // 4:
        return ()
    return tuple([TensorType((pieces, type.size), type.dtype) for type in types])


def _calls(
    region: Region, outs: Sequence[Array], operands: Sequence[Array], scratch: Sequence[Array]
) -> list[LoopCall] | None:
    arrays = [*outs, *operands]
    starts = [array.__array_interface__["data"][0] for array in arrays]
    layouts = tuple([(array.shape, array.strides, array.dtype) for array in arrays])
    first: dict[object, int] = {}
    same = tuple([first.setdefault(seen, place) for place, seen in enumerate(zip(starts, layouts, strict=True))])
    planned = plan(region, layouts, same, scratch[0].shape[0] if scratch else 0)
    if planned is None or _overlap(len(outs), arrays, starts, same):
        return None
    arrays += scratch
    return [(call.kernel, (*[arrays[place] for place in call.arrays], *call.numbers)) for call in planned]


def _overlap(outs: int, arrays: Sequence[Array], starts: Sequence[int], same: Sequence[int]) -> bool:
    """Whether one of the first arrays shares memory with another that is not the same."""
    ends = [
        start + _extent(array.shape, array.strides, array.itemsize) for start, array in zip(starts, arrays, strict=True)
    ]
    return any(
        starts[out] < ends[other]
        and starts[other] < ends[out]
        and same[out] != same[other]
        and np.shares_memory(arrays[out], arrays[other])
        for out in range(outs)
        for other in range(len(arrays))
    )


@lru_cache(maxsize=8192)
def _extent(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> int:
    """How many bytes lie between the first byte of an array and the last."""
    return sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + itemsize
