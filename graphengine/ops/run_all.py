"""Several calls as one: the kernel of an op that is made of them, where somebody asks for one."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.ir.op import Call

__all__ = ["run_all"]


def run_all(calls: Sequence[Call]) -> None:
    """Run one kernel after the other."""
    for function, arguments in calls:
        function(*arguments)
