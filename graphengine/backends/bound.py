"""A program as calls on arrays: all instructions bound in order, and where an error in a call comes from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphengine.backends.backend import KernelUse
from graphengine.backends.blas import ONE_THREAD_DOES
from graphengine.backends.frame import Binder, Frame, numpy_calls
from graphengine.backends.threads import ONE_BLAS_THREAD
from graphengine.errors import ExecutionError
from graphengine.ir.types import Array
from graphengine.schedule.arena import CACHE_LINE
from graphengine.schedule.program import Instruction, Program

BUFFERED_ELEMENTS = 288
"""How much NumPy buffers of an operand that it repeats, a bias say. By itself it is 8192, allocated in every call."""


class BoundProgram:
    """The calls of a program, in the form that `binder` gives them, on an arena of their own: by default of NumPy.

    Running it looks nothing up and allocates no array.
    """

    def __init__(self, program: Program, leaves: Mapping[str, Array], binder: Binder = numpy_calls) -> None:
        self.arena = _allocate(program.peak_bytes)
        self.calls: list[Any] = []
        self.owners: list[Instruction] = []
        self._program = program
        self._first_call = [0]
        frame = Frame(self.arena, leaves, binder)
        for step in program.instructions:
            for call, owner in frame.bind(step):
                self.calls.append(call)
                self.owners.append(owner)
            self._first_call.append(len(self.calls))
        self._one_thread = _go_alone(self.calls)
        self.results: dict[str, Array] = {name: frame.array(buffer) for name, buffer in program.results.items()}

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`; overflow and 0/0 give inf and NaN without a warning."""
        self.run_calls(self._first_call[start], self._first_call[stop])

    def run_calls(self, first: int, last: int) -> None:
        """Make the calls from `first` up to `last`, which are of NumPy kernels."""
        if self._one_thread:
            with ONE_BLAS_THREAD:
                self._run(first, last)
        else:
            self._run(first, last)

    def _run(self, first: int, last: int) -> None:
        calls = self.calls[first:last] if first or last < len(self.calls) else self.calls
        with np.errstate(all="ignore"):  # which puts the size of buffers back as well
            np.setbufsize(BUFFERED_ELEMENTS)
            try:
                for function, arguments in calls:
                    function(*arguments)
            except ExecutionError as error:
                self.quote(error, next(i for i in range(first, last) if _is_same(self.calls[i], (function, arguments))))
                raise

    @property
    def kernels(self) -> tuple[KernelUse, ...]:
        """What runs each instruction, and each of the body of a scan."""
        uses: dict[KernelUse, None] = {}
        for step, (first, last) in zip(self._program.instructions, pairwise(self._first_call), strict=True):
            if first == last or step.loop is not None:
                uses[KernelUse(str(step), "", "")] = None
            for call, owner in zip(self.calls[first:last], self.owners[first:last], strict=True):
                uses[self.use(call, str(step) if owner is step else f"  {owner}")] = None
        return tuple(uses)

    def use(self, call: Any, instruction: str) -> KernelUse:
        """The use of a kernel of NumPy, or of one that is Python around such kernels."""
        return KernelUse(instruction, "numpy", _kernel_name(call[0]))

    def quote(self, error: ExecutionError, index: int) -> None:
        """Quote the instruction of the call at `index`; one of a scan's body with the scan around it."""
        owner, outer = self.owners[index], self._program.instructions[bisect_right(self._first_call, index) - 1]
        error.quote(
            f"node  {owner}",
            f"declared at {owner.where}",
            *(f"{operand.name} is {operand.type}" for operand in dict.fromkeys(owner.operands)),
            *([f"in the body of {outer}, declared at {outer.where}"] if owner is not outer else ()),
        )


def _kernel_name(function: Any) -> str:
    """What a kernel is called: `numpy.add`, `numpy.add.reduce`, `ndarray.fill`, or a function of this package."""
    function = getattr(function, "func", function)  # of what has arguments already
    owner = getattr(function, "__self__", None)
    if isinstance(function, np.ufunc):
        return f"numpy.{function.__name__}"
    if isinstance(owner, np.ufunc):
        return f"numpy.{owner.__name__}.{function.__name__}"
    if isinstance(owner, np.ndarray):
        return f"ndarray.{function.__name__}"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{function.__module__}.{name.replace('.<locals>', '')}".removeprefix("graphengine.")


def _go_alone(calls: Sequence[Any]) -> bool:
    """Whether BLAS computes the products of these calls as fast by one thread, so that it should wait for no other.

    It decides by sizes alone, which fix the bits of a program's results.
    """
    sizes = [size for call in calls if isinstance(call, tuple) and (size := _product(call))]
    return bool(sizes) and not any(min(m, n, k) >= _BROAD and m * n * k >= _LARGE for m, n, k in sizes)


_LARGE, _BROAD = 2**22, 32
"""From how many multiplications and which least size on that pays, where each thread waits for the others.

With two threads instead of one the step of an LSTM (products [32, 96] @ [96, 256]) takes 1.19 times as long, that of
LeNet (8 and 16 filters) 1.23, that of a transformer block ([512, 64] @ [64, 192]) 0.92, that of an MLP ([128, 784] @
[784, 256]) 0.66: medians on two cores of an AMD EPYC (Zen 3), by `ge.set_threads` before this rule was made.
"""


def _product(call: Any) -> tuple[int, int, int] | None:
    """The sizes m, n, k of a product that BLAS may compute by several threads."""
    function, arguments = call
    if function is not np.dot and function is not np.matmul:
        return None
    a, b = arguments[:2]
    if a.ndim < 2 or b.ndim < 2 or a.dtype.kind != "f":
        return None
    (m, k), n = a.shape[-2:], b.shape[-1]
    return (m, n, k) if m * n * k > ONE_THREAD_DOES else None


def _is_same(call: Any, other: Any) -> bool:
    return call[0] is other[0] and call[1] is other[1]


def _allocate(nbytes: int) -> Array:
    """A block of so many bytes, aligned to a cache line."""
    block = np.empty(nbytes + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    return block[start : start + nbytes]
