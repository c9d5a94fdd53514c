"""Kernels of reductions that take several passes: variances, logarithms of sums of powers, and places of extremes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphengine.ir.kernel import LoopCall, kernel_of
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import exp, float64, log, lost, maximum, minimum, plus, real, share, sqrt, totals
from graphengine.ops.kernels.copies import fills
from graphengine.ops.kernels.norms import safe_squares
from graphengine.ops.kernels.reductions import extremes, fold, sums

__all__ = ["lengths", "logsumexps", "places", "variances"]


def variances(out: Array, x: Array, axes: Sequence[int], means: Array, count: int) -> list[LoopCall] | None:
    """The calls that write the mean of (x - mean)^2 over `axes` into `out`; `means` has a place for each mean."""
    if not out.size:
        return []
    first, loops = sums(means, x, axes, count), fold(x, out, axes)
    if first is None or loops is None:
        return None
    if loops.is_across:
        return [*first, (kernel_of(square_lines), (x, means, out, float(count), *loops.numbers_across))]
    return [*first, (kernel_of(square_places), (x, means, out, float(count), *loops.numbers))]


def lengths(out: Array, x: Array, axes: Sequence[int], work: Array) -> list[LoopCall] | None:
    """The calls that write the root of the sum of x^2 over `axes` into `out`; `work` is at least as large."""
    if not out.size:
        return []
    loops = fold(x, out, axes)
    if loops is None:
        return None
    zeros = work.reshape(-1)[: out.size]
    squares = square_lines if loops.is_across else square_places
    numbers = loops.numbers_across if loops.is_across else loops.numbers
    return [
        *fills(zeros, 0.0),
        (kernel_of(squares), (x, zeros, out, 1.0, *numbers)),
        (kernel_of(root_places), (x, out, *safe_squares(x), *loops.numbers)),
    ]


def logsumexps(out: Array, x: Array, axes: Sequence[int], greatest: Array) -> list[LoopCall] | None:
    """The calls that write log sum exp(x) over `axes` into `out`; `greatest` has a place for each greatest x."""
    if not out.size:
        return []
    first, loops = extremes(greatest, x, axes, 1.0), fold(x, out, axes)
    if first is None or loops is None:
        return None
    arguments = (x, greatest, out, float(np.finfo(x.dtype).max))
    if loops.is_across:
        return [*first, (kernel_of(power_lines), (*arguments, *loops.numbers_across))]
    return [*first, (kernel_of(power_places), (*arguments, *loops.numbers))]


def places(out: Array, x: Array, axes: Sequence[int], sign: float, work: Array) -> list[LoopCall] | None:
    """The calls that write the number of the first greatest x (sign 1), or least (-1), along `axes` into `out`.

    `work` has a place for each extreme.
    """
    if not out.size:
        return []
    found = work.reshape(-1)[: out.size].reshape(out.shape)
    first, loops = extremes(found, x, axes, sign), fold(x, out, axes, in_order=True)
    if first is None or loops is None:
        return None
    if loops.is_across:
        return [*first, (kernel_of(number_lines), (x, found, out, *loops.numbers_across))]
    return [*first, (kernel_of(number_places), (x, found, out, *loops.numbers))]


def square_places(
    x: Array,
    means: Array,
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
    """out = the sum of (x - means)^2, divided by `divisor`; as `sum_places` adds."""
    for place in share(i * j, rank, ranks):
        row = place // j
        column = place - row * j
        to = row * out_i + column * out_j
        total = float64(0.0)
        rest = float64(0.0)
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + column * x_j + outer * x_a + inner * x_b
                for block in range(0, c, 128):
                    part = 0.0
                    for p in range(block, block + 128 if block + 128 < c else c):
                        difference = x[first + p * x_c] - means[to]
                        part = plus(part, difference * difference)
                    rest += lost(total, part)
                    total += part
        out[to] = real((total + rest) / divisor)


def square_lines(
    x: Array,
    means: Array,
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
    """The same of lines, element by element."""
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
                    for line in range(block, block + 128 if block + 128 < c else c):
                        first = row * x_i + begin + outer * x_a + inner * x_b + line * x_c
                        for p in range(count):
                            difference = x[first + p] - means[to + p]
                            out[to + p] += difference * difference
                    for p in range(count):
                        rest[p] += lost(total[p], out[to + p])
                        total[p] += out[to + p]
                        out[to + p] = 0.0
        for p in range(count):
            out[to + p] = real((total[p] + rest[p]) / divisor)


def root_places(
    x: Array,
    out: Array,
    least: float,
    most: float,
    power: float,
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
    """The root of a sum of squares; where these are too small or too large for the dtype, of those of x and `power`."""
    for place in share(i * j, rank, ranks):
        row = place // j
        column = place - row * j
        to = row * out_i + column * out_j
        if out[to] > least and out[to] <= most:
            out[to] = sqrt(out[to])
        else:
            k = power if out[to] <= least else 1.0 / power
            total = float64(0.0)
            for outer in range(a):
                for inner in range(b):
                    first = row * x_i + column * x_j + outer * x_a + inner * x_b
                    for p in range(c):
                        total += float64(x[first + p * x_c] * k * (x[first + p * x_c] * k))
            out[to] = sqrt(real(total)) / k


def power_places(
    x: Array,
    greatest: Array,
    out: Array,
    limit: float,
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
    """out = m + log sum exp(x - m), m being the greatest, kept between -limit and limit: inf - inf does not come up."""
    for place in share(i * j, rank, ranks):
        row = place // j
        column = place - row * j
        to = row * out_i + column * out_j
        m = maximum(-limit, minimum(limit, greatest[to]))
        total = float64(0.0)
        rest = float64(0.0)
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + column * x_j + outer * x_a + inner * x_b
                for block in range(0, c, 128):
                    part = 0.0
                    for p in range(block, block + 128 if block + 128 < c else c):
                        part = plus(part, exp(x[first + p * x_c] - m))
                    rest += lost(total, part)
                    total += part
        out[to] = log(real(total + rest)) + m


def power_lines(
    x: Array,
    greatest: Array,
    out: Array,
    limit: float,
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
    """The same of lines, element by element."""
    stretches = (n + 63) // 64
    total = totals()
    rest = totals()
    for place in share(i * stretches, rank, ranks):
        row = place // stretches
        begin = (place - row * stretches) * 64
        count = 64 if n - begin > 64 else n - begin
        to = row * out_i + begin
        for p in range(count):
            greatest[to + p] = maximum(-limit, minimum(limit, greatest[to + p]))
            out[to + p] = 0.0
            total[p] = 0.0
            rest[p] = 0.0
        for outer in range(a):
            for inner in range(b):
                for block in range(0, c, 128):
                    for line in range(block, block + 128 if block + 128 < c else c):
                        first = row * x_i + begin + outer * x_a + inner * x_b + line * x_c
                        for p in range(count):
                            out[to + p] += exp(x[first + p] - greatest[to + p])
                    for p in range(count):
                        rest[p] += lost(total[p], out[to + p])
                        total[p] += out[to + p]
                        out[to + p] = 0.0
        for p in range(count):
            out[to + p] = real(total[p] + rest[p])
        for p in range(count):
            out[to + p] = log(out[to + p]) + greatest[to + p]


def number_places(
    x: Array,
    extremes: Array,
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
    """The first element that is equal to the extreme, or NaN as it is."""
    for place in share(i * j, rank, ranks):
        row = place // j
        column = place - row * j
        to = row * out_i + column * out_j
        extreme = extremes[to]
        found = a * b * c
        for outer in range(a):
            for inner in range(b):
                first = row * x_i + column * x_j + outer * x_a + inner * x_b
                ahead = (outer * b + inner) * c
                for p in range(c):
                    value = x[first + p * x_c]
                    number = ahead + p if value == extreme or value != value else a * b * c
                    found = number if number < found else found
        out[to] = found


def number_lines(
    x: Array,
    extremes: Array,
    out: Array,
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
    """The same of lines, element by element: from the last line to the first."""
    stretches = (n + 63) // 64
    for place in share(i * stretches, rank, ranks):
        row = place // stretches
        begin = (place - row * stretches) * 64
        count = 64 if n - begin > 64 else n - begin
        to = row * out_i + begin
        for outer in range(a):
            for inner in range(b):
                for line in range(c):
                    number = a * b * c - 1 - ((outer * b + inner) * c + line)
                    first = row * x_i + begin + (a - 1 - outer) * x_a + (b - 1 - inner) * x_b + (c - 1 - line) * x_c
                    for p in range(count):
                        value = x[first + p]
                        out[to + p] = number if value == extremes[to + p] or value != value else out[to + p]
