"""Sums by NumPy whose error does not grow with their length.

NumPy adds pairwise along what lies together in memory, and naively what lies apart: the rows of a matrix say. Here
those are added in blocks of at most 32. The sums of blocks are added in float64, or in blocks again if they are that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphengine.ir.op import Call
from graphengine.ir.types import Array, TensorType
from graphengine.ops.support.layout import Axis, nest
from graphengine.ops.support.run_all import as_one

BLOCK = 128
"""How many numbers a pool or `scatter_add` adds up one after the other."""

ROWS = 32
"""How many rows a sum adds up one after the other."""

_ONES = {np.dtype(dtype): np.ones(ROWS, dtype) for dtype in ("float32", "float64")}

LINE = 1024
"""How many products BLAS adds up at once: in several lanes, as it likes."""


def parts_of_sum(x: TensorType, axes: Sequence[int]) -> tuple[TensorType, ...]:
    """The work memory of `summed`: none for few rows, else one array, whichever way x lies in memory."""
    shape = x.static_shape
    gone = [i for i in axes if shape[i] != 1]
    if not x.is_float or 0 in shape or math.prod(shape[i] for i in gone) <= ROWS:
        return ()
    results = math.prod(size for i, size in enumerate(shape) if i not in gone)
    if results == 1 == len(gone):  # NumPy adds pairwise along the only axis
        return ()
    ways = [shape[i] for i in gone], _runs(shape, gone)
    wide = 2 if x.dtype == "float32" else 0  # the sums in float64
    return (TensorType((results * (wide + max(map(_partial_sums, ways))),), x.dtype),)


def summed(x: Array, axes: Sequence[int], out: Array, parts: Sequence[Array] = ()) -> Call:
    """The call that writes the sum of x, of floats, over `axes` into `out`, with these axes of size 1 or without.

    `parts` is memory of the types `parts_of_sum`.
    """
    if not x.size:
        return out.fill, (0,)
    gone = [i for i in axes if x.shape[i] != 1]
    whole = out.reshape([1 if i in axes else size for i, size in enumerate(x.shape)])
    loops = _loops(x, np.broadcast_to(whole, x.shape), _runs(x.shape, gone))
    values = as_strided(x, [axis.size for axis in loops], [axis.steps[0] * x.itemsize for axis in loops])
    left = [axis for axis in loops if axis.steps[1]]
    target = as_strided(whole, [axis.size for axis in left], [axis.steps[1] * x.itemsize for axis in left])
    memory = parts[0].reshape(-1) if parts else np.empty(0, x.dtype)
    calls = _sums(values, tuple(i for i, axis in enumerate(loops) if not axis.steps[1]), target, memory)
    return as_one(calls)


def parts_of_dots(a: TensorType) -> tuple[TensorType, ...]:
    """The work memory of `dots`, of rows as those of `a`."""
    *rows, n = a.static_shape
    return (TensorType((*rows, n // LINE + 1), a.dtype),) if n > LINE else ()


def dots(a: Array, b: Array, out: Array, parts: Sequence[Array] = ()) -> list[Call]:
    """The calls that write the dot products of rows of two arrays of one shape into `out`.

    `parts` is memory of the types `parts_of_dots`.
    """
    if not parts:
        return [(np.vecdot, (a, b, out))]
    (sums,) = (array.reshape(*out.shape, -1) for array in parts)
    blocks = a.shape[-1] // LINE
    lines = [row[..., : blocks * LINE].reshape(*out.shape, blocks, LINE) for row in (a, b)]
    ends = [row[..., blocks * LINE :] for row in (a, b)]
    return [
        (np.vecdot, (*lines, sums[..., :blocks])),
        (np.vecdot, (*ends, sums[..., blocks])),
        (np.add.reduce, (sums, -1, None, out)),
    ]


def add_exactly(total: Array, part: Array, rest: Array, before: Array, added: Array) -> list[Call]:
    """Calls that add `part` to `total`, and what that loses by rounding (Knuth 1969) to `rest`.

    The others are work memory.
    """
    return [
        (np.copyto, (before, total)),
        (np.add, (total, part, total)),
        (np.subtract, (total, before, added)),
        (np.subtract, (part, added, part)),
        (np.subtract, (total, added, added)),
        (np.subtract, (before, added, before)),
        (np.add, (before, part, part)),
        (np.add, (rest, part, rest)),
    ]


def add_rest(total: Array, rest: Array, is_none: Array) -> list[Call]:
    """Calls that add what was lost, where that is known: of a total that is not finite it is not.

    `is_none` is work memory.
    """
    none = np.array(0, rest.dtype)
    return [
        (np.isnan, (rest, is_none)),
        (np.copyto, (rest, none, "same_kind", is_none)),
        (np.add, (total, rest, total)),
    ]


def _runs(shape: Sequence[int], gone: Sequence[int]) -> list[int]:
    """The sizes of the axes `gone`, those of neighbours multiplied: axes of size 1 do not part them."""
    runs: list[int] = []
    is_next = False
    for i, size in enumerate(shape):
        if i in gone:
            runs[-1:] = [runs[-1] * size] if is_next else [*runs[-1:], size]
        is_next = i in gone or (is_next and size == 1)
    return runs


def _loops(x: Array, whole: Array, runs: Sequence[int]) -> list[Axis]:
    """The axes of x, and of `whole`, which has steps of 0 along those that are summed over.

    Neighbours of these are joined if all are, so that the number of blocks hangs on the shape alone. If but one is
    left, the axes are in the order of memory.
    """
    loops = nest(x, whole)
    if [axis.size for axis in loops if not axis.steps[1]] != runs:
        steps = zip(x.strides, whole.strides, strict=True)
        all_axes = zip(x.shape, ((one // x.itemsize, other // x.itemsize) for one, other in steps), strict=True)
        loops = [Axis(size, step) for size, step in all_axes if size != 1]
    is_one = sum(not axis.steps[1] for axis in loops) == 1
    return sorted(loops, key=lambda axis: -abs(axis.steps[0])) if is_one else loops


def _cut(sizes: Sequence[int]) -> tuple[int, int]:
    """Which axis is cut into blocks, and of how many rows, so that with all axes behind it they are at most `ROWS`."""
    cut, behind = len(sizes) - 1, 1
    while cut and behind * sizes[cut] <= ROWS:
        behind *= sizes[cut]
        cut -= 1
    return cut, ROWS // behind


def _partial_sums(sizes: Sequence[int]) -> int:
    """How many sums of blocks there are on the way to one sum over axes of these sizes."""
    if math.prod(sizes) <= ROWS:
        return 0
    cut, rows = _cut(sizes)
    left = *sizes[:cut], -(-sizes[cut] // rows)
    return math.prod(left) + _partial_sums(left)


def _sums(x: Array, gone: tuple[int, ...], out: Array, memory: Array) -> list[Call]:
    """The calls that sum x over the axes `gone`, the last of them in blocks; `memory` is for the sums of these."""
    if not gone:
        return [(np.copyto, (out, x))]
    sizes = [x.shape[i] for i in gone]
    if math.prod(sizes) <= ROWS or gone == (x.ndim - 1,):
        return [_block(x, gone, out)]
    cut, rows = _cut(sizes)
    (*others, axis), inner = gone[: cut + 1], gone[cut + 1 :]
    n, step = x.shape[axis], x.strides[axis]
    whole, blocks = n // rows, -(-n // rows)
    shape = [blocks if i == axis else size for i, size in enumerate(x.shape) if i not in inner]
    parts = memory[: math.prod(shape)].reshape(shape)
    cuts = as_strided(
        x,
        (*x.shape[:axis], whole, rows, *x.shape[axis + 1 :]),
        (*x.strides[:axis], rows * step, step, *x.strides[axis + 1 :]),
    )
    ahead = (slice(None),) * axis
    calls = [_block(cuts, (axis + 1, *(i + 1 for i in inner)), parts[(*ahead, slice(whole))])]
    if whole < blocks:
        calls.append(_block(x[(*ahead, slice(whole * rows, None))], (axis, *inner), parts[(*ahead, whole, ...)]))
    left, rest = (*others, axis), memory[parts.size :]
    if x.dtype != np.float32:
        return [*calls, *_sums(parts, left, out, rest)]
    wide = rest[: 2 * out.size].view(np.float64).reshape(out.shape)
    return [*calls, (np.add.reduce, (parts, left, np.float64, wide)), (np.copyto, (out, wide))]


def _block(x: Array, gone: tuple[int, ...], out: Array) -> Call:
    """The sum of at most `ROWS` rows, or of what is together in memory, which NumPy adds pairwise.

    Rows are multiplied by ones where that is one product: BLAS takes a quarter of the time of a reduction.
    """
    lies_in_rows = x.ndim > 1 and x.strides[-1] == x.itemsize and x.strides[-2] >= x.shape[-1] * x.itemsize
    if gone != (x.ndim - 2,) or not lies_in_rows or not out.flags.c_contiguous:
        return np.add.reduce, (x, gone, None, out)
    # np.dot has less to look at before it starts.
    return np.dot if x.ndim == 2 else np.matmul, (_ONES[x.dtype][: x.shape[-2]], x, out)
