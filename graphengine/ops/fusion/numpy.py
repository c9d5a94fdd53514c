"""The NumPy kernel of a fused region: block by block, so that what lies between its ops stays in the cache.

A region that fits there anyway is one block, and its calls are those of its ops, one after the other. Of a larger one,
all ops run on a part of the space before any runs on the next part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, product
from types import MappingProxyType
from typing import Any

import numpy as np

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.op import Array, Call
from graphengine.ir.types import DType, TensorType, check_axes
from graphengine.ops.broadcast import Reduction
from graphengine.ops.compare import maximum_into, minimum_into
from graphengine.ops.fusion.parts import as_blocks, likely_parts
from graphengine.ops.fusion.registers import Registers, width
from graphengine.ops.sums import add_exactly, add_rest

__all__ = ["REDUCTIONS", "Blocks"]

BLOCK_BYTES = 2**19
"""What a block touches, with operands, results and registers: half of a small second cache.

Smaller ones take longer: NumPy takes as long to begin with a block as to compute some thousand numbers.
"""

_LINE = 64
"""Registers start at multiples of this, a cache line."""

REDUCTIONS: Mapping[str, tuple[np.ufunc, Callable[..., object]]] = MappingProxyType(
    {
        "sum": (np.add, np.add),
        "mean": (np.add, np.add),
        "max": (np.maximum, maximum_into),
        "min": (np.minimum, minimum_into),
    }
)
"""By kind: the ufunc that reduces a block, and what makes one number of those of two blocks."""

Index = tuple[slice, ...]


class Blocks:
    """The blocks of a region: a body as in `Fused`, all of whose dims are sizes."""

    def __init__(self, body: Graph) -> None:
        self._body = body
        self._members = [node for node in body.nodes if not isinstance(node.op, Input | Constant)]
        self._inputs = body.inputs
        self._constants = {node: node.op.value for node in body.nodes if isinstance(node.op, Constant)}
        self._registers = Registers(body, self._members)
        space = next(node.type.static_shape for node in self._members if not isinstance(node.op, Reduction))
        outside = [node for node in (*self._inputs, *body.outputs.values()) if node.shape == space]
        touched = sum(self._registers.widths) + sum(width(node.type) for node in outside)
        self._indices = list(_indices(space, BLOCK_BYTES // touched))
        sizes = [-(-_places(self._indices[0]) * wide // _LINE) * _LINE for wide in self._registers.widths]
        self._ends = [0, *accumulate(sizes)]
        self._parts = likely_parts(body, space) if len(self._indices) == 1 else []
        self._sums = [node for node in body.outputs.values() if _rounds(node)] if len(self._indices) > 1 else []

    @property
    def scratch_bytes(self) -> int:
        """The size of the registers together, of the operands that may be copied, and of what sums lose."""
        return self._ends[-1] + sum(node.type.nbytes for node in self._parts) + 3 * self._sums_bytes

    @property
    def _sums_bytes(self) -> int:
        return sum(node.type.nbytes for node in self._sums)

    def calls(self, outs: Sequence[Array], operands: Sequence[Array], scratch: Array) -> Iterator[Call]:
        """The calls that compute `outs`; `scratch` is a block of `scratch_bytes` bytes."""
        memory = [scratch[start:end] for start, end in pairwise(self._ends)]
        results = dict(zip(self._body.outputs.values(), outs, strict=True))
        given = dict(zip(self._inputs, operands, strict=True))
        if len(self._indices) == 1:
            if self._parts:
                blocks, copy = as_blocks({node: given[node] for node in self._parts}, scratch[self._ends[-1] :])
                yield from copy
                given |= blocks
            yield from self._at_once(results, given, memory)
        else:
            given |= {node: array for node, array in results.items() if not isinstance(node.op, Reduction)}
            rests = self._rests(scratch[self._ends[-1] :])
            yield from [(rest.fill, (0,)) for rest, *_ in rests.values()]
            for index in self._indices:
                arrays = {node: _part(array, index) for node, array in given.items()} | self._constants
                block = _Block(index, self._registers, memory, arrays)
                for node in self._members:
                    reduces = isinstance(node.op, Reduction)
                    yield from block.reduce(node, results[node], rests.get(node, ())) if reduces else block.run(node)
            for node, (rest, work, _) in rests.items():
                is_none = _as(work.reshape(-1).view(np.uint8), work.shape, "bool")
                yield add_rest, (results[node], rest, is_none)
        yield from _divisions(results)

    def _rests(self, memory: Array) -> dict[Node, Sequence[Array]]:
        """For each sum over blocks an array for what is lost by rounding, and two for work."""
        rests: dict[Node, Sequence[Array]] = {}
        start = 0
        for node in sorted(self._sums, key=lambda node: -width(node.type)):
            ends = range(start, start + 4 * node.type.nbytes, node.type.nbytes)
            rests[node] = [_as(memory[place:], node.type.static_shape, node.dtype) for place in ends[:3]]
            start = ends[3]
        return rests

    def _at_once(
        self, results: Mapping[Node, Array], given: Mapping[Node, Array], memory: Sequence[Array]
    ) -> Iterator[Call]:
        """The calls where one block is all of the space: those of the ops."""
        arrays = {**given, **results, **self._constants}
        registers = self._registers
        for node in self._members:
            operands = [arrays[parent] for parent in node.parents]
            if isinstance(node.op, Reduction):
                (number,) = registers.work[node]
                parts = _elements(memory[number], node.dtype)
                yield node.op.reduce(REDUCTIONS[node.op.kind][0], operands[0], arrays[node], parts)
                continue
            if node not in arrays:
                arrays[node] = _as(memory[registers.of[node]], node.type.static_shape, node.dtype)
            work = zip(registers.work[node], registers.wanted[node], strict=True)
            scratch = [_as(memory[number], type_.static_shape, type_.dtype) for number, type_ in work]
            yield from node.op.calls(arrays[node], *operands, scratch=scratch)


class _Block:
    """The calls of one part of the space."""

    def __init__(self, index: Index, registers: Registers, memory: Sequence[Array], arrays: dict[Node, Array]) -> None:
        self._index = index
        self._registers = registers
        self._memory = memory
        self._arrays = arrays
        self._shape = tuple(part.stop - part.start for part in index)

    def run(self, node: Node) -> Sequence[Call]:
        """The calls of a pointwise node."""
        operands = [self._arrays[parent] for parent in node.parents]
        if node not in self._arrays:
            self._arrays[node] = self._register(self._registers.of[node], self._shape, node.dtype)
        out = self._arrays[node]
        if not out.size:
            return ()
        pairs = zip((node, *node.parents), (out, *operands), strict=True)
        types = node.op.scratch(*(TensorType(array.shape, other.dtype) for other, array in pairs))
        work = zip(self._registers.work[node], types, strict=True)
        scratch = [self._register(number, type_.static_shape, type_.dtype) for number, type_ in work]
        return node.op.calls(out, *operands, scratch=scratch)

    def reduce(self, node: Node, result: Array, rests: Sequence[Array]) -> Iterator[Call]:
        """The calls by which this block goes into a reduction: the first one's is written, others' are added to it.

        `rests` is for what is lost by rounding, with two arrays for work.
        """
        op, x = node.op, self._arrays[node.parents[0]]
        assert isinstance(op, Reduction)  # or it would be pointwise
        axes = check_axes(op.axis, x.ndim)
        kept = [slice(None) if place in axes else part for place, part in enumerate(self._index)]
        parts = [part for place, part in enumerate(kept) if op.keepdims or place not in axes]
        target = _view(result, parts)
        reduce, combine = REDUCTIONS[op.kind]
        (number,) = self._registers.work[node]
        memory = self._memory[number]
        if all(self._index[axis].start == 0 for axis in axes):
            yield op.reduce(reduce, x, target, _elements(memory, node.dtype))
            return
        share = _as(memory, target.shape, node.dtype)
        yield op.reduce(reduce, x, share, _elements(memory[share.nbytes :], node.dtype))
        if rests:
            yield add_exactly, (target, share, *(_view(rest, parts) for rest in rests))
        else:
            yield combine, (target, share, target)

    def _register(self, number: int, shape: tuple[int, ...], dtype: DType) -> Array:
        return _as(self._memory[number], shape, dtype)


def _elements(register: Array, dtype: DType) -> Sequence[Array]:
    """All of a register's bytes as one array."""
    return (register[: register.size // 8 * 8].view(dtype),)


def _as(register: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    """The first bytes of a register as an array."""
    return register[: math.prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)


def _indices(shape: tuple[int, ...], places: int) -> Iterator[Index]:
    """Parts of `shape` that have at most so many places, if that is not 0, in order of memory."""
    cut, inner = len(shape), 1
    while cut and inner * shape[cut - 1] <= places:
        cut -= 1
        inner *= shape[cut]
    if cut == 0 or 0 in shape:
        yield tuple(slice(0, size) for size in shape)
        return
    rows = max(1, places // inner)
    whole = [slice(0, size) for size in shape[cut:]]
    for place in product(*(range(size) for size in shape[: cut - 1])):
        for start in range(0, shape[cut - 1], rows):
            part = slice(start, min(start + rows, shape[cut - 1]))
            yield (*(slice(i, i + 1) for i in place), part, *whole)


def _places(index: Index) -> int:
    """How many elements a value of this part has at most: of an empty axis, one that is repeated there has one."""
    return math.prod(max(1, part.stop - part.start) for part in index)


def _part(array: Array, index: Index) -> Array:
    """The part of an array that broadcasts to the space, as it broadcasts to a part of that."""
    ahead = len(index) - array.ndim
    parts = [slice(None) if n == 1 else part for n, part in zip(array.shape, index[ahead:], strict=True)]
    return _view(array, parts)


def _view(array: Array, parts: Sequence[slice]) -> Array:
    """The part of an array, which is an array too where it has no axes."""
    key: tuple[Any, ...] = (..., *parts)
    view: Array = array[key]
    return view


def _rounds(node: Node) -> bool:
    """Whether a node is a sum of floats."""
    return node.op.kind in ("sum", "mean") and node.type.is_float


def _divisions(results: Mapping[Node, Array]) -> Iterator[Call]:
    """What makes means of sums."""
    for node, out in results.items():
        if node.op.kind == "mean":
            count = node.parents[0].type.size // max(1, node.type.size)
            yield np.divide, (out, np.array(count, out.dtype), out)
