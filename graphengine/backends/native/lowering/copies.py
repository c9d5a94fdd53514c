"""Kernels that move values, and that write one value everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from graphengine.backends.native.kernel import LoopCall, kernel_of
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
    numbers = [number for axis in axes for number in axis.numbers]
    arguments = (into, source, start, first, *numbers)
    if axes[-1].steps == (1, 1):
        return [(kernel_of(copy_rows), arguments[:-2])]
    return [(kernel_of(copy_elements), arguments)]


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


def copy_rows(
    out: Array,
    x: Array,
    start: int,
    first: int,
    a: int,
    out_a: int,
    x_a: int,
    b: int,
    out_b: int,
    x_b: int,
    c: int,
    out_c: int,
    x_c: int,
    n: int,
    rank: int,
    ranks: int,
) -> None:
    """out[i, j, k, :] = x[i, j, k, :], the elements of each line side by side in both."""
    for i in share(a, rank, ranks):
        for j in range(b):
            for k in range(c):
                to = start + i * out_a + j * out_b + k * out_c
                at = first + i * x_a + j * x_b + k * x_c
                for p in range(n):
                    out[to + p] = x[at + p]


def copy_elements(
    out: Array,
    x: Array,
    start: int,
    first: int,
    a: int,
    out_a: int,
    x_a: int,
    b: int,
    out_b: int,
    x_b: int,
    c: int,
    out_c: int,
    x_c: int,
    n: int,
    out_n: int,
    x_n: int,
    rank: int,
    ranks: int,
) -> None:
    """out[i, j, k, l] = x[i, j, k, l], by blocks: of a transposed x, each block reads few lines of the cache."""
    for i in share(a, rank, ranks):
        for j in range(b):
            for block in range(0, n, 16):
                for k in range(c):
                    to = start + i * out_a + j * out_b + k * out_c
                    at = first + i * x_a + j * x_b + k * x_c
                    for p in range(block, block + 16 if block + 16 < n else n):
                        out[to + p * out_n] = x[at + p * x_n]


def fill(out: Array, value: float, n: int, rank: int, ranks: int) -> None:
    """out[i] = value."""
    for i in share(n, rank, ranks):
        out[i] = value
