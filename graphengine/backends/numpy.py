"""The reference backend: every instruction one NumPy kernel, bound to its arrays before the first run."""

from __future__ import annotations

from collections.abc import Mapping

from graphengine.backends.backend import KernelUse
from graphengine.backends.bound import BoundProgram, numpy_use
from graphengine.backends.frame import numpy_calls
from graphengine.ir.types import Array
from graphengine.schedule.memory import numpy_scratch
from graphengine.schedule.program import Program


class NumpyBackend:
    """Runs a program as a loop over bound kernels, on slots of one arena."""

    name = "numpy"
    scratch = staticmethod(numpy_scratch)

    def load(self, program: Program, leaves: Mapping[str, Array]) -> LoadedProgram:
        """Allocate the arena and bind every instruction to its arrays."""
        return LoadedProgram(program, leaves)


class LoadedProgram:
    """A program bound to arrays. Running it looks nothing up and allocates no array."""

    def __init__(self, program: Program, leaves: Mapping[str, Array]) -> None:
        self._bound = BoundProgram(program, leaves, numpy_calls)
        self.arena = self._bound.arena
        self.results = self._bound.results

    @property
    def kernels(self) -> tuple[KernelUse, ...]:
        """NumPy's kernels, and those made of them."""
        return self._bound.uses(numpy_use)

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`; overflow and 0/0 give inf and NaN without a warning."""
        self._bound.run(*self._bound.calls_of(start, stop))
