"""Matrix products, as BLAS takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphengine.backends.native.kernel import Product
from graphengine.backends.native.lowering.copies import copies
from graphengine.backends.native.lowering.reductions import joined
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.ir.types import Array
from graphengine.ops.matmul import AddProduct, MatMul
from graphengine.ops.support.layout import merged


@register_lowering(MatMul)
def lower_matmul(op: MatMul, out: Array, a: Array, b: Array, *, scratch: Sequence[Array]) -> Calls:
    """One product, or a stack of them."""
    return products(out, a, b)


@register_lowering(AddProduct)
def lower_add_product(
    op: AddProduct, out: Array, c: Array, a: Array, b: Array, scale: Array, *, scratch: Sequence[Array]
) -> Calls:
    """A product that is added to c, which is copied to `out` unless it is there."""
    moved = [] if c.ctypes.data == out.ctypes.data else copies(out, c)
    calls = products(out, a, b)
    return joined(moved, calls and [replace(call, alpha=op.factor, beta=1.0, scale=scale) for call in calls])


def products(out: Array, a: Array, b: Array) -> list[Product] | None:
    """out = a @ b, by NumPy's rule; None where a matrix is contiguous along neither axis, or nothing is summed over."""
    if not out.size:
        return []
    if not a.shape[-1]:
        return None
    if b.ndim == 1:
        out, b = out[..., None], b[:, None]
    if a.ndim == 1:
        out, a = out[..., None, :], a[None]
    if b.ndim == 2 < a.ndim:
        rows, into = merged(a), merged(out)
        if rows is not None and into is not None:  # one large product, not many small ones
            a, out = rows, into
    y, left, right = map(_plain, (out, a, b))
    if y is None or left is None or right is None:
        return None
    left, right = (np.broadcast_to(matrix, (*y.shape[:-2], *matrix.shape[-2:])) for matrix in (left, right))
    return [Product(y, left, right)]


def total_products(out: Array, left: Sequence[Array], right: Sequence[Array]) -> list[Product] | None:
    """out = the sum of all left[i] @ right[i].T; None as `products` has it."""
    found: list[Product] = []
    for a, b in zip(left, right, strict=True):
        calls = products(out, a, b.swapaxes(-1, -2))
        if calls is None:
            return None
        found += [replace(call, beta=1.0) if found else call for call in calls]
    return found


def _plain(x: Array) -> Array | None:
    """x, if its matrices are contiguous along one of their axes, and no element stands for two.

    The step along an axis of size 1, which means nothing, becomes such that the other may have any.
    """
    (rows, columns), (row, column), one = x.shape[-2:], x.strides[-2:], x.itemsize
    if columns == 1:
        row, column = row if rows > 1 else one, one
    elif rows == 1:
        row = columns * one if column == one else one
    is_plain = (column == one and row >= columns * one) or (row == one and column >= rows * one)
    return as_strided(x, x.shape, (*x.strides[:-2], row, column)) if is_plain else None
