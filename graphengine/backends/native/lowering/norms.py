"""Kernels that normalize rows, and their adjoint. Sums are added as docs/numerics.md says.

Squares may be too large or too small for the dtype where what is normalized is not. Then they are taken once more, of
the same differences times a power of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from textwrap import indent

import numpy as np

from graphengine.backends.native.kernel import Kernel
from graphengine.backends.native.lowering.in_place import call_over
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.ir.types import Array
from graphengine.ops.norm import GroupNorm, RowNorm, RowNormAdjoint


@register_lowering(RowNorm)
def lower_row_norm(op: RowNorm, out: Array, x: Array, *affine: Array, scratch: Sequence[Array]) -> Calls:
    """Rows are of `groups` groups of channels in turn, and a channel is `space` elements that follow each other."""
    if not out.size:
        return []
    if not all(array.flags.c_contiguous for array in (x, *affine)):
        return None
    none = np.empty(1, x.dtype)  # stands where an operand is not given, and is not read
    scale, shift = (*affine, none, none)[:2]
    *outer, _ = map(int, op.rows(x.shape))
    rows, groups, space = prod(outer), 1, 1
    if isinstance(op, GroupNorm):
        groups, space = op.groups, prod(x.shape[2:])
    sizes = (rows, x.size // rows, groups, space, int(op.centered), len(affine))
    return [call_over(NORM_ROWS, (x, scale, shift, out, op.epsilon, *safe_squares(x), *sizes), "x")]


@register_lowering(RowNormAdjoint)
def lower_row_norm_adjoint(op: RowNormAdjoint, out: Array, g: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    if not out.size:
        return []
    if not all(array.flags.c_contiguous for array in (g, x)):
        return None
    n = x.shape[-1]
    arguments = (g, x, out, op.epsilon, *safe_squares(x), x.size // n, n, int(op.centered))
    return [call_over(NORM_ADJOINT_ROWS, arguments, "g", "x")]


def safe_squares(x: Array) -> tuple[float, float, float]:
    """Between which bounds a mean of squares is taken for right, and by what differences are multiplied outside."""
    limits = np.finfo(x.dtype)
    return float(limits.tiny / limits.eps), float(limits.max), 2.0 ** (100 if x.itemsize == 4 else 600)


def _totals(depth: int, *sums: tuple[str, str], ahead: str = "") -> str:
    """The text of sums over a row, in blocks: of each a prefix of its names and what is added up, behind `ahead`."""
    head = [f"{prefix}{name} = float64(0.0)" for prefix, _ in sums for name in ("total", "rest")]
    parts = [f"    {prefix}part = 0.0" for prefix, _ in sums]
    terms = [f"        {prefix}part = plus({prefix}part, {term})" for prefix, term in sums]
    added = [f"    {p}{text}" for p, _ in sums for text in (f"rest += lost({p}total, {p}part)", f"total += {p}part")]
    loop = "    for p in range(first + block, first + (block + 128 if block + 128 < n else n)):"
    before = [f"        {ahead}"] if ahead else []
    return indent(
        "\n".join([*head, "for block in range(0, n, 128):", *parts, loop, *before, *terms, *added]), " " * depth
    )


_DIFFERENCE = "difference = (x[p] - mean) * k"

_NORM_ROWS = """\
def norm_rows(x, scale, shift, out, epsilon, least, most, power, rows, n, groups, space, centered, affine, rank, ranks):
    for row in share(rows, rank, ranks):
        first = row * n
        mean = 0.0
        if centered == 1:
{sums}
            mean = real((total + rest) / float64(n))
        k = 1.0
        v = 0.0
        for trial in range(2):
            if trial == 0 or not (v > least and v <= most):
                if trial == 1:
                    k = power if v <= least else 1.0 / power
{squares}
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
"""

NORM_ROWS = Kernel(
    "norm_rows",
    _NORM_ROWS.format(
        sums=_totals(12, ("", "x[p]")),
        squares=_totals(16, ("", "difference * difference"), ahead=_DIFFERENCE),
    ),
)
"""The mean first, the variance of the differences then; of `scale` and `shift` only the first `affine` are read."""

_NORM_ADJOINT_ROWS = """\
def norm_adjoint_rows(g, x, out, epsilon, least, most, power, rows, n, centered, rank, ranks):
    for row in share(rows, rank, ranks):
        first = row * n
        mean = 0.0
        g_mean = 0.0
        if centered == 1:
{sums}
            mean = real((total + rest) / float64(n))
            g_mean = real((g_total + g_rest) / float64(n))
        k = 1.0
        v = 0.0
        across = 0.0
        for trial in range(2):
            if trial == 0 or not (v > least and v <= most):
                if trial == 1:
                    k = power if v <= least else 1.0 / power
{squares}
                v = real((total + rest) / float64(n)) + epsilon * k * k
                across = real((g_total + g_rest) / float64(n))
        slope = across / v
        r = 1.0 / sqrt(v)
        for p in range(first, first + n):
            out[p] = r * (g[p] - g_mean - (x[p] - mean) * k * slope) * k
"""

NORM_ADJOINT_ROWS = Kernel(
    "norm_adjoint_rows",
    _NORM_ADJOINT_ROWS.format(
        sums=_totals(12, ("", "x[p]"), ("g_", "g[p]")),
        squares=_totals(
            16, ("", "difference * difference"), ("g_", "g[p] * difference"), ahead="difference = (x[p] - mean) * k"
        ),
    ),
)
"""Two passes that sum, and one that writes."""
