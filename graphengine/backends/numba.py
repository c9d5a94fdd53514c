"""The backend that compiles: ops that give loops run as machine code, without Python in between; others by NumPy.

Machine code is made by numba once for every kernel and dtype, not for a program or a size, and stored on disk. A
program is a table of calls, and a run of calls that all are machine code is one call from Python.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NoReturn

import numpy as np

from graphengine.backends.backend import KernelUse
from graphengine.backends.bound import BoundProgram, numpy_use
from graphengine.backends.native.blas import find_blas
from graphengine.backends.native.code import Request, addresses
from graphengine.backends.native.packed import Workspace
from graphengine.backends.native.products import product_calls
from graphengine.backends.native.runtime import ROW
from graphengine.backends.native.team import GIVE_WAY, Job, team
from graphengine.errors import ExecutionError
from graphengine.ir.kernel import Kernel, LoopCall, Product, is_shared, kernel_of, parameters
from graphengine.ir.op import Array, Call, Op
from graphengine.ops.fused_loops import pointwise_loops
from graphengine.schedule.program import Program

__all__ = ["NumbaBackend"]

WORTH_SHARING = 650_000
"""From how many FLOPs and bytes together the threads share a kernel: what takes one of them some 5 microseconds.

The MLP 64-128-64-10 at batch 32 takes 29 us by one thread, and 48 where its smaller products are shared.
"""

_FAULT, _FAULTY = 8, 16  # words of `sync`, as runtime.py has them


class NumbaBackend:
    """Runs kernels as machine code, on the slots of one arena, by all cores where that pays."""

    name = "numba"

    def load(self, program: Program, leaves: Mapping[str, Array]) -> NativeProgram:
        """Allocate the arena, bind every instruction to its arrays, and compile what is not stored."""
        return NativeProgram(program, leaves)


@dataclass(frozen=True, slots=True)
class _Native:
    """A call of machine code, and NumPy's calls, which say what is wrong if it refuses."""

    request: Request
    arguments: tuple[Any, ...]
    shared: bool
    reference: Callable[[], Sequence[Call]]


class NativeProgram:
    """A program bound to arrays, with its calls of machine code in a table."""

    def __init__(self, program: Program, leaves: Mapping[str, Array]) -> None:
        self._team = team()
        self._sync = np.zeros(24, np.int64)
        self._workspace = Workspace(1 + self._team.workers)
        self._bound = BoundProgram(program, leaves, self._bind)
        self.arena = self._bound.arena
        self.results = self._bound.results
        self._shared = [
            isinstance(call, _Native) and call.shared and owner.flops + owner.bytes_moved >= WORTH_SHARING
            for call, owner in zip(self._bound.calls, self._bound.owners, strict=True)
        ]
        self._table = self._tabulate()
        self._pieces: dict[tuple[int, int], list[_Piece]] = {}

    @property
    def kernels(self) -> tuple[KernelUse, ...]:
        """Kernels of machine code, with their text, and those of NumPy where an op has no loops."""
        return self._bound.uses(_use)

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`; overflow and 0/0 give inf and NaN without a warning."""
        pieces = self._pieces.get((start, stop))
        if pieces is None:
            pieces = self._pieces[start, stop] = list(self._cut(*self._bound.calls_of(start, stop)))
        for piece in pieces:
            if piece.job is None:
                self._bound.run(piece.first, piece.last)
            else:
                self._team.run(piece.job, piece.shared)
                if self._sync[_FAULTY]:
                    self._refuse(piece.first + int(self._sync[_FAULTY]) - 1)

    def _bind(self, op: Op, out: Any, operands: Sequence[Array], scratch: Sequence[Array]) -> list[_Native | Call]:
        """The calls of an op: machine code if it gives loops, and NumPy's kernel if not."""
        loops = op.loops(out, *operands, scratch=scratch)
        if loops is None and type(op).scalar is not Op.scalar:
            loops = pointwise_loops(op, out, operands)
        calls = None if loops is None else _kernels(loops, self._workspace)
        reference = partial(op.calls, out, *operands, scratch=scratch)
        if calls is None:
            return list(reference())
        return [self._native(kernel, arguments, reference) for kernel, arguments in calls]

    def _native(self, kernel: Kernel, arguments: Sequence[Any], reference: Callable[[], Sequence[Call]]) -> _Native:
        names = parameters(kernel)
        if "fault" in names:
            arguments = [*arguments, self._sync[_FAULT : _FAULT + 1]]
        if not kernel.may_overlap and _overlap(arguments):
            kernel = replace(kernel, may_overlap=True)
        request = kernel, tuple(map(_kind, arguments))
        return _Native(request, tuple(arguments), is_shared(kernel), reference)

    def _tabulate(self) -> Array:
        """A row of the runtime's table for each call; those of NumPy's kernels stay empty."""
        native = {place: call for place, call in enumerate(self._bound.calls) if isinstance(call, _Native)}
        found = addresses(call.request for call in native.values())
        words = [[_word(argument) for argument in call.arguments] for call in native.values()]
        self._words = np.array([word for row in words for word in row], np.int64)
        offsets = np.cumsum([0, *map(len, words)])
        table = np.zeros((len(self._bound.calls), ROW), np.int64)
        for (place, call), offset in zip(native.items(), offsets, strict=False):
            meet = any(self._shared[place : place + 2])
            table[place] = found[call.request], self._words.ctypes.data + 8 * offset, self._shared[place], meet
        return table

    def _cut(self, first: int, last: int) -> Iterator[_Piece]:
        """The calls from `first` up to `last` in runs of machine code and runs of NumPy's kernels."""
        for native, run in groupby(range(first, last), key=lambda place: isinstance(self._bound.calls[place], _Native)):
            places = list(run)
            begin, end = places[0], places[-1] + 1
            yield _Piece(begin, end, self._job(begin, end) if native else None, sum(self._shared[begin:end]) > 0)

    def _job(self, first: int, last: int) -> Job:
        """The calls of machine code from `first` up to `last`."""
        words = np.array([self._table[first:].ctypes.data, last - first, self._sync.ctypes.data, GIVE_WAY], np.int64)
        return self._team.job(words)

    def _refuse(self, place: int) -> NoReturn:
        """Let NumPy's kernel of a call that has refused say what is wrong."""
        call = self._bound.calls[place]
        try:
            for function, arguments in call.reference():
                function(*arguments)
        except ExecutionError as error:
            self._bound.quote(error, place)
            raise
        raise ExecutionError(f"{self._bound.owners[place]} was refused by its kernel {call.request[0].name}")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Calls that are run together: a job of machine code, or NumPy's kernels."""

    first: int
    last: int
    job: Job | None
    shared: bool


def _use(call: _Native | Call, instruction: str) -> KernelUse:
    if not isinstance(call, _Native):
        return numpy_use(call, instruction)
    kernel, _ = call.request
    return KernelUse(instruction, NumbaBackend.name, kernel.name, kernel.source)


def _kernels(loops: Sequence[LoopCall], workspace: Workspace) -> list[tuple[Kernel, Sequence[Any]]] | None:
    """The calls as kernels with their arguments; None if a product among them has no kernel."""
    calls: list[tuple[Kernel, Sequence[Any]]] = []
    for loop in loops:
        if isinstance(loop, Product):
            products = product_calls(loop, find_blas(), workspace)
            if products is None:
                return None
            calls.extend(products)
        else:
            function, arguments = loop
            calls.append((function if isinstance(function, Kernel) else kernel_of(function), arguments))
    return calls


def _kind(argument: Any) -> str:
    """What a parameter is, as `build` has it."""
    if isinstance(argument, np.ndarray):
        return f"{argument.dtype.name}*"
    return "int" if isinstance(argument, int | np.integer) else "float"


def _word(argument: Any) -> int:
    if isinstance(argument, np.ndarray):
        return int(argument.ctypes.data)
    if isinstance(argument, int | np.integer):
        return int(argument)
    return int(struct.unpack("q", struct.pack("d", argument))[0])


def _overlap(arguments: Sequence[Any]) -> bool:
    """Whether memory between the first and the last element of an array is also another's."""
    spans = sorted(_span(argument) for argument in arguments if isinstance(argument, np.ndarray))
    return any(before[1] > after[0] for before, after in pairwise(spans))


def _span(array: Array) -> tuple[int, int]:
    begin = int(array.ctypes.data)
    reach = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True) if stride > 0)
    return begin, begin + reach + array.itemsize
