"""Matrix products as kernels: by tiles in registers where that pays, by BLAS, or by plain loops if they are small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphengine.backends.blas import Blas
from graphengine.backends.native.gemm.packed import packed_product
from graphengine.backends.native.gemm.tiles import Workspace, pays
from graphengine.backends.native.kernel import Kernel, Product, Read, kernel_of
from graphengine.backends.threads import WORTH_SHARING
from graphengine.ir.types import Array
from graphengine.ops.support.layout import starts

if TYPE_CHECKING:  # the names that kernels use, which only machine code knows
    from graphengine.backends.native.llvm.intrinsics import behind, gemm
    from graphengine.backends.native.vocabulary import plus


def blas_product(
    c: Array, a: Read, b: Read, scale: Read, sizes: Read, alpha: float, beta: float, rank: int, ranks: int
) -> None:
    """Products in parts, cut where C is longest, or whole if there are many: dealt out to the threads.

    BLAS computes other bits of a part than of the whole, so that how many parts there are is fixed, whoever is there to
    compute them.
    """
    function, narrow, m, n, k = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    trans_a, trans_b, lda, ldb, ldc = sizes[5], sizes[6], sizes[7], sizes[8], sizes[9]
    count, parts, begins = sizes[10], sizes[11], behind(sizes, 12)
    begin, end = 0, count
    first, last = parts * rank // ranks, parts * (rank + 1) // ranks
    if parts == 1:
        first, last = 0, 1
        begin, end = end * rank // ranks, end * (rank + 1) // ranks
    length = m if m >= n else n
    most = (length + 16 * parts - 1) // (16 * parts) * 16
    scaled = alpha * scale[0]
    for part in range(first, last):
        start = most * part if most * part < length else length
        size = most if start + most < length else length - start
        rows, columns, a_from, b_from, c_from = size, n, start * (1 if trans_a != 0 else lda), 0, start * ldc
        if m < n:
            rows, columns, a_from, b_from, c_from = m, size, 0, start * (ldb if trans_b != 0 else 1), start
        for i in range(begin, end if size > 0 else begin):
            c_i = behind(c, c_from + begins[i])
            a_i = behind(a, a_from + begins[count + i])
            b_i = behind(b, b_from + begins[2 * count + i])
            gemm(function, narrow, c_i, a_i, b_i, rows, columns, k, lda, ldb, ldc, trans_a, trans_b, scaled, beta)


def small_product(c: Array, a: Read, b: Read, scale: Read, sizes: Read, alpha: float, beta: float) -> None:
    """C = alpha A B + beta C for few elements, row by row; the rows of B and of C are contiguous."""
    m, n, k, a_row, a_column = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    b_row, c_row = sizes[5], sizes[6]
    for i in range(m):
        if beta == 0.0:
            for j in range(n):
                c[i * c_row + j] = 0.0
        elif beta != 1.0:
            for j in range(n):
                c[i * c_row + j] *= beta
        for p in range(k):
            x = alpha * scale[0] * a[i * a_row + p * a_column]
            for j in range(n):
                c[i * c_row + j] += x * b[p * b_row + j]


def small_dots(c: Array, a: Read, b: Read, scale: Read, sizes: Read, alpha: float, beta: float) -> None:
    """C = alpha A B + beta C for few elements, all dot products; the rows of A and the columns of B are contiguous."""
    m, n, k, a_row, b_column = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    c_row, c_column = sizes[5], sizes[6]
    for i in range(m):
        for j in range(n):
            total = 0.0
            for p in range(k):
                total = plus(total, a[i * a_row + p] * b[j * b_column + p])
            index = i * c_row + j * c_column
            if beta == 0.0:
                c[index] = alpha * scale[0] * total
            else:
                c[index] = alpha * scale[0] * total + beta * c[index]


def product_call(product: Product, blas: Blas | None, workspace: Workspace) -> tuple[Kernel, list[Any]] | None:
    """The kernel that computes `product`, and its arguments; None if there is no BLAS, or no layout that it knows."""
    c, a, b = product.out, product.a, product.b
    if c.dtype != a.dtype or c.dtype != b.dtype or c.dtype.name not in ("float32", "float64"):
        return None
    if _stride(c, -1) != 1:
        c, a, b = c.swapaxes(-1, -2), b.swapaxes(-1, -2), a.swapaxes(-1, -2)
    scale = np.ones((), c.dtype) if product.scale is None else product.scale

    def call(kernel: Callable[..., None], *sizes: int, work: Sequence[Array] = ()) -> tuple[Kernel, list[Any]]:
        numbers = np.array(sizes, np.int64)
        return kernel_of(kernel), [c, a, b, scale, *work, numbers, product.alpha, product.beta]

    (m, n), k, count = c.shape[-2:], a.shape[-1], math.prod(c.shape[:-2])
    if count == 1 and m * n * k <= _FEW:
        if _stride(b, -1) == 1:
            return call(small_product, m, n, k, _stride(a, -2), _stride(a, -1), _stride(b, -2), _stride(c, -2))
        if _stride(b, -2) == 1 and _stride(a, -1) == 1:
            return call(small_dots, m, n, k, _stride(a, -2), _stride(b, -1), _stride(c, -2), _stride(c, -1))
    leading = [found for array in (c, a, b) if (found := _leading(array))]
    if len(leading) < 3 or leading[0][1]:
        return None
    (ldc, _), (lda, trans_a), (ldb, trans_b) = leading
    begins = [begin for array in (c, a, b) for begin in starts(array)]
    if pays(m, n, k, c.itemsize):
        strides = [*((1, lda) if trans_a else (lda, 1)), *((1, ldb) if trans_b else (ldb, 1)), ldc]
        return call(packed_product, m, n, k, *strides, count, *begins, work=[workspace.array(c.dtype.name)])
    if blas is None:
        return None
    operations = count * (m * n * (2 * k - 1) + (m * n + m * k + k * n) * c.itemsize)
    parts = workspace.threads if operations >= WORTH_SHARING and count < workspace.threads else 1
    function, is_narrow = blas.gemm[c.dtype.name], blas.integer_bits == 32
    return call(blas_product, function, is_narrow, m, n, k, trans_a, trans_b, lda, ldb, ldc, count, parts, *begins)


_FEW = 4096
"""Up to how many multiplications a loop takes less time than a call of BLAS."""


def _leading(array: Array) -> tuple[int, bool] | None:
    """The distance of rows, or of columns where these are contiguous instead, and whether they are; None if neither."""
    sizes, steps = array.shape[-2:], (_stride(array, -2), _stride(array, -1))
    for rows, columns in ((0, 1), (1, 0)):
        least = max(sizes[columns], 1)
        if steps[columns] == 1 and (sizes[rows] == 1 or steps[rows] >= least):
            return max(steps[rows], least), columns == 0
    return None


def _stride(array: Array, axis: int) -> int:
    """The distance of neighbours along `axis`, in elements."""
    return int(array.strides[axis]) // int(array.itemsize)
