"""Compiled kernels of regions: one nest of loops computes all results of a region.

The text of a kernel depends on the ops, the dtypes, and the form of the nest. Sizes, strides and most constants are its
parameters, so one kernel serves all sizes, and every model that computes the same.

Threads share the outermost loop that every reduction keeps, so the result does not depend on their number. Where there
is none, and the space is large, the space is cut into pieces whose number depends on its size alone. Each piece is
reduced into scratch memory, and a second kernel reduces those.

A sum of n floats adds blocks of at most 128 elements, or lines of elements, in its dtype, and the sums of these blocks
in twice the digits: its error is about that of one block, 128 u sum |x|, whatever n (u is 2^-24 for float32).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from graphengine.backends.native.fusion.codegen import Form, kernel, numbers
from graphengine.backends.native.fusion.regions import part, single, sums, totals
from graphengine.backends.native.fusion.walk import Nest, Strides, Walk, aligned, nest
from graphengine.backends.native.kernel import Kernel, LoopCall
from graphengine.ir import dims
from graphengine.ir.op import Op
from graphengine.ir.types import Array, DType, TensorType, broadcast_shapes, check_dtype
from graphengine.ops.fusion.region import Region, Result

PIECE = 8192
"""The least number of elements in a piece of a space."""

MOST_PIECES = 64
"""The most pieces: enough for as many threads, few enough to be reduced quickly."""

SIMPLE = 3
"""Lines of values that so many ops compute are read by fours: otherwise a kernel takes long to compile."""

WIDE = 128
"""How many elements the axes that all reductions keep have at least, if threads share those."""


def loops(
    region: Region, outs: Sequence[Array], operands: Sequence[Array], scratch: Sequence[Array] = ()
) -> list[LoopCall] | None:
    """The calls that compute the results of `region`, in order, from arrays for its inputs.

    `scratch` are arrays of the types that `partials` gives. None where there are no such calls: an op has no scalar
    form, an array is read backwards, or an output overlaps another array without being the same.
    """
    arrays = [*outs, *operands]
    starts = [array.__array_interface__["data"][0] for array in arrays]
    layouts = tuple([(array.shape, array.strides, array.dtype) for array in arrays])
    first: dict[object, int] = {}
    same = tuple([first.setdefault(seen, index) for index, seen in enumerate(zip(starts, layouts, strict=True))])
    planned = plan(region, layouts, same, scratch[0].shape[0] if scratch else 0)
    if planned is None or _overlap(len(outs), arrays, starts, same):
        return None
    arrays += scratch
    return [(call.kernel, (*[arrays[index] for index in call.arrays], *call.numbers)) for call in planned]


def pointwise_loops(op: Op, out: Array | tuple[Array, ...], operands: Sequence[Array]) -> list[LoopCall] | None:
    """The calls that compute a pointwise op; None where there are no such calls, of another op say."""
    if isinstance(out, tuple):
        return None
    region = single(op, out.dtype, tuple([operand.dtype for operand in operands]))
    return None if region is None else loops(region, (out,), operands)


def partials(region: Region) -> tuple[TensorType, ...]:
    """The types of the scratch memory with which threads share the reductions of `region`: for each, a row a piece.

    There are none where threads share an axis that all reductions keep, or where the space is small.
    """
    indices = [index for index, result in enumerate(region.results) if result.reduction is not None]
    shape = [dims.bind(dim, {}) for dim in broadcast_shapes(*(node.shape for node in region.graph.inputs))]
    reduced = {axis for index in indices for axis in region.results[index].axes}
    retained = math.prod(size for axis, size in enumerate(shape) if axis not in reduced)
    types = [node.type for index, node in enumerate(region.outputs) if index in indices]
    pieces = pieces_of(math.prod(shape), retained, sum(type.size for type in types))
    return tuple([TensorType((pieces, type.size), type.dtype) for type in types if pieces])


def pieces_of(size: int, retained: int, results: int) -> int:
    """Into how many pieces a space of `size` elements is cut; `retained` is the size of what is not reduced."""
    pieces = min(MOST_PIECES, size // PIECE)
    return 0 if pieces < 2 or retained >= WIDE or results * pieces > size // 4 else pieces


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


Layout = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]
"""An array's shape, its strides in bytes, and its dtype."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One call: a kernel, the indices of the arrays that it is given, and its numbers."""

    kernel: Kernel
    arrays: tuple[int, ...]
    numbers: tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class _Space:
    """The elements for which a region is computed, and the layouts of its arrays: results, operands, rows of pieces."""

    region: Region
    shape: tuple[int, ...]
    strides: tuple[Strides, ...]
    dtypes: tuple[DType, ...]
    counts: tuple[int, ...]
    """How many values each result is reduced from; 1 for one that is not."""

    @property
    def reductions(self) -> list[int]:
        """The indices of the results that are reductions."""
        return [index for index, result in enumerate(self.region.results) if result.reduction is not None]

    def row(self, index: int) -> int:
        """How many elements a result has."""
        return math.prod(self.shape) // self.counts[index]

    def nest(self) -> Nest:
        """The loops, in the order of what is written for every element, and else of what is read for most elements."""
        reductions = self.reductions
        whole = [index for index in range(len(self.region.results)) if index not in reductions]
        operands = range(len(self.region.results), len(self.strides) - len(reductions))
        read = sorted(operands, key=lambda index: -sum(map(bool, self.strides[index])))
        return nest(self.shape, self.strides, [*whole, *read, *reductions], reductions)


@lru_cache(maxsize=8192)
def plan(region: Region, layouts: tuple[Layout, ...], same: tuple[int, ...], pieces: int) -> tuple[Planned, ...] | None:
    """The calls that compute `region`; None where there are none.

    The arrays are those of the results and those of the operands, and if there are `pieces`, for every reduction one
    more, with a row for each piece. `same` gives for every result and operand the first that is the same memory.
    """
    space = _space(region, layouts)
    if space is None or not _agrees(space, same):
        return None
    if 0 in space.shape:
        return None if space.reductions else ()
    if _walk(space, space.nest(), 0, ()).is_mixed:
        return _apart(region, layouts, same)
    return _planned(space, same, pieces)


def _apart(region: Region, layouts: tuple[Layout, ...], same: tuple[int, ...]) -> tuple[Planned, ...] | None:
    """The calls that compute reductions over different axes one after the other, and what is not reduced at last.

    That may be written over what the others read.
    """
    reductions = [index for index, result in enumerate(region.results) if result.reduction is not None]
    whole = [index for index in range(len(region.results)) if index not in reductions]
    calls: list[Planned] = []
    for group in (*([index] for index in reductions), *([whole] if whole else [])):
        indices = [*group, *range(len(region.results), len(layouts))]
        first = [same[index] for index in indices]
        own = tuple([first.index(each) for each in first])
        planned = plan(part(region, tuple(group)), tuple([layouts[index] for index in indices]), own, 0)
        if planned is None:
            return None
        calls += [replace(call, arrays=tuple([indices[index] for index in call.arrays])) for call in planned]
    return tuple(calls)


def _space(region: Region, layouts: Sequence[Layout]) -> _Space | None:
    reductions = [result if result.reduction is not None else None for result in region.results]
    pairs = list(zip_longest(layouts, reductions))
    shape = np.broadcast_shapes(*(layout[0] for layout, reduction in pairs if reduction is None))
    rows = [(_in_order(layout), reduction) for layout, reduction in pairs if reduction is not None]
    strides = [_strides(layout, reduction, len(shape)) for layout, reduction in (*pairs, *rows)]
    dtypes = tuple([check_dtype(dtype) for (_, _, dtype), _ in (*pairs, *rows)])
    counts = tuple([math.prod(shape[axis] for axis in result.axes) for result in region.results])
    known = tuple([each for each in strides if each is not None])
    return _Space(region, shape, known, dtypes, counts) if len(known) == len(strides) else None


def _in_order(layout: Layout) -> Layout:
    """The layout of an array of this shape in C order."""
    shape, _, dtype = layout
    return shape, tuple(dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))), dtype


def _strides(layout: Layout, reduction: Result | None, ndim: int) -> Strides | None:
    """How the array of a reduction, or of another result or an operand, lies over a space of so many axes."""
    shape, strides, dtype = layout
    if reduction is not None and not reduction.keepdims:
        for axis in reduction.axes:
            shape, strides = (*shape[:axis], 1, *shape[axis:]), (*strides[:axis], 0, *strides[axis:])
    return aligned(shape, strides, dtype.itemsize, ndim)


def _agrees(space: _Space, same: Sequence[int]) -> bool:
    """Whether a result is the memory of no other result, and of no operand but one that is read just there."""
    results = len(space.region.results)
    pairs = [(first, index) for index, first in enumerate(same) if first < results and first != index]
    return all(index >= results and space.strides[first] == space.strides[index] for first, index in pairs)


def _planned(space: _Space, same: Sequence[int], pieces: int) -> tuple[Planned, ...] | None:
    """The kernel, and those that reduce what it leaves of the reductions that are cut into pieces."""
    loops = space.nest()
    rows = {index: len(same) + number for number, index in enumerate(space.reductions)}
    in_order = all(space.strides[index] == space.strides[row] for index, row in rows.items())
    cut = [index for index in rows if pieces and in_order and loops.sizes and not loops.strides[index][0]]
    writes = [rows[index] if index in cut else index for index in range(len(space.region.results))]
    calls = [_call(space, loops, (*writes, *same[len(writes) :]), pieces if cut else 0)]
    for size in dict.fromkeys(space.row(index) for index in cut):
        group = [index for index in cut if space.row(index) == size]
        calls.append(_total(space, group, [rows[index] for index in group], pieces))
    known = tuple([call for call in calls if call is not None])
    return known if len(known) == len(calls) else None


def _call(space: _Space, loops: Nest, indices: Sequence[int], pieces: int) -> Planned | None:
    """The kernel that computes the region over `loops`, from and into the arrays at `indices`."""
    count = len(space.region.results)
    cut = tuple([index for index in range(count) if indices[index] != index])
    chosen = sorted(dict.fromkeys(indices), key=lambda index: space.dtypes[index] != "float64")
    rows = {indices[index]: space.row(index) for index in cut}
    walk = _walk(space, loops, pieces, tuple([rows.get(index, 0) for index in chosen]), chosen)
    steps, sizes = walk.steps()
    form = Form(
        loops=tuple(walk.loops()),
        dtypes=tuple([space.dtypes[index] for index in chosen]),
        steps=tuple(steps),
        sizes=tuple(sizes),
        loads=tuple([chosen.index(index) for index in indices[count:]]),
        stores=tuple([chosen.index(index) for index in indices[:count]]),
        retained=tuple([walk.retained(loops.strides[index]) for index in range(count)]),
        cell=walk.cell,
        fours=walk.adds_lines and _is_simple(space.region),
    )
    region = sums(space.region, cut)
    text = kernel(region, form)
    given = numbers(region, space.counts)
    return None if text is None else Planned(text, tuple(chosen), (*sizes.values(), *given.values()))


def _is_simple(region: Region) -> bool:
    """Whether all results are reductions of values that take next to no time to compute."""
    steps = [node for node in region.pointwise if node.parents]
    return len(steps) <= SIMPLE and all(result.reduction is not None for result in region.results)


def _walk(space: _Space, loops: Nest, pieces: int, rows: tuple[int, ...], chosen: Sequence[int] = ()) -> Walk:
    """The walk over `loops` with the arrays at the indices `chosen`."""
    own = Nest(loops.sizes, tuple([loops.strides[index] for index in chosen]))
    reduced = [space.region.results[index] for index in space.reductions]
    rounds = any(result.reduction in ("sum", "mean") and result.value.type.is_float for result in reduced)
    return Walk(own, tuple([loops.strides[index] for index in space.reductions]), rounds, pieces, rows)


def _total(space: _Space, group: Sequence[int], rows: Sequence[int], pieces: int) -> Planned | None:
    """The kernel that reduces rows of pieces, of one size, to the results that they are of."""
    size = space.row(group[0])
    kinds = tuple([space.region.results[index].reduction or "" for index in group])
    dtypes = tuple([np.dtype(space.dtypes[index]) for index in group])
    layouts: list[Layout] = [((size,), (dtype.itemsize,), dtype) for dtype in dtypes]
    layouts += [_in_order(((pieces, size), (), dtype)) for dtype in dtypes]
    divisors = tuple([space.region.results[index].divisor for index in group])
    total = _space(totals(kinds, tuple([space.dtypes[index] for index in group]), divisors), layouts)
    assert total is not None  # contiguous arrays have strides
    total = replace(total, counts=tuple([space.counts[index] for index in group]))
    call = _call(total, total.nest(), range(len(layouts)), 0)
    arrays = (*group, *rows)
    return call and replace(call, arrays=tuple([arrays[index] for index in call.arrays]))
