"""Sums by NumPy whose error does not grow with their length.

NumPy adds pairwise along what lies together in memory, and naively what lies apart: the rows of a matrix say. Here
those are added in blocks of at most 128, and the sums of blocks likewise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphengine.ir.op import Array, Call
from graphengine.ops.kernels.layout import nest
from graphengine.ops.run_all import run_all

__all__ = ["BLOCK", "add_exactly", "add_rest", "dots", "summed"]

BLOCK = 128
"""How many rows are added up one after the other."""

LINE = 1024
"""How many products BLAS adds up at once: in several lanes, as it likes."""


def summed(x: Array, axes: Sequence[int], out: Array) -> Call:
    """The call that writes the sum of x, of floats, over `axes` into `out`, with these axes of size 1 or without."""
    if not x.size:
        return out.fill, (0,)
    whole = out.reshape([1 if place in axes else size for place, size in enumerate(x.shape)])
    loops = sorted(nest(x, np.broadcast_to(whole, x.shape)), key=lambda axis: -abs(axis.steps[0]))
    values = as_strided(x, [axis.size for axis in loops], [axis.steps[0] * x.itemsize for axis in loops])
    kept = [axis for axis in loops if axis.steps[1]]
    target = as_strided(whole, [axis.size for axis in kept], [axis.steps[1] * x.itemsize for axis in kept])
    calls = _sums(values, tuple(place for place, axis in enumerate(loops) if not axis.steps[1]), target)
    return calls[0] if len(calls) == 1 else (run_all, (calls,))


def dots(a: Array, b: Array, out: Array) -> list[Call]:
    """The calls that write the dot products of rows of two arrays of one shape into `out`."""
    n = a.shape[-1]
    if n <= LINE:
        return [(np.vecdot, (a, b, out))]
    blocks = n // LINE
    parts = np.zeros((*out.shape, blocks + 1), out.dtype)
    lines = [row[..., : blocks * LINE].reshape(*out.shape, blocks, LINE) for row in (a, b)]
    ends = [row[..., blocks * LINE :] for row in (a, b)]
    return [
        (np.vecdot, (*lines, parts[..., :blocks])),
        (np.vecdot, (*ends, parts[..., blocks])),
        (np.add.reduce, (parts, -1, None, out)),
    ]


def add_exactly(total: Array, part: Array, rest: Array, before: Array, share: Array) -> None:
    """Add `part` to `total`, and what that loses by rounding (Knuth 1969) to `rest`; the others are work memory."""
    np.copyto(before, total)
    np.add(total, part, total)
    np.subtract(total, before, share)
    np.subtract(part, share, part)
    np.subtract(total, share, share)
    np.subtract(before, share, before)
    np.add(before, part, part)
    np.add(rest, part, rest)


def add_rest(total: Array, rest: Array, is_none: Array) -> None:
    """Add what was lost, where that is known: of a total that is not finite it is not. `is_none` is work memory."""
    np.isnan(rest, is_none)
    np.copyto(rest, 0, where=is_none)
    np.add(total, rest, total)


def _sums(x: Array, gone: tuple[int, ...], out: Array) -> list[Call]:
    """The calls that sum x, whose axes stand in the order of memory, over the axes `gone`."""
    if not gone:
        return [(np.copyto, (out, x))]
    *others, axis = gone
    if math.prod(x.shape[place] for place in gone) <= BLOCK or gone == (x.ndim - 1,):
        return [_product(x, gone, out) or (np.add.reduce, (x, gone, None, out))]
    ahead, n, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    if axis == x.ndim - 1 or n <= BLOCK:
        parts = np.empty((*ahead, *behind), x.dtype)
        return [*_sums(x, (axis,), parts), *_sums(parts, tuple(others), out)]
    blocks = -(-n // BLOCK)
    parts = np.empty((*ahead, blocks, *behind), x.dtype)
    whole, place = n // BLOCK, (slice(None),) * axis
    step = x.strides[axis]
    strides = (*x.strides[:axis], BLOCK * step, step, *x.strides[axis + 1 :])
    calls = _sums(as_strided(x, (*ahead, whole, BLOCK, *behind), strides), (axis + 1,), parts[(*place, slice(whole))])
    if whole < blocks:
        calls += _sums(x[(*place, slice(whole * BLOCK, None))], (axis,), parts[(*place, whole)])
    return [*calls, *_sums(parts, gone, out)]


def _product(x: Array, gone: tuple[int, ...], out: Array) -> Call | None:
    """The sum of rows as a product with ones, where it is one: BLAS takes a quarter of the time of a reduction."""
    lies_in_rows = x.ndim > 1 and x.strides[-1] == x.itemsize and x.strides[-2] >= x.shape[-1] * x.itemsize
    if gone != (x.ndim - 2,) or not lies_in_rows or not out.flags.c_contiguous:
        return None
    # np.dot has less to look at before it starts.
    return np.dot if x.ndim == 2 else np.matmul, (np.ones(x.shape[-2], x.dtype), x, out)
