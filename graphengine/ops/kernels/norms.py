"""Kernels that normalize rows, and their adjoint. Sums are added as docs/numerics.md says.

Squares may be too large or too small for the dtype where what is normalized is not. Then they are taken once more, of
the same differences times a power of two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphengine.ir.kernel import LoopCall
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import float64, lost, plus, real, share, sqrt
from graphengine.ops.kernels.in_place import call_over

__all__ = ["row_norm_adjoints", "row_norms", "safe_squares"]


def row_norms(
    out: Array,
    x: Array,
    affine: Sequence[Array],
    epsilon: float,
    centered: bool,
    rows: int,
    groups: int = 1,
    space: int = 1,
) -> list[LoopCall] | None:
    """The calls that normalize `rows` rows of x, then scale them by affine[0] and shift them by affine[1] if given.

    A channel is `space` elements that follow each other; rows are of `groups` groups of channels in turn.
    """
    if not out.size:
        return []
    if not all(array.flags.c_contiguous for array in (x, *affine)):
        return None
    none = np.empty(1, x.dtype)  # stands where an operand is not given, and is not read
    scale, shift = (*affine, none, none)[:2]
    sizes = (rows, x.size // rows, groups, space, int(centered), len(affine))
    return [call_over(norm_rows, (x, scale, shift, out, epsilon, *safe_squares(x), *sizes), "x")]


def row_norm_adjoints(out: Array, g: Array, x: Array, epsilon: float, centered: bool) -> list[LoopCall] | None:
    """The calls that write r (g - mean(g) - n mean(g n)) of every row; `out` may be g or x."""
    if not out.size:
        return []
    if not all(array.flags.c_contiguous for array in (g, x)):
        return None
    n = x.shape[-1]
    arguments = (g, x, out, epsilon, *safe_squares(x), x.size // n, n, int(centered))
    return [call_over(norm_adjoint_rows, arguments, "g", "x")]


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
    rows: int,
    n: int,
    groups: int,
    space: int,
    centered: int,
    affine: int,
    rank: int,
    ranks: int,
) -> None:
    """The mean first, the variance of the differences then; of `scale` and `shift` only the first `affine` are read."""
    for row in share(rows, rank, ranks):
        first = row * n
        mean = 0.0
        if centered == 1:
            total = float64(0.0)
            rest = float64(0.0)
            for block in range(0, n, 128):
                part = 0.0
                for p in range(first + block, first + (block + 128 if block + 128 < n else n)):
                    part = plus(part, x[p])
                rest += lost(total, part)
                total += part
            mean = real((total + rest) / float64(n))
        k = 1.0
        v = 0.0
        for trial in range(2):
            if trial == 0 or not (v > least and v <= most):
                if trial == 1:
                    k = power if v <= least else 1.0 / power
                total = float64(0.0)
                rest = float64(0.0)
                for block in range(0, n, 128):
                    part = 0.0
                    for p in range(first + block, first + (block + 128 if block + 128 < n else n)):
                        difference = (x[p] - mean) * k
                        part = plus(part, difference * difference)
                    rest += lost(total, part)
                    total += part
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
    """Two passes that sum, and one that writes."""
    for row in share(rows, rank, ranks):
        first = row * n
        mean = 0.0
        g_mean = 0.0
        if centered == 1:
            total = float64(0.0)
            rest = float64(0.0)
            g_total = float64(0.0)
            g_rest = float64(0.0)
            for block in range(0, n, 128):
                part = 0.0
                g_part = 0.0
                for p in range(first + block, first + (block + 128 if block + 128 < n else n)):
                    part = plus(part, x[p])
                    g_part = plus(g_part, g[p])
                rest += lost(total, part)
                total += part
                g_rest += lost(g_total, g_part)
                g_total += g_part
            mean = real((total + rest) / float64(n))
            g_mean = real((g_total + g_rest) / float64(n))
        k = 1.0
        v = 0.0
        across = 0.0
        for trial in range(2):
            if trial == 0 or not (v > least and v <= most):
                if trial == 1:
                    k = power if v <= least else 1.0 / power
                total = float64(0.0)
                rest = float64(0.0)
                g_total = float64(0.0)
                g_rest = float64(0.0)
                for block in range(0, n, 128):
                    part = 0.0
                    g_part = 0.0
                    for p in range(first + block, first + (block + 128 if block + 128 < n else n)):
                        difference = (x[p] - mean) * k
                        part = plus(part, difference * difference)
                        g_part = plus(g_part, g[p] * difference)
                    rest += lost(total, part)
                    total += part
                    g_rest += lost(g_total, g_part)
                    g_total += g_part
                v = real((total + rest) / float64(n)) + epsilon * k * k
                across = real((g_total + g_rest) / float64(n))
        slope = across / v
        r = 1.0 / sqrt(v)
        for p in range(first, first + n):
            out[p] = r * (g[p] - g_mean - (x[p] - mean) * k * slope) * k
