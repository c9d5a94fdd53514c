"""Several calls as one: the kernel of an op that is made of them, where somebody asks for one."""

from __future__ import annotations

from collections.abc import Sequence

from graphengine.ir.op import Call


def run_all(calls: Sequence[Call]) -> None:
    """Run one kernel after the other."""
    for function, arguments in calls:
        function(*arguments)


def as_one(calls: Sequence[Call]) -> Call:
    """One call for several, or the only one."""
    return calls[0] if len(calls) == 1 else (run_all, (calls,))
