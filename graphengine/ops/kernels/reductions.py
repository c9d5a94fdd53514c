"""Kernels that make one number of many, over any axes: sums, means, and what is greatest or least.

The error of a sum does not grow with the count. What is added up in the dtype itself are blocks of at most 128; their
sums are added in twice its digits: in float64 if they are float32, and as a float64 and what that loses if not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from graphengine.ir.kernel import LoopCall, kernel_of
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import float64, int64, lost, maximum, plus, real, share, totals
from graphengine.ops.kernels.copies import fills
from graphengine.ops.kernels.layout import Axis, nest, outspread

__all__ = ["Fold", "extremes", "fold", "sums"]


@dataclass(frozen=True, slots=True)
class Fold:
    """A reduction as loops: over two axes that stay and three that go, of which some may run once."""

    kept: list[Axis]
    gone: list[Axis]

    @property
    def numbers(self) -> tuple[int, ...]:
        """What kernels are told: sizes, with the steps in x and out of what stays, and in x alone of what goes."""
        return *(n for axis in self.kept for n in axis.numbers), *(n for axis in self.gone for n in axis.numbers[:2])

    @property
    def numbers_across(self) -> tuple[int, ...]:
        """The same for kernels of whole lines, which are told no steps along a line."""
        rows, line = self.kept
        return *rows.numbers, line.size, *self.numbers[6:]

    @property
    def is_across(self) -> bool:
        """Whether the inner loop of both arrays stays, so that whole lines make one line."""
        return self.kept[-1].size > 1 and self.kept[-1].steps == (1, 1)


def fold(x: Array, out: Array, axes: Sequence[int], in_order: bool = False) -> Fold | None:
    """The loops of a reduction of x over `axes` into `out`; None if there are too many, or some go backwards.

    With `in_order` what goes is met row by row, and else as it stands in memory, as far as may be.
    """
    if any(step < 0 for step in x.strides):
        return None
    whole = out.reshape([1 if place in axes else size for place, size in enumerate(x.shape)])
    loops = nest(x, np.broadcast_to(whole, x.shape))
    kept = outspread([axis for axis in loops if axis.steps[1] != 0], 2, arrays=2)
    inwards = [axis for axis in loops if axis.steps[1] == 0]
    if not in_order:
        inwards.sort(key=lambda axis: -axis.steps[0])
    gone = outspread(inwards, 3, arrays=2)
    return None if kept is None or gone is None else Fold(kept, gone)


def sums(out: Array, x: Array, axes: Sequence[int], divisor: float = 1.0) -> list[LoopCall] | None:
    """The calls that write the sum of x over `axes`, divided by `divisor` if it is of floats, into `out`."""
    if not x.size:
        return fills(out, 0.0 if divisor else nan)
    loops = fold(x, out, axes)
    if loops is None:
        return None
    if out.dtype.kind != "f":
        return [(kernel_of(count_places), (x, out, *loops.numbers))]
    if loops.is_across:
        return [(kernel_of(sum_lines), (x, out, float(divisor), *loops.numbers_across))]
    return [(kernel_of(sum_places), (x, out, float(divisor), *loops.numbers))]


def extremes(out: Array, x: Array, axes: Sequence[int], sign: float) -> list[LoopCall] | None:
    """The calls that write the greatest x (sign 1), or the least (sign -1), over `axes`; None if x is not of floats."""
    if not out.size:
        return []
    loops = fold(x, out, axes) if out.dtype.kind == "f" else None
    if loops is None:
        return None
    if loops.is_across:
        return [(kernel_of(extreme_lines), (x, out, sign, -inf, *loops.numbers_across))]
    return [(kernel_of(extreme_places), (x, out, sign, -inf, *loops.numbers))]


def sum_places(
    x: Array,
    out: Array,
    divisor: float,
    i: int,
    x_i: int,
    out_i: int,
    j: int,
    x_j: int,
    out_j: int,
    a: int,
    x_a: int,
    b: int,
    x_b: int,
    c: int,
    x_c: int,
    rank: int,
    ranks: int,
) -> None:
    """Each sum for itself: blocks of 128, and their sums in twice the digits."""
    for place in share(i * j, rank, ranks):
        row = place // j
        column = place - row * j
        total = float64(0.0)
        rest = float64(0.0)
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + column * x_j + outer * x_a + inner * x_b
                for block in range(0, c, 128):
                    part = 0.0
                    for p in range(block, block + 128 if block + 128 < c else c):
                        part = plus(part, x[first + p * x_c])
                    rest += lost(total, part)
                    total += part
        out[row * out_i + column * out_j] = real((total + rest) / divisor)


def count_places(
    x: Array,
    out: Array,
    i: int,
    x_i: int,
    out_i: int,
    j: int,
    x_j: int,
    out_j: int,
    a: int,
    x_a: int,
    b: int,
    x_b: int,
    c: int,
    x_c: int,
    rank: int,
    ranks: int,
) -> None:
    """Sums of whole numbers, which wrap around in the dtype of `out`."""
    for place in share(i * j, rank, ranks):
        row = place // j
        column = place - row * j
        total = int64(0)
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + column * x_j + outer * x_a + inner * x_b
                for p in range(c):
                    total += int64(x[first + p * x_c])
        out[row * out_i + column * out_j] = total


def sum_lines(
    x: Array,
    out: Array,
    divisor: float,
    i: int,
    x_i: int,
    out_i: int,
    n: int,
    a: int,
    x_a: int,
    b: int,
    x_b: int,
    c: int,
    x_c: int,
    rank: int,
    ranks: int,
) -> None:
    """Lines added to each other, four at a time, in stretches that stay in the cache: blocks of 128 lines as above."""
    stretches = (n + 63) // 64
    total = totals()
    rest = totals()
    for place in share(i * stretches, rank, ranks):
        row = place // stretches
        begin = (place - row * stretches) * 64
        count = 64 if n - begin > 64 else n - begin
        to = row * out_i + begin
        for p in range(count):
            out[to + p] = 0.0
            total[p] = 0.0
            rest[p] = 0.0
        for outer in range(a):
            for inner in range(b):
                for block in range(0, c, 128):
                    first = row * x_i + begin + outer * x_a + inner * x_b + block * x_c
                    lines = 128 if c - block > 128 else c - block
                    fours = lines // 4 * 4
                    for line in range(0, fours, 4):
                        at = first + line * x_c
                        for p in range(count):
                            ahead = x[at + p] + x[at + x_c + p]
                            behind = x[at + 2 * x_c + p] + x[at + 3 * x_c + p]
                            out[to + p] += ahead + behind
                    for line in range(fours, lines):
                        for p in range(count):
                            out[to + p] += x[first + line * x_c + p]
                    for p in range(count):
                        rest[p] += lost(total[p], out[to + p])
                        total[p] += out[to + p]
                        out[to + p] = 0.0
        for p in range(count):
            out[to + p] = real((total[p] + rest[p]) / divisor)


def extreme_places(
    x: Array,
    out: Array,
    sign: float,
    lowest: float,
    i: int,
    x_i: int,
    out_i: int,
    j: int,
    x_j: int,
    out_j: int,
    a: int,
    x_a: int,
    b: int,
    x_b: int,
    c: int,
    x_c: int,
    rank: int,
    ranks: int,
) -> None:
    """Each greatest of sign * x for itself."""
    for place in share(i * j, rank, ranks):
        row = place // j
        column = place - row * j
        best = lowest
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + column * x_j + outer * x_a + inner * x_b
                for p in range(c):
                    best = maximum(best, sign * x[first + p * x_c])
        out[row * out_i + column * out_j] = sign * best


def extreme_lines(
    x: Array,
    out: Array,
    sign: float,
    lowest: float,
    i: int,
    x_i: int,
    out_i: int,
    n: int,
    a: int,
    x_a: int,
    b: int,
    x_b: int,
    c: int,
    x_c: int,
    rank: int,
    ranks: int,
) -> None:
    """The greatest of sign * x of lines, element by element."""
    stretches = (n + 63) // 64
    for place in share(i * stretches, rank, ranks):
        row = place // stretches
        begin = (place - row * stretches) * 64
        count = 64 if n - begin > 64 else n - begin
        to = row * out_i + begin
        for p in range(count):
            out[to + p] = lowest
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + begin + outer * x_a + inner * x_b
                for line in range(c):
                    for p in range(count):
                        out[to + p] = maximum(out[to + p], sign * x[first + line * x_c + p])
        for p in range(count):
            out[to + p] = sign * out[to + p]
