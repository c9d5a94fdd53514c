"""How products are cut into tiles and packed, and whether that pays."""

from __future__ import annotations

from graphengine.backends.bound import allocate
from graphengine.backends.native.llvm.machine import vector_bytes
from graphengine.ir.types import Array

CONSTANTS = ("TILE_ROWS", "SHORT_TILE_ROWS", "TILE_VECTORS", "DEPTH", "WIDTH", "SLAB")
"""Those that kernels use by name."""

TILE_ROWS, SHORT_TILE_ROWS, TILE_VECTORS = 6, 4, 4
"""Of a tile: rows, those of a short one, by which the last rows of a matrix are computed, and vectors to a row. The
sums take 24 of 32 registers so, and each number of A serves four times."""

DEPTH, WIDTH, SLAB = 384, 512, 96
"""Of what is packed at a time: rows of B, columns of B, rows of A."""


class Workspace:
    """Where the products of one program pack, one after the other: a part for each thread, allocated on first use."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._memory: Array | None = None

    def array(self, dtype: str) -> Array:
        """All parts, as elements of `dtype`."""
        if self._memory is None:
            self._memory = allocate(self.threads * DEPTH * (WIDTH + SLAB) * 8)
        return self._memory.view(dtype)


def pays(m: int, n: int, k: int, itemsize: int) -> bool:
    """Whether a product [m, k] @ [k, n] takes less time so than by BLAS.

    A panel that is not full takes the time of a full one, and to pack one takes some rows to pay.
    """
    if vector_bytes() < _MEASURED:
        return False
    columns = TILE_VECTORS * vector_bytes() // itemsize
    return m >= 24 and k >= 8 and 8 * n >= 7 * columns * -(-n // columns)


_MEASURED = 64
"""Bytes of the vectors with which this has been measured against OpenBLAS; with others, BLAS is called."""
