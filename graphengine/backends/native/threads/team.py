"""The threads that run programs: workers that look for work for a while, and then wait in Python for the next.

Whatever a worker does not take, the thread that leads a run does itself, so that no run waits for a thread to wake. How
a program is cut does not depend on who computes it: the bits are the same with and without help.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from dataclasses import dataclass, field, replace
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from graphengine.backends.native.compile.store import addresses
from graphengine.backends.native.kernel import kernel_of
from graphengine.backends.native.threads import runtime
from graphengine.backends.native.threads.pace import Pace
from graphengine.backends.native.threads.runtime import LINE, STATE
from graphengine.backends.threads import MOST_THREADS, get_threads
from graphengine.ir.types import Array

_PATIENCE = 200e-6
"""Seconds that a worker looks for work before it waits in Python, which takes longer to wake."""

_LOOKS = 2_000
"""How often a worker looks for work at first, to learn how long a look takes; and as often at least later on."""

_C = None if sys.platform == "win32" else ctypes.CDLL(None)

_GIVE_WAY: int = ctypes.cast(_C.sched_yield, ctypes.c_void_p).value or 0 if _C and hasattr(_C, "sched_yield") else 0
"""Where the function is by which a thread that waits long offers its core to others; 0 if there is none."""

_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
"""How a function of the runtime that has no rank is called: by where its arguments stand."""


@dataclass(frozen=True, slots=True)
class Job:
    """Where the arguments of the runtime's `lead` are, without help and with it, and which of both takes less."""

    alone: ctypes.c_void_p
    together: ctypes.c_void_p
    pace: Pace = field(default_factory=Pace)


class Team:
    """The workers of this process. One run at a time has them; another at the same time goes alone."""

    def __init__(self) -> None:
        self.board: Array = np.zeros(LINE * (MOST_THREADS + 1), np.int64)
        self._wake: list[threading.Semaphore] = []
        self._ids: dict[int, int] = {}  # by rank
        self._taken = threading.Lock()
        self._lead, self._serve = _runtime()

    def job(self, table: Array, fault: Array) -> Job:
        """What `run` takes: the calls that `table` says, whose faults are noted in the 16 words of `fault`."""
        where = table.ctypes.data, len(table), fault.ctypes.data, self.board.ctypes.data
        words = [(ctypes.c_int64 * 6)(*where, shared, _GIVE_WAY) for shared in (0, 1)]
        alone, together = (ctypes.cast(array, ctypes.c_void_p) for array in words)  # which keep their arrays alive
        return Job(alone, together)

    def run(self, job: Job, shared: bool) -> None:
        """Do a job: with the workers if `shared`, nobody else has them, and their help pays."""
        if not shared or get_threads() == 1:
            self._lead(job.alone)
        elif not job.pace.together:
            begin = perf_counter()
            self._lead(job.alone)
            job.pace.note(perf_counter() - begin)
        elif self._taken.locked():
            self._lead(job.alone)
        else:
            with self._taken:  # which waits if another run has just taken them
                begin = perf_counter()
                self._call_in()
                self._lead(job.together)
                job.pace.note(perf_counter() - begin)

    def _call_in(self) -> None:
        """Wake the workers that sleep. There are as many as there are to be threads, but for the one that leads."""
        wanted = get_threads() - 1
        while len(self._wake) < wanted:
            self._hire()
        for worker in range(wanted):
            state = LINE * (worker + 2) + STATE
            if self.board[state] == runtime.ASLEEP:
                _keep_apart(self._ids.get(worker + 1))
                self.board[state] = runtime.AWAKE
                self._wake[worker].release()

    def _hire(self) -> None:
        """Start one more worker, which sleeps at first."""
        started = threading.Event()
        self._wake.append(threading.Semaphore(0))
        rank = len(self._wake)
        threading.Thread(target=self._work, args=(rank, started), daemon=True, name=f"graphengine-{rank}").start()
        started.wait()

    def _work(self, rank: int, started: threading.Event) -> None:
        """What a worker does: it serves, and waits for the next time."""
        arguments = (ctypes.c_int64 * 4)(self.board.ctypes.data, rank, _LOOKS, _GIVE_WAY)
        state = LINE * (rank + 1) + STATE
        self.board[state] = runtime.AWAKE
        begin = perf_counter()
        self._serve(arguments)
        looks_a_second = _LOOKS / (perf_counter() - begin)
        arguments[2] = max(_LOOKS, int(_PATIENCE * looks_a_second))
        self._ids[rank] = threading.get_native_id()
        started.set()
        while True:
            self._wake[rank - 1].acquire()
            self._serve(arguments)

    def disband(self) -> None:
        """In a process forked off, which has none of the threads and may have been forked in the middle of a run."""
        self._wake, self._ids, self._taken = [], {}, threading.Lock()
        self.board[:] = 0


def _keep_apart(thread: int | None) -> None:
    """Let a worker that sleeps wake on another core than this thread's, if this process may use another.

    Linux wakes a thread on the core of the one that wakes it, and takes up to tens of milliseconds to move it away.
    """
    if _C is None or not (hasattr(os, "sched_setaffinity") and hasattr(_C, "sched_getcpu")):
        return
    others = os.sched_getaffinity(0) - {_C.sched_getcpu()}
    if others and thread is not None:  # None has not begun yet
        os.sched_setaffinity(thread, others)


@cache
def team() -> Team:
    """The team of this process, made on first use."""
    return Team()


def _runtime() -> list[Any]:
    """`lead` and `serve` of runtime.py as machine code."""
    signatures = {
        runtime.lead: ("int64*", "int", "int64*", "int64*", "int", "int"),
        runtime.serve: ("int64*", "int", "int", "int"),
    }
    requests = [(replace(kernel_of(function), may_overlap=True), kinds) for function, kinds in signatures.items()]
    return [_CALL(address) for address in addresses(requests).values()]


def _disband() -> None:
    if team.cache_info().currsize:
        team().disband()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disband)
