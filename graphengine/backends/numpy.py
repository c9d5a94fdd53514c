"""The reference backend: every instruction one NumPy kernel, bound to its arrays before the first run."""

from __future__ import annotations

from collections.abc import Mapping

from graphengine.backends.bound import BoundProgram
from graphengine.ir.types import Array
from graphengine.schedule.memory import numpy_scratch
from graphengine.schedule.program import Program


class NumpyBackend:
    """Runs a program as a loop over bound kernels, on slots of one arena."""

    name = "numpy"
    scratch = staticmethod(numpy_scratch)

    def load(self, program: Program, leaves: Mapping[str, Array], most_steps: int | None = None) -> BoundProgram:
        """Allocate the arena and bind every instruction to its arrays."""
        return BoundProgram(program, leaves, most_steps=most_steps)
