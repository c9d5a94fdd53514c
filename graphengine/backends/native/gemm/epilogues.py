"""Epilogues: what is made of a matrix product, place by place, as soon as a part of the product is there.

The kernel of a pointwise region that reads a product is called by the product's own kernel, for each block of C that is
ready, by the thread that computed it: while the block is in the cache, and without a meeting of the threads. It is an
ordinary kernel, and one kernel of products serves all of them: an epilogue is a table that says how the words of the
arguments change with the row and the column at which a block begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphengine.backends.native.compile.arguments import kind, overlap, word
from graphengine.backends.native.compile.loader import Request
from graphengine.ir.kernel import Kernel, Product, kernel_of, parameters
from graphengine.ir.op import Array, Op
from graphengine.ops.broadcast import Reduction
from graphengine.ops.fusion.fused import Fused
from graphengine.ops.fusion.loops import pointwise_loops
from graphengine.ops.kernels.layout import merged

if TYPE_CHECKING:  # the names that kernels use, which only machine code knows
    from graphengine.backends.native.llvm.intrinsics import address, call

__all__ = ["NO_EPILOGUE", "RUN_BLOCK", "Epilogue", "find_epilogue"]


def run_block(corner: int, row: int, rows: int, column: int, columns: int, table: Array, words: Array) -> None:
    """Call the kernel of an epilogue on the block of C that begins at `row` and `column`, whose address is `corner`.

    The table gives the kernel, how many words it takes, and which of them are `corner`, `rows` and `columns`. Then, for
    each word: what it is at the first place of C, and by how much more from row to row and from column to column. C is
    found by `corner` and not by its own address: so the compiler sees that the product's memory is written.
    """
    for place in range(table[1]):
        words[place] = table[3 * place + 5] + row * table[3 * place + 6] + column * table[3 * place + 7]
    words[table[2]] = corner
    words[table[3]] = rows
    words[table[4]] = columns
    call(table[0], address(words), 0, 1)


RUN_BLOCK: Request = (kernel_of(run_block), ("int", "int", "int", "int", "int", "int64*", "int64*"))

_LINE = 8
"""Words to a cache line, as the intrinsic `finish` has it. No two threads write to the same."""

NO_EPILOGUE: Array = np.zeros(_LINE, np.int64)
"""What a product is given in the place of an epilogue if it has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """A kernel that a product calls on blocks of C. `words` are its arguments for all of C, each with its steps.

    `corner`, `rows` and `columns` say which of them is C, and which are the sizes of a block.
    """

    request: Request
    words: tuple[tuple[int, ...], ...]
    corner: int
    rows: int
    columns: int

    def array(self, found: Mapping[Request, int], threads: int) -> Array:
        """What products take: the address of `run_block` and, for each thread, a line of its arguments.

        The table and the words that `run_block` is given stand behind.
        """
        count = len(self.words)
        table = [found[self.request], count, self.corner, self.rows, self.columns, *np.ravel(self.words)]
        own, shared = _lines(count), _lines(len(table))
        start = _LINE * (1 + threads)
        array = _aligned(start + shared + own * threads)
        array[0] = found[RUN_BLOCK]
        array[start : start + len(table)] = table
        for rank in range(threads):
            line = _LINE * (1 + rank)
            array[line + 5] = array[start:].ctypes.data
            array[line + 6] = array[start + shared + own * rank :].ctypes.data
        return array


def find_epilogue(product: Sequence[Any], op: Op, out: Any, operands: Sequence[Array]) -> Epilogue | None:
    """The epilogue that computes `op` where a product, given by its arguments, is computed; None if there is none.

    The op has to be pointwise, and to read the matrix C place by place as the product writes it. What it writes may be
    C, but nothing that the product reads: other threads are still reading that.
    """
    c, *read = product[:4]  # a stack of matrices: only if it is of one can all of it be a matrix of the op
    outs = out if isinstance(out, tuple) else (out,)
    if outs[0].size != c.size or min(c.shape[2:]) < _LEAST or not _is_pointwise(op):
        return None
    if any(overlap([written, other]) for written in outs for other in read):
        return None
    matrices = _matrices(c[0, 0], [*outs, *operands], outs[0].shape)
    blocks = [matrix[:_ROWS, :_COLUMNS] for matrix in matrices or ()]
    loops = _loops(op, blocks[: len(outs)], blocks[len(outs) :]) if blocks else None
    return None if loops is None else _epilogue(c[0, 0], *loops)


_ROWS, _COLUMNS, _LEAST = 2, 3, 4
"""The sizes of the block for which a kernel is made, any two that differ; and those that C has at least, so that the
rows of a block are not merged to one."""


def _is_pointwise(op: Op) -> bool:
    """Whether an op is computed place by place, so that its operands broadcast to its value."""
    if isinstance(op, Fused):
        return not any(isinstance(node.op, Reduction) for node in op.region.outputs)
    return type(op).scalar is not Op.scalar and type(op).loops is Op.loops  # or it would be computed by these


def _matrices(c: Array, arrays: Sequence[Array], space: tuple[int, ...]) -> list[Array] | None:
    """The arrays as matrices of the shape of `c`, one of which is `c` itself; None if they cannot be seen so."""
    rows = [merged(np.broadcast_to(array, space)) for array in arrays]
    matrices = [matrix for matrix in rows if matrix is not None]
    if len(matrices) < len(rows):
        return None
    for seen in (matrices, [matrix.T for matrix in matrices]):
        if any(_is_same(matrix, c) for matrix in seen):
            return seen
    return None


def _is_same(x: Array, y: Array) -> bool:
    """Whether two arrays have the same memory in the same order."""
    return (x.ctypes.data, x.shape, x.strides, x.dtype) == (y.ctypes.data, y.shape, y.strides, y.dtype)


def _loops(op: Op, outs: Sequence[Array], operands: Sequence[Array]) -> tuple[Kernel, Sequence[Any]] | None:
    """The one kernel that computes a pointwise op on blocks, and its arguments."""
    loops = op.loops(tuple(outs), *operands) if isinstance(op, Fused) else pointwise_loops(op, outs[0], operands)
    if not loops:
        return None
    (call,) = loops
    assert not isinstance(call, Product)  # it is pointwise
    function, arguments = call
    return function if isinstance(function, Kernel) else kernel_of(function), arguments


def _epilogue(c: Array, kernel: Kernel, arguments: Sequence[Any]) -> Epilogue | None:
    """The epilogue of a kernel whose arguments are blocks, if its outer loop is over the rows of C.

    None of the arrays but C, place by place, may share memory with C.
    """
    arrays = [as_strided(block, c.shape, block.strides) for block in arguments if isinstance(block, np.ndarray)]
    corner = next((place for place, array in enumerate(arrays) if _is_same(array, c)), None)
    sizes = dict(zip(parameters(kernel), arguments, strict=False))
    if corner is None or overlap(arrays) or (sizes["n0"], sizes["n1"]) != (_ROWS, _COLUMNS):
        return None
    steps = [array.strides for array in arrays] + [(0, 0)] * (len(arguments) - len(arrays))
    words = [(word(argument), *step) for argument, step in zip(arguments, steps, strict=True)]
    names = parameters(kernel)
    return Epilogue((kernel, tuple(map(kind, arguments))), tuple(words), corner, names.index("n0"), names.index("n1"))


def _lines(words: int) -> int:
    """So many words, up to a whole number of cache lines."""
    return -(-words // _LINE) * _LINE


def _aligned(words: int) -> Array:
    """So many words that are 0, from the beginning of a cache line on."""
    block = np.zeros(words + _LINE, np.int64)
    start = -block.ctypes.data // block.itemsize % _LINE
    return block[start : start + words]
