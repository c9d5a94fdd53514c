"""The reference backend: every instruction one NumPy kernel, bound to its arrays before the first run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

import numpy as np

from graphengine.backends.frame import Frame
from graphengine.errors import ExecutionError
from graphengine.ir.op import Array, Call
from graphengine.schedule.arena import CACHE_LINE
from graphengine.schedule.program import Instruction, Program

__all__ = ["NumpyBackend"]

BUFFERED_ELEMENTS = 320
"""How much NumPy buffers of an operand that it repeats, a bias say. By itself it is 8192, allocated in every call."""


class NumpyBackend:
    """Runs a program as a loop over bound kernels, on slots of one arena."""

    name = "numpy"

    def load(self, program: Program, leaves: Mapping[str, Array]) -> LoadedProgram:
        """Allocate the arena and bind every instruction to its arrays."""
        return LoadedProgram(program, leaves)


class LoadedProgram:
    """A program bound to arrays. Running it looks nothing up and allocates no array."""

    def __init__(self, program: Program, leaves: Mapping[str, Array]) -> None:
        self.arena = allocate(program.peak_bytes)
        self._program = program
        self._calls: list[Call] = []
        self._owners: list[Instruction] = []
        self._first_call = [0]
        frame = Frame(self.arena, leaves)
        for step in program.instructions:
            for call, owner in frame.bind(step):
                self._calls.append(call)
                self._owners.append(owner)
            self._first_call.append(len(self._calls))
        self.results: dict[str, Array] = {name: frame.array(buffer) for name, buffer in program.results.items()}

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

    def _explain(self, error: ExecutionError, failed: Call) -> None:
        """Quote the instruction whose call has failed; one of a scan's body with the scan around it."""
        function, arguments = failed
        calls = enumerate(self._calls)
        place = next(place for place, call in calls if call[0] is function and call[1] is arguments)
        owner, outer = self._owners[place], self._program.instructions[bisect_right(self._first_call, place) - 1]
        error.quote(
            f"node  {owner}",
            f"declared at {owner.where}",
            *(f"{operand.name} is {operand.type}" for operand in dict.fromkeys(owner.operands)),
            *([f"in the body of {outer}, declared at {outer.where}"] if owner is not outer else ()),
        )


def allocate(nbytes: int) -> Array:
    """A block of so many bytes, aligned to a cache line."""
    block = np.empty(nbytes + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    return block[start : start + nbytes]
