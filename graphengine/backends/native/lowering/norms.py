"""Kernels that normalize rows, and their adjoint. Sums are added as docs/numerics.md says.

Squares may be too large or too small for the dtype where what is normalized is not. Then they are taken once more, of
the same differences times a power of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphengine.backends.native.kernel import Read, kernel_of
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.vocabulary import float64, lost, plus, real, share, sqrt
from graphengine.ir.types import Array
from graphengine.ops.norm import GroupNorm, RowNorm, RowNormAdjoint


@register_lowering(RowNorm)
def lower_row_norm(op: RowNorm, out: Array, x: Array, *affine: Array, scratch: Sequence[Array]) -> Calls:
    """Rows are of `groups` groups of channels in turn, and a channel is `space` elements that follow each other."""
    if not out.size:
        return []
    if not all(array.flags.c_contiguous for array in (x, *affine)):
        return None
    scale, shift, *_ = *affine, x, x  # x stands where an operand is not given, and is not read there
    rows = prod(map(int, op.rows(x.shape)[:-1]))
    groups, space = (op.groups, prod(x.shape[2:])) if isinstance(op, GroupNorm) else (1, 1)
    sizes = np.array((rows, x.size // rows, groups, space, op.centered, len(affine)), np.int64)
    return [(kernel_of(norm_rows), (x, scale, shift, out, op.epsilon, *safe_squares(x), sizes))]


@register_lowering(RowNormAdjoint)
def lower_row_norm_adjoint(op: RowNormAdjoint, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    if not out.size:
        return []
    if not all(array.flags.c_contiguous for array in operands):
        return None
    n = out.shape[-1]
    sizes = out.size // n, n, int(op.centered)
    return [(kernel_of(norm_adjoint_rows), (*operands, out, op.epsilon, *safe_squares(out), *sizes))]


def safe_squares(x: Array) -> tuple[float, float, float]:
    """Between which bounds a mean of squares is taken for right, and by what differences are multiplied outside."""
    limits = np.finfo(x.dtype)
    return float(limits.tiny / limits.eps), float(limits.max), 2.0 ** (100 if x.itemsize == 4 else 600)


def norm_rows(
    x: Array,
    scale: Array,
    shift: Array,
    out: Array,
    epsilon: float,
    least: float,
    most: float,
    power: float,
    sizes: Read,
    rank: int,
    ranks: int,
) -> None:
    """The mean of each row in turn 0, of the squares of differences in turn 1, and in turn 2 if those were not safe."""
    rows, n, groups, space, centered, affine = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    for row in share(rows, rank, ranks):
        first = row * n
        mean, k, v = 0.0, 1.0, 0.0
        for turn in range(3):
            if turn == 1 or (turn == 0 and centered == 1) or (turn == 2 and not (v > least and v <= most)):
                if turn == 2:
                    k = power if v <= least else 1.0 / power
                total, rest = float64(0.0), float64(0.0)
                for block in range(0, n, 128):
                    begin, end = first + block, first + (block + 128 if block + 128 < n else n)
                    part = 0.0
                    if turn == 0:
                        for p in range(begin, end):
                            part = plus(part, x[p])
                    else:
                        for p in range(begin, end):
                            difference = (x[p] - mean) * k
                            part = plus(part, difference * difference)
                    rest += lost(total, part)
                    total += part
                if turn == 0:
                    mean = real((total + rest) / float64(n))
                else:
                    v = real((total + rest) / float64(n)) + epsilon * k * k
        r = 1.0 / sqrt(v)
        for p in range(first, first + n):
            out[p] = (x[p] - mean) * k * r
        if affine > 0 and space == 1:
            channel = row % groups * n
            for p in range(n):
                out[first + p] *= scale[channel + p]
            if affine > 1:
                for p in range(n):
                    out[first + p] += shift[channel + p]
        elif affine > 0:
            channels = n // space
            for c in range(channels):
                a = scale[row % groups * channels + c]
                b = 0.0
                if affine > 1:
                    b = shift[row % groups * channels + c]
                for p in range(first + c * space, first + (c + 1) * space):
                    out[p] = out[p] * a + b


def norm_adjoint_rows(
    g: Array,
    x: Array,
    out: Array,
    epsilon: float,
    least: float,
    most: float,
    power: float,
    rows: int,
    n: int,
    centered: int,
    rank: int,
    ranks: int,
) -> None:
    """The same turns for x and g, and r (g - mean(g) - n mean(g n)) of each row."""
    for row in share(rows, rank, ranks):
        first = row * n
        mean, g_mean, across, k, v = 0.0, 0.0, 0.0, 1.0, 0.0
        for turn in range(3):
            if turn == 1 or (turn == 0 and centered == 1) or (turn == 2 and not (v > least and v <= most)):
                if turn == 2:
                    k = power if v <= least else 1.0 / power
                total, rest, g_total, g_rest = float64(0.0), float64(0.0), float64(0.0), float64(0.0)
                for block in range(0, n, 128):
                    begin, end = first + block, first + (block + 128 if block + 128 < n else n)
                    part, g_part = 0.0, 0.0
                    if turn == 0:
                        for p in range(begin, end):
                            part = plus(part, x[p])
                            g_part = plus(g_part, g[p])
                    else:
                        for p in range(begin, end):
                            difference = (x[p] - mean) * k
                            part = plus(part, difference * difference)
                            g_part = plus(g_part, g[p] * difference)
                    rest += lost(total, part)
                    total += part
                    g_rest += lost(g_total, g_part)
                    g_total += g_part
                if turn == 0:
                    mean, g_mean = real((total + rest) / float64(n)), real((g_total + g_rest) / float64(n))
                else:
                    v = real((total + rest) / float64(n)) + epsilon * k * k
                    across = real((g_total + g_rest) / float64(n))
        slope = across / v
        r = 1.0 / sqrt(v)
        for p in range(first, first + n):
            out[p] = r * (g[p] - g_mean - (x[p] - mean) * k * slope) * k
