"""Kernels that move values, and that write one value everywhere."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graphengine.backends.native.kernel import LoopCall, Read, kernel_of, specialized
from graphengine.backends.native.vocabulary import share
from graphengine.ir.types import Array
from graphengine.ops.support.layout import ascending, nest, outspread


def copies(out: Array, x: Array) -> list[LoopCall] | None:
    """The calls that write x, of the shape and dtype of `out`, into `out`; None for too many axes."""
    if not out.size:
        return []
    out, x = as_bytes(out), as_bytes(x)
    joined = nest(out, x)
    if not joined or (len(joined) == 1 and joined[0].steps == (1, 1)):
        return [(kernel_of(copy_line), (out, x, out.size))]
    axes = outspread(joined, 4, arrays=2)
    if axes is None:
        return None
    (into, start), (source, first) = ascending(out), ascending(x)
    *numbers, out_n, x_n = (number for axis in axes for number in axis.numbers)
    arrays = (into, source, np.array([start, first, *numbers], np.int64))
    if (out_n, x_n) == (1, 1):
        return [(specialized(copy_elements, out_n=1, x_n=1), (*arrays, axes[-1].size))]
    return [(kernel_of(copy_elements), (*arrays, 16, out_n, x_n))]


def copies_of(pairs: Iterable[tuple[Array, Array]]) -> list[LoopCall] | None:
    """The calls of many copies, each a pair of an `out` and an x."""
    found: list[LoopCall] = []
    for out, x in pairs:
        calls = copies(out, x)
        if calls is None:
            return None
        found += calls
    return found


def fills(out: Array, value: float) -> list[LoopCall]:
    """The calls that write `value` into `out`, which is contiguous."""
    out = as_bytes(out)
    return [(kernel_of(fill), (out, value if out.dtype.kind == "f" else int(value), out.size))] if out.size else []


def placed(out: Array, part: Array, x: Array, value: float) -> list[LoopCall] | None:
    """The calls that write x into `part` of `out`, and `value` into the rest."""
    inner = copies(part, x)
    return inner if inner is None or part.size == out.size else [*fills(out, value), *inner]


def as_bytes(x: Array) -> Array:
    """x, whose truth values are moved as bytes."""
    return x.view("uint8") if x.dtype == bool else x


def copy_line(out: Array, x: Array, n: int, rank: int, ranks: int) -> None:
    """out[i] = x[i]."""
    for i in share(n, rank, ranks):
        out[i] = x[i]


def copy_elements(out: Array, x: Array, sizes: Read, width: int, out_n: int, x_n: int, rank: int, ranks: int) -> None:
    """out[i, j, k, l] = x[i, j, k, l], by blocks of `width`: of a transposed x, each reads few lines of the cache."""
    start, first = sizes[0], sizes[1]
    out_a, x_a, b, out_b, x_b = sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]
    c, out_c, x_c, n = sizes[8], sizes[9], sizes[10], sizes[11]
    for i in share(sizes[2], rank, ranks):
        for j in range(b):
            for block in range(0, n, width):
                for k in range(c):
                    to = start + i * out_a + j * out_b + k * out_c
                    at = first + i * x_a + j * x_b + k * x_c
                    for p in range(block, block + width if block + width < n else n):
                        out[to + p * out_n] = x[at + p * x_n]


def fill(out: Array, value: float, n: int, rank: int, ranks: int) -> None:
    """out[i] = value."""
    for i in share(n, rank, ranks):
        out[i] = value
