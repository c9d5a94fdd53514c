"""The NumPy kernel of a region: block by block, so that what lies between its ops stays in the cache.

A region that fits in the cache is one block, and its calls are those of its ops, one after the other. In a larger one,
all ops run on one part of the space before any op runs on the next part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.op import Call
from graphengine.ir.types import Array, DType, TensorType, ValueType, check_axes
from graphengine.ops.broadcast import Reduction
from graphengine.ops.support.form_calls import maximum_into, minimum_into
from graphengine.ops.support.sums import add_exactly, add_rest

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
        self._cut = space, BLOCK_BYTES // touched  # what the blocks are, however many
        first = next(_indices(*self._cut))
        sizes = [-(-_places(first) * wide // _LINE) * _LINE for wide in self._registers.widths]
        self._ends = [0, *accumulate(sizes)]
        self._at_once = all(part.stop == size for part, size in zip(first, space, strict=True))
        self._parts = likely_parts(body, space) if self._at_once else []
        self._sums = [] if self._at_once else [node for node in body.outputs.values() if _rounds(node)]

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
        if self._at_once:
            if self._parts:
                blocks, copy = as_blocks({node: given[node] for node in self._parts}, scratch[self._ends[-1] :])
                yield from copy
                given |= blocks
            yield from self._together(results, given, memory)
        else:
            given |= {node: array for node, array in results.items() if not isinstance(node.op, Reduction)}
            rests = self._rests(scratch[self._ends[-1] :])
            yield from [(rest.fill, (0,)) for rest, *_ in rests.values()]
            for index in _indices(*self._cut):
                arrays = {node: _part(array, index) for node, array in given.items()} | self._constants
                block = _Block(index, self._registers, memory, arrays)
                for node in self._members:
                    reduces = isinstance(node.op, Reduction)
                    yield from block.reduce(node, results[node], rests.get(node, ())) if reduces else block.run(node)
            for node, (rest, work, _) in rests.items():
                is_none = _as(work.reshape(-1).view(np.uint8), work.shape, "bool")
                yield from add_rest(results[node], rest, is_none)
        yield from _divisions(results)

    def _rests(self, memory: Array) -> dict[Node, Sequence[Array]]:
        """For each sum over blocks an array for what is lost by rounding, and two for work."""
        rests: dict[Node, Sequence[Array]] = {}
        start = 0
        for node in sorted(self._sums, key=lambda node: -width(node.type)):
            ends = range(start, start + 4 * node.type.nbytes, node.type.nbytes)
            rests[node] = [_as(memory[start:], node.type.static_shape, node.dtype) for start in ends[:3]]
            start = ends[3]
        return rests

    def _together(
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
        kept = [slice(None) if axis in axes else part for axis, part in enumerate(self._index)]
        parts = [part for axis, part in enumerate(kept) if op.keepdims or axis not in axes]
        target = _view(result, parts)
        reduce, combine = REDUCTIONS[op.kind]
        (number,) = self._registers.work[node]
        memory = self._memory[number]
        if all(self._index[axis].start == 0 for axis in axes):
            yield op.reduce(reduce, x, target, _elements(memory, node.dtype))
            return
        share = _as(memory, target.shape, node.dtype)
        yield op.reduce(reduce, x, share, _elements(memory[-(-share.nbytes // 8) * 8 :], node.dtype))
        if rests:
            total, before, added = (_view(rest, parts) for rest in rests)
            yield from add_exactly(target, share, total, before, added)
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


def _indices(shape: tuple[int, ...], elements: int) -> Iterator[Index]:
    """Parts of `shape` that have at most so many elements, if that is not 0, in order of memory."""
    cut, inner = len(shape), 1
    while cut and inner * shape[cut - 1] <= elements:
        cut -= 1
        inner *= shape[cut]
    if cut == 0 or 0 in shape:
        yield tuple(slice(0, size) for size in shape)
        return
    rows = max(1, elements // inner)
    whole = [slice(0, size) for size in shape[cut:]]
    for ahead in _places_of(shape[: cut - 1]):
        for start in range(0, shape[cut - 1], rows):
            part = slice(start, min(start + rows, shape[cut - 1]))
            yield (*(slice(i, i + 1) for i in ahead), part, *whole)


def _places_of(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The indices of an array of this shape, in order of memory; `product` would list each axis first."""
    if not shape:
        yield ()
        return
    for first in range(shape[0]):
        yield from ((first, *rest) for rest in _places_of(shape[1:]))


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


def width(type_: ValueType) -> int:
    """The bytes of one element."""
    return np.dtype(type_.dtype).itemsize


class Registers:
    """The registers for a run of `members`, nodes of `body`, one after the other.

    A result of the body is written to its own array. A register has one element for each index, so it is enough for
    whatever an op wants as work memory: that is of the shape of its value, or of an operand.
    """

    def __init__(self, body: Graph, members: Sequence[Node]) -> None:
        self.widths: list[int] = []
        """The bytes of an element, by register."""
        self.of: dict[Node, int] = {}
        """The register of every value that is no result."""
        self.work: dict[Node, list[int]] = {}
        """The registers for the work memory of an op; of a reduction, for what it makes of one part of the space."""
        self.wanted: dict[Node, Sequence[ValueType]] = {}
        """The types of that work memory, where all of the space is computed at once."""
        self._free: dict[int, list[int]] = defaultdict(list)
        self._results = set(body.outputs.values())
        self._last_reader = {parent: node for node in members for parent in node.parents}
        for node in members:
            self._assign(node)

    def _assign(self, node: Node) -> None:
        dying = [parent for parent in dict.fromkeys(node.parents) if self._dies(parent, node)]
        wanted = (
            [node.type]
            if isinstance(node.op, Reduction)
            else node.op.scratch(node.type, *(parent.type for parent in node.parents))
        )
        self.wanted[node] = wanted
        self.work[node] = [self._take(width(type_)) for type_ in wanted]
        if node not in self._results:
            heir = next((parent for parent in dying if _may_take_over(node, parent)), None)
            self.of[node] = self._take(width(node.type)) if heir is None else self.of[heir]
            dying = [parent for parent in dying if parent is not heir]
        for number in (*self.work[node], *(self.of[parent] for parent in dying)):
            self._free[self.widths[number]].append(number)

    def _dies(self, parent: Node, node: Node) -> bool:
        return parent in self.of and self._last_reader[parent] is node

    def _take(self, nbytes: int) -> int:
        if self._free[nbytes]:
            return self._free[nbytes].pop()
        self.widths.append(nbytes)
        return len(self.widths) - 1


def _may_take_over(node: Node, parent: Node) -> bool:
    """Whether the value of `node` may be written over that of `parent`, which nobody reads afterwards."""
    allowed = node.op.may_overwrite()
    indices = [index for index, other in enumerate(node.parents) if other is parent]
    return parent.type == node.type and all(index in allowed for index in indices)


LONG_ROW = 256
"""From so many elements in a row on, its own call is no loss."""


def likely_parts(body: Graph, space: tuple[int, ...]) -> list[Node]:
    """The inputs of a region that may be such parts: several of one type that no op reads together with others.

    What an op reads beside another operand is as a rule a block already, a residual or a state.
    """
    beside = {parent for node in body.nodes if len(node.parents) > 1 for parent in node.parents}
    alone = [node for node in body.inputs if node.shape == space and node not in beside]
    found = [node for node in alone if node.dtype == alone[0].dtype]
    return found if len(found) > 1 and len(space) > 1 and space[-1] < LONG_ROW else []


def as_blocks(parts: Mapping[Node, Array], memory: Array) -> tuple[dict[Node, Array], Sequence[Call]]:
    """Blocks in `memory` that get the values of `parts`, and the call that copies them; none if they lie otherwise."""
    if any(array.flags.c_contiguous for array in parts.values()):
        return {}, ()
    addresses = {node: array.__array_interface__["data"][0] for node, array in parts.items()}
    nodes = sorted(parts, key=addresses.__getitem__)
    whole = _together([parts[node] for node in nodes], [addresses[node] for node in nodes])
    if whole is None:
        return {}, ()
    blocks = memory[: whole.nbytes].view(whole.dtype).reshape(whole.shape)
    return dict(zip(nodes, blocks, strict=True)), [(np.copyto, (blocks, whole))]


def _together(arrays: Sequence[Array], addresses: Sequence[int]) -> Array | None:
    """Arrays at equal distances in the memory of another one, as one view of that."""
    first, base, steps = arrays[0], arrays[0].base, {after - before for before, after in pairwise(addresses)}
    if len(steps) > 1 or not isinstance(base, np.ndarray) or not base.flags.c_contiguous:
        return None
    if any(array.base is not base or array.strides != first.strides for array in arrays):
        return None
    start = addresses[0] - base.__array_interface__["data"][0]
    return np.ndarray((len(arrays), *first.shape), first.dtype, base.data, start, (*steps, *first.strides))
