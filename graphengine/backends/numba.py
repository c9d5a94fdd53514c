"""The backend that compiles: ops with a lowering run as machine code, the others by NumPy.

A kernel is compiled once for its source and dtypes, for all programs and sizes, and stored on disk. A program is a
table of calls; successive calls of machine code are one call from Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NoReturn

import numpy as np

from graphengine.backends.backend import KernelUse
from graphengine.backends.blas import ONE_THREAD_DOES, find_blas
from graphengine.backends.bound import BoundProgram, Listing
from graphengine.backends.native.compile.arguments import apart, kind, word
from graphengine.backends.native.compile.store import Request, addresses
from graphengine.backends.native.gemm.products import blas_product, product_call
from graphengine.backends.native.gemm.tiles import Workspace
from graphengine.backends.native.kernel import Kernel, Product, is_shared, kernel_of, parameters
from graphengine.backends.native.lowering.registry import lower, numpy_scratch, scratch_types
from graphengine.backends.native.threads.runtime import ROW
from graphengine.backends.native.threads.team import Job, team
from graphengine.backends.threads import ONE_BLAS_THREAD, WORTH_SHARING, get_threads
from graphengine.errors import ExecutionError
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array
from graphengine.schedule.program import Program

_FAULT, _FAULTY = 0, 8  # words of what runtime.py calls `fault`
_NOT_MADE = -1  # what stands in all of them until the calls of a piece are made


class NumbaBackend:
    """Runs kernels as machine code, on the slots of one arena, by all cores where that pays."""

    name = "numba"
    scratch = staticmethod(scratch_types)

    def load(self, program: Program, leaves: Mapping[str, Array], most_steps: int | None = None) -> NativeProgram:
        """Allocate the arena, bind every instruction to its arrays, and compile what is not stored."""
        return NativeProgram(program, leaves, most_steps)


@dataclass(frozen=True, slots=True)
class _Native:
    """A call of machine code, of a kernel of an op."""

    request: Request
    arguments: tuple[Any, ...]
    reference: Callable[[], Sequence[Call]]
    """The calls by which NumPy computes the op, and says what is wrong if the kernel refuses."""

    @property
    def has_threads_of_blas(self) -> bool:
        """Whether BLAS would compute it by several threads, had it several."""
        if self.request[0].name != blas_product.__name__:
            return False
        _, _, m, n, k = self.arguments[4][:5].tolist()
        return bool(m * n * k > ONE_THREAD_DOES)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Calls of machine code that are run together."""

    first: int
    job: Job
    shared: bool
    limits_blas: bool
    """Whether BLAS is to have one thread meanwhile."""


class NativeProgram(BoundProgram):
    """A program bound to arrays, with its calls of machine code in a table."""

    def __init__(self, program: Program, leaves: Mapping[str, Array], most_steps: int | None) -> None:
        self._team = team()
        self._fault = np.zeros(16, np.int64)
        self._faulty = self._fault.data
        self._threads = get_threads()
        self._workspace = Workspace(self._threads)
        super().__init__(program, leaves, self._bind, most_steps)
        self._shared = [
            isinstance(call, _Native)
            and is_shared(call.request[0])
            and owner.flops + owner.bytes_moved >= WORTH_SHARING
            for call, owner in zip(self.calls, self.owners, strict=True)
        ]
        self._table = self._tabulate()
        self._alone: dict[tuple[int, int], _Piece | None] = {}
        """What is run, all or what is before or behind the end of FORWARD, if it is one piece of machine code."""

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`; overflow and 0/0 give inf and NaN without a warning.

        All of them, or none: an exception of a signal handler is raised behind the last.
        """
        try:
            piece = self._alone[start, stop]
        except KeyError:
            piece = self._alone[start, stop] = self._only_piece(self._first_call[start], self._first_call[stop])
        if piece is None:
            super().run(start, stop)
        else:
            self._do(piece)

    def _do(self, piece: _Piece) -> None:
        """Make the calls of a piece, which are one call of Python."""
        if piece.limits_blas:
            ONE_BLAS_THREAD.during(self._team.run, piece.job, piece.shared)
        else:
            self._team.run(piece.job, piece.shared)
        if self._faulty[_FAULTY]:
            self._refuse(piece.first + self._faulty[_FAULTY] - 1)

    def _do_once(self, piece: _Piece) -> None:
        """The same among other calls: if it has been made and an exception came, only look whether it was refused."""
        if self._faulty[_FAULTY] == _NOT_MADE:
            self._do(piece)
        elif self._faulty[_FAULTY]:
            self._refuse(piece.first + self._faulty[_FAULTY] - 1)

    def _only_piece(self, first: int, last: int) -> _Piece | None:
        is_native = all(isinstance(call, _Native) for call in self.calls[first:last])
        return self._piece(first, last) if is_native and last > first else None

    def _list(self, first: int, last: int) -> Listing:
        listing = Listing()
        for is_native, run in groupby(range(first, last), key=lambda index: isinstance(self.calls[index], _Native)):
            indices = list(run)
            if is_native:
                piece = self._piece(indices[0], indices[-1] + 1)
                for row in ((self._fault.fill, _NOT_MADE), (self._do_once, piece)):
                    listing.append(row, len(listing.rows), None)
            else:
                for index in indices:
                    self._append(listing, index)
        return listing.ended()

    def use(self, call: _Native | Call, instruction: str) -> KernelUse:
        """The use of machine code with its text, or of NumPy's kernel where an op has no lowering."""
        if not isinstance(call, _Native):
            return super().use(call, instruction)
        kernel, _ = call.request
        return KernelUse(instruction, NumbaBackend.name, kernel.name, kernel.source)

    def _bind(self, op: Op, out: Any, operands: Sequence[Array], scratch: Sequence[Array]) -> Sequence[_Native | Call]:
        """The calls of an op: machine code if it has a lowering, and NumPy's kernel if not."""

        def reference() -> Sequence[Call]:
            return op.calls(out, *operands, scratch=numpy_scratch(op, out, operands, scratch))

        lowered = lower(op, out, operands, scratch)
        if lowered is None:
            return reference()
        calls: list[_Native] = []
        for call in lowered:
            found = product_call(call, find_blas(), self._workspace) if isinstance(call, Product) else call
            if found is None:
                return reference()
            function, arguments = found
            kernel = function if isinstance(function, Kernel) else kernel_of(function)
            if "fault" in parameters(kernel):
                arguments = [*arguments, self._fault[_FAULT : _FAULT + 1]]
            kernel, arguments = apart(kernel, arguments)
            calls.append(_Native((kernel, tuple(map(kind, arguments))), tuple(arguments), reference))
        return calls

    def _tabulate(self) -> Array:
        """A row of the runtime's table for each call; the rows of NumPy's kernels are 0."""
        native = {index: call for index, call in enumerate(self.calls) if isinstance(call, _Native)}
        found = addresses(call.request for call in native.values())
        words = [[word(argument) for argument in call.arguments] for call in native.values()]
        self._words = np.array([number for row in words for number in row], np.int64)
        offsets = np.cumsum([0, *map(len, words)])
        table = np.zeros((len(self.calls), ROW), np.int64)
        for (index, call), offset in zip(native.items(), offsets, strict=False):
            parts = self._threads if self._shared[index] else 1
            table[index] = found[call.request], self._words.ctypes.data + 8 * offset, parts
        return table

    def _piece(self, first: int, last: int) -> _Piece:
        """The calls from `first` up to `last`, which are of machine code."""
        job = self._team.job(self._table[first:last], self._fault)
        limits = any(call.has_threads_of_blas for call in self.calls[first:last])
        return _Piece(first, job, any(self._shared[first:last]), limits)

    def _refuse(self, index: int) -> NoReturn:
        """Let NumPy's kernel of a call that has refused say what is wrong."""
        call = self.calls[index]
        try:
            for function, arguments in call.reference():
                function(*arguments)
        except ExecutionError as error:
            self.quote(error, index)
            raise
        raise ExecutionError(f"{self.owners[index]} was refused by its kernel {call.request[0].name}")
