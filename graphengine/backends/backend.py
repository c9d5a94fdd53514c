"""What a backend is: something that makes a program runnable on arrays that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from graphengine.ir.op import Op
from graphengine.ir.types import Array, ValueType
from graphengine.schedule.program import Program


@dataclass(frozen=True, slots=True)
class KernelUse:
    """Which kernel runs an instruction, and whose it is."""

    instruction: str
    """The instruction as the listing of its program has it; "  " ahead for one of the body of the scan above."""
    backend: str
    kernel: str
    """Its name; empty, as the backend is, for a view, which nothing runs, and for a scan, which its body runs."""
    source: str | None = None
    """The text of a kernel that was generated."""


class Runnable(Protocol):
    """A program bound to its arrays."""

    @property
    def kernels(self) -> tuple[KernelUse, ...]:
        """What runs each instruction, in their order; an instruction that several kernels run has a line for each."""

    @property
    def results(self) -> Mapping[str, Array]:
        """Where the values of the program's results stand after a run; the next run overwrites them."""

    def run(self, start: int, stop: int) -> None:
        """Run the instructions from `start` up to `stop`."""


class Backend(Protocol):
    """A way to run programs."""

    @property
    def name(self) -> str:
        """What `compile` knows it by."""

    def scratch(self, op: Op, y: ValueType, *types: ValueType) -> Sequence[ValueType]:
        """The work memory of an op that is bound to arrays of these types."""

    def load(self, program: Program, leaves: Mapping[str, Array], most_steps: int | None = None) -> Runnable:
        """Bind `program` to slots of its own and to the arrays of its leaves, which it reads and updates.

        With `most_steps` so many steps of each scan are bound, for its kernels to be told; it is not run then.
        """
