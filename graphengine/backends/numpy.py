"""The reference backend: every instruction one NumPy kernel, bound to its arrays before the first run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphengine.errors import ExecutionError
from graphengine.ir.op import Array, Call
from graphengine.schedule.memory import CACHE_LINE
from graphengine.schedule.program import Buffer, Instruction, Program

__all__ = ["NumpyBackend"]

BUFFERED_ELEMENTS = 320
"""How many elements NumPy buffers of an operand that it repeats, a bias say: by itself 8192, allocated in every call."""


class NumpyBackend:
    """Runs a program as a loop over bound kernels, on slots of one arena."""

    name = "numpy"

    def load(self, program: Program, leaves: Mapping[str, Array]) -> LoadedProgram:
        """Allocate the arena and bind every instruction to its arrays."""
        return LoadedProgram(program, leaves)


class LoadedProgram:
    """A program bound to arrays. Running it looks nothing up and allocates no array."""

    def __init__(self, program: Program, leaves: Mapping[str, Array]) -> None:
        self._slots = allocate(program.slot_bytes)
        self._leaves = leaves
        self._arrays: dict[Buffer, Array] = {}
        self._calls: list[Call] = []
        self._steps: list[Instruction] = []
        self._first_call = [0]
        for step in program.instructions:
            self._bind(step)
            self._first_call.append(len(self._calls))
        self.results: dict[str, Array] = {name: self._array(buffer) for name, buffer in program.results.items()}

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`; overflow and 0/0 give inf and NaN without a warning."""
        calls = self._calls
        first, last = self._first_call[start], self._first_call[stop]
        if first or last < len(calls):
            calls = calls[first:last]
        with np.errstate(all="ignore"):  # which puts the size of buffers back as well
            np.setbufsize(BUFFERED_ELEMENTS)
            try:
                for function, arguments in calls:
                    function(*arguments)
            except ExecutionError as error:
                self._explain(error, (function, arguments))
                raise

    def _bind(self, step: Instruction) -> None:
        operands = [self._array(operand) for operand in step.operands]
        if step.is_view:
            self._arrays[step.out] = step.op.view(operands[0])
            return
        scratch = [self._array(buffer) for buffer in step.scratch]
        self._calls.append(step.op.bind(self._array(step.out), *operands, scratch=scratch))
        self._steps.append(step)

    def _array(self, buffer: Buffer) -> Array:
        if buffer not in self._arrays:
            if buffer.slot is None:
                assert buffer.leaf is not None  # a view is bound by the instruction that makes it
                self._arrays[buffer] = self._leaves[buffer.leaf]
            else:
                memory = self._slots[buffer.slot][: buffer.type.nbytes]
                self._arrays[buffer] = memory.view(buffer.type.dtype).reshape(buffer.type.static_shape)
        return self._arrays[buffer]

    def _explain(self, error: ExecutionError, failed: Call) -> None:
        function, arguments = failed
        calls = zip(self._steps, self._calls, strict=True)
        step = next(step for step, call in calls if call[0] is function and call[1] is arguments)
        error.quote(
            f"node  {step}",
            f"declared at {step.where}",
            *(f"{operand.name} is {operand.type}" for operand in dict.fromkeys(step.operands)),
        )


def allocate(slot_bytes: tuple[int, ...]) -> list[Array]:
    """One block of memory, aligned to a cache line, cut into slots."""
    block = np.empty(sum(slot_bytes) + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    slots = []
    for size in slot_bytes:
        slots.append(block[start : start + size])
        start += size
    return slots
