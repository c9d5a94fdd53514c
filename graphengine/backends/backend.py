"""What a backend is: something that makes a program runnable on arrays that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from graphengine.ir.op import Array
from graphengine.schedule.program import Program

__all__ = ["Backend", "Runnable"]


class Runnable(Protocol):
    """A program bound to its arrays."""

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

    def load(self, program: Program, leaves: Mapping[str, Array]) -> Runnable:
        """Bind `program` to slots of its own and to the arrays of its leaves, which it reads and updates."""
