"""The innermost part of a matrix product, written as instructions: a tile of C that stays in registers.

Its columns are whole vectors, its rows are few, and all of it is summed up over the depth of the product before any of
it is written (Goto and van de Geijn 2008; Van Zee and van de Geijn 2015). Loops in Python, which LLVM would have to
find this form for, do not reach it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from graphengine.backends.native.gemm import tiles
from graphengine.backends.native.gemm.tiles import SHORT_TILE_ROWS, TILE_ROWS, TILE_VECTORS
from graphengine.backends.native.llvm.formula import declared
from graphengine.backends.native.llvm.intrinsics import Typed, intrinsic
from graphengine.backends.native.llvm.machine import vector_bytes

_WORD, _INT, _BIT = ir.IntType(64), ir.IntType(32), ir.IntType(1)


@intrinsic
def lanes(x: Any) -> Typed:
    """How many numbers of the dtype of `x` are a vector."""
    return types.int64(x), lambda *_: _WORD(_lanes(x.dtype))


@intrinsic
def transpose(out: Any, out_row: Any, x: Any, x_row: Any) -> Typed:
    """out[i, j] = x[j, i] for a square of as many rows as a vector has lanes; rows are contiguous."""

    def write(
        _: Any, builder: ir.IRBuilder, to: ir.Value, to_row: ir.Value, source: ir.Value, source_row: ir.Value
    ) -> None:
        count, vector = _lanes(x.dtype), _vector(source, x.dtype)
        rows = [_load(builder, source, builder.mul(_WORD(row), source_row), vector) for row in range(count)]
        half = count // 2
        while half:  # squares of this size change places across the diagonal, then smaller ones within each
            above = [count + (lane ^ half) if lane & half else lane for lane in range(count)]
            below = [count + lane if lane & half else lane | half for lane in range(count)]
            for row in range(count):
                if not row & half:
                    pair = rows[row], rows[row | half]
                    rows[row], rows[row | half] = (_chosen(builder, *pair, lanes) for lanes in (above, below))
            half //= 2
        for number, row in enumerate(rows):
            pointer = _vector_at(builder, to, builder.mul(_WORD(number), to_row), vector)
            builder.store(row, pointer, align=_bytes(vector.element))

    return types.none(out, types.int64, x, types.int64), write


def _tile_of(height: int) -> Any:
    """tile(c, a, b, k, a_row, a_column, b_row, c_row, rows, columns, alpha, beta): C = alpha A B + beta C.

    C is the first rows and columns of a tile of so many rows. The rows of B and of C are contiguous. All columns of B
    are read; C is read only if beta is not 0.
    """

    def product(c: Any, *_: Any) -> Typed:
        def write(_: Any, builder: ir.IRBuilder, *values: ir.Value) -> None:
            _Tile(builder, _vector(values[0], c.dtype), height, values).emit()

        return types.none(c, c, c, *[types.int64] * 7, c.dtype, c.dtype), write

    return intrinsic(product)


tile, short_tile = _tile_of(TILE_ROWS), _tile_of(SHORT_TILE_ROWS)

MICROKERNEL: dict[str, Any] = {
    "lanes": lanes,
    "transpose": transpose,
    "tile": tile,
    "short_tile": short_tile,
    **{name: getattr(tiles, name) for name in tiles.CONSTANTS},
}
"""By name."""


class _Tile:
    """The code of one tile."""

    def __init__(self, builder: ir.IRBuilder, vector: ir.VectorType, height: int, values: Any) -> None:
        self._builder, self._vector, self._height = builder, vector, height
        self._c, self._a, self._b, self._k, self._a_row, self._a_column, *rest = values
        self._b_row, self._c_row, self._rows, self._columns, self._alpha, self._beta = rest
        mask, pointer = ir.VectorType(_BIT, vector.count), vector.as_pointer()
        form = f"v{vector.count}f{8 * _bytes(vector.element)}"
        self._fma = declared(builder, f"llvm.fma.{form}", vector, [vector] * 3)
        self._read = declared(builder, f"llvm.masked.load.{form}.p0", vector, [pointer, _INT, mask, vector])
        self._write = declared(builder, f"llvm.masked.store.{form}.p0", ir.VoidType(), [vector, pointer, _INT, mask])

    def emit(self) -> None:
        """All of it: the sums, then what is made of them."""
        self._fetch()
        sums = self._sums()
        builder, count = self._builder, self._vector.count
        lanes = ir.Constant(ir.VectorType(_WORD, count), list(range(count)))
        masks = [
            builder.icmp_signed("<", lanes, _spread(builder, builder.sub(self._columns, _WORD(number * count)), count))
            for number in range(TILE_VECTORS)
        ]
        for row in range(self._height):
            with builder.if_then(builder.icmp_signed("<", _WORD(row), self._rows)):
                for number, mask in enumerate(masks):
                    place = builder.add(builder.mul(_WORD(row), self._c_row), _WORD(number * count))
                    self._finish(sums[row][number], builder.gep(self._c, [place]), mask)

    def _fetch(self) -> None:
        """Ask for the memory of C, which is needed only after the sums."""
        builder = self._builder
        pointer = ir.IntType(8).as_pointer()
        prefetch = declared(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, *[_INT] * 3])
        for row in range(self._height):
            for number in range(TILE_VECTORS):
                offset = builder.add(builder.mul(_WORD(row), self._c_row), _WORD(number * self._vector.count))
                place = builder.bitcast(builder.gep(self._c, [offset]), pointer)
                builder.call(prefetch, [place, _INT(1), _INT(3), _INT(1)])  # to be written, kept near, data

    def _sums(self) -> list[list[ir.Value]]:
        """A B by a loop over the columns of A. Rows that there are not are the last one once more, and not written."""
        builder, width = self._builder, self._vector.count
        last = builder.sub(self._rows, _WORD(1))
        starts = []
        for row in range(self._height):
            there = builder.select(builder.icmp_signed("<", _WORD(row), self._rows), _WORD(row), last)
            starts.append(builder.gep(self._a, [builder.mul(there, self._a_row)]))
        before = builder.block
        head, body, done = (builder.append_basic_block(name) for name in ("depth", "depth.body", "depth.done"))
        builder.branch(head)
        builder.position_at_end(head)
        count, a_offset, b_offset = (builder.phi(_WORD) for _ in range(3))
        sums = [[builder.phi(self._vector) for _ in range(TILE_VECTORS)] for _ in range(self._height)]
        builder.cbranch(builder.icmp_signed("<", count, self._k), body, done)
        builder.position_at_end(body)
        row_of_b = [
            _load(builder, self._b, builder.add(b_offset, _WORD(number * width)), self._vector)
            for number in range(TILE_VECTORS)
        ]
        new = []
        for start, line in zip(starts, sums, strict=True):
            number_of_a = _spread(builder, builder.load(builder.gep(start, [a_offset])), width)
            new.append([builder.call(self._fma, [number_of_a, b, y]) for b, y in zip(row_of_b, line, strict=True)])
        steps = [(count, _WORD(1)), (a_offset, self._a_column), (b_offset, self._b_row)]
        for variable, step in steps:
            variable.add_incoming(_WORD(0), before)
            variable.add_incoming(builder.add(variable, step), body)
        zero = ir.Constant(self._vector, [0.0] * width)
        for line, new_line in zip(sums, new, strict=True):
            for y, new_y in zip(line, new_line, strict=True):
                y.add_incoming(zero, before)
                y.add_incoming(new_y, body)
        builder.branch(head)
        builder.position_at_end(done)
        return sums

    def _finish(self, total: ir.Value, place: ir.Value, mask: ir.Value) -> None:
        """Write alpha * total + beta * C at `place`."""
        builder, width = self._builder, self._vector.count
        place = builder.bitcast(place, self._vector.as_pointer())
        align = _INT(_bytes(self._vector.element))
        scaled = builder.fmul(_spread(builder, self._alpha, width), total)
        is_kept = builder.fcmp_unordered("!=", self._beta, ir.Constant(self._beta.type, 0.0))
        with builder.if_else(is_kept) as (if_kept, if_not):
            with if_kept:
                old = builder.call(self._read, [place, align, mask, ir.Constant(self._vector, [0.0] * width)])
                added = builder.call(self._fma, [_spread(builder, self._beta, width), old, scaled])
                kept_end = builder.block
            with if_not:
                end = builder.block
        value = builder.phi(self._vector)
        value.add_incoming(added, kept_end)
        value.add_incoming(scaled, end)
        builder.call(self._write, [value, place, align, mask])


def _lanes(dtype: Any) -> int:
    return vector_bytes() * 8 // int(dtype.bitwidth)


def _vector(array: ir.Value, dtype: Any) -> ir.VectorType:
    return ir.VectorType(array.type.pointee, _lanes(dtype))


def _bytes(number: ir.Type) -> int:
    return 4 if number == ir.FloatType() else 8


def _load(builder: ir.IRBuilder, array: ir.Value, offset: ir.Value, vector: ir.VectorType) -> ir.Value:
    return builder.load(_vector_at(builder, array, offset, vector), align=_bytes(vector.element))


def _vector_at(builder: ir.IRBuilder, array: ir.Value, offset: ir.Value, vector: ir.VectorType) -> ir.Value:
    return builder.bitcast(builder.gep(array, [offset]), vector.as_pointer())


def _spread(builder: ir.IRBuilder, number: ir.Value, count: int) -> ir.Value:
    """The vector that holds one number everywhere."""
    anything = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
    return _chosen(builder, builder.insert_element(anything, number, _INT(0)), anything, [0] * count)


def _chosen(builder: ir.IRBuilder, first: ir.Value, second: ir.Value, indices: list[int]) -> ir.Value:
    """The elements at `indices` of two vectors one behind the other."""
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_INT, len(indices)), indices))
