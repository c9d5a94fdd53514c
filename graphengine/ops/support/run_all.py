"""Several calls as one: the kernel of an op that is made of them, where somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from graphengine.ir.op import Call

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

REPEATABLE: set[Callable[..., Any]] = set()
"""Kernels in Python that may be made again, over their operand too, after an exception of a signal handler in them."""


def repeatable(kernel: Kernel) -> Kernel:
    """Note that it gives the same once more: by its values, or as it writes them last, where Python runs no handler."""
    REPEATABLE.add(kernel)
    return kernel


def run_all(calls: Sequence[Call]) -> None:
    """Run one kernel after the other."""
    for function, arguments in calls:
        function(*arguments)


def as_one(calls: Sequence[Call]) -> Call:
    """One call for several, or the only one."""
    return calls[0] if len(calls) == 1 else (run_all, (calls,))
