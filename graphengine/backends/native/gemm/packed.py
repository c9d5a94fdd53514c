"""Matrix products by tiles in registers, of operands packed so that the tiles read memory in order.

B is packed in panels of the width of a tile; A is read where it is, or packed tile by tile where its columns are
contiguous instead of its rows. Parts of both stay in the second cache while they are used (Goto and van de Geijn 2008).
Each element of C is added up in the same order whatever the threads are, so that their number changes no bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphengine.backends.native.kernel import Read
from graphengine.ir.types import Array

if TYPE_CHECKING:  # the names that kernels use, which only machine code knows
    from graphengine.backends.native.gemm.microkernel import lanes, short_tile, tile, transpose
    from graphengine.backends.native.gemm.tiles import DEPTH, SHORT_TILE_ROWS, SLAB, TILE_ROWS, TILE_VECTORS, WIDTH
    from graphengine.backends.native.llvm.intrinsics import behind


def packed_product(
    c: Array, a: Read, b: Read, scale: Read, work: Array, sizes: Read, alpha: float, beta: float, rank: int, ranks: int
) -> None:
    """C = alpha A B + beta C: products dealt out to the threads if there are as many; else their panels, or rows."""
    m, n, k = sizes[0], sizes[1], sizes[2]
    a_row, a_column, b_row, b_column, c_row = sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]
    count, begins = sizes[8], behind(sizes, 9)
    begin, stop = 0, count
    scaled = alpha * scale[0]
    columns, rows, few = TILE_VECTORS * lanes(c), TILE_ROWS, SHORT_TILE_ROWS
    panels = (n + columns - 1) // columns
    first, last, top, end = 0, panels, 0, m
    if stop >= ranks:
        begin, stop = stop * rank // ranks, stop * (rank + 1) // ranks
    elif panels >= 2 * ranks and (a_row != 1 or m < n):  # or each thread would pack all of A
        first, last = panels * rank // ranks, panels * (rank + 1) // ranks
    else:
        tiles = (m + rows - 1) // rows
        top, end = tiles * rank // ranks * rows, tiles * (rank + 1) // ranks * rows
        end = end if end < m else m
    packed = behind(work, rank * DEPTH * (WIDTH + SLAB))
    slab = behind(packed, DEPTH * WIDTH)
    at_once = WIDTH // columns
    for stack in range(begin, stop):
        c_part, a_part = behind(c, begins[stack]), behind(a, begins[count + stack])
        b_part = behind(b, begins[2 * count + stack])
        for left in range(first, last, at_once):
            right = left + at_once if left + at_once < last else last
            for p0 in range(0, k, DEPTH):
                deep = k - p0 if k - p0 < DEPTH else DEPTH
                for number in range(left, right):
                    wide = n - number * columns if n - number * columns < columns else columns
                    panel = behind(packed, (number - left) * columns * deep)
                    source = behind(b_part, p0 * b_row + number * columns * b_column)
                    done = 0
                    if wide == columns and b_column == 1:
                        done = deep
                        for p in range(deep):
                            for j in range(columns):
                                panel[p * columns + j] = source[p * b_row + j]
                    elif wide == columns:
                        square = lanes(c)
                        done = deep // square * square
                        for j in range(0, columns, square):
                            for p in range(0, done, square):
                                transpose(
                                    behind(panel, p * columns + j), columns, behind(source, j * b_column + p), b_column
                                )
                    for p in range(done, deep):
                        for j in range(columns):
                            panel[p * columns + j] = source[p * b_row + j * b_column] if j < wide else 0.0
                beta_p = beta if p0 == 0 else 1.0
                for i0 in range(top, end, SLAB):
                    high = end - i0 if end - i0 < SLAB else SLAB
                    full = high // rows
                    if high - full * rows == 2 * few - rows and full > 0:
                        full -= 1  # two short tiles take less time than a full one and a short one
                    rest = high - full * rows
                    rows_of_a = behind(a_part, i0 * a_row + p0 * a_column)
                    a_next, row, column, rest_row, rest_column = rows * a_row, a_row, a_column, a_row, a_column
                    if a_row == 1 and right - left > 1:
                        for p in range(deep):
                            for number in range(full):
                                for i in range(rows):
                                    slab[(number * deep + p) * rows + i] = rows_of_a[p * a_column + number * rows + i]
                            for i in range(rest):
                                slab[full * deep * rows + p * rest + i] = rows_of_a[p * a_column + full * rows + i]
                        rows_of_a = slab
                        a_next, row, column, rest_row, rest_column = rows * deep, 1, rows, 1, rest
                    for number in range(left, right):
                        j0 = number * columns
                        wide = n - j0 if n - j0 < columns else columns
                        panel = behind(packed, (number - left) * columns * deep)
                        corner = behind(c_part, i0 * c_row + j0)
                        for i in range(full):
                            c_tile, a_tile = behind(corner, i * rows * c_row), behind(rows_of_a, i * a_next)
                            tile(c_tile, a_tile, panel, deep, row, column, columns, c_row, rows, wide, scaled, beta_p)
                        c_tile, a_tile = behind(corner, full * rows * c_row), behind(rows_of_a, full * a_next)
                        for i in range(0, rest, few):
                            tall = rest - i if rest - i < few else few
                            c_i, a_i = behind(c_tile, i * c_row), behind(a_tile, i * rest_row)
                            short_tile(
                                c_i, a_i, panel, deep, rest_row, rest_column, columns, c_row, tall, wide, scaled, beta_p
                            )
