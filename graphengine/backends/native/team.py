"""The threads that run programs: workers that look for a job for a while, and then wait in Python for the next."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from graphengine.backends.native import runtime
from graphengine.backends.native.blas import find_blas
from graphengine.backends.native.code import addresses
from graphengine.ir.kernel import Kernel, kernel_of
from graphengine.ir.op import Array

__all__ = ["GIVE_WAY", "WORTH_SHARING", "Job", "Team", "count_threads", "runtime_address", "team"]

WORTH_SHARING = 650_000
"""From how many FLOPs and bytes together the threads share a kernel: what takes one of them some 5 microseconds.

The MLP 64-128-64-10 at batch 32 takes 29 us by one thread, and 48 where its smaller products are shared.
"""

_LINE = 8
"""Words to a cache line."""

_PATIENCE = 20_000
"""How often a worker looks for a job, about a millisecond, before it waits in Python, which takes longer to wake."""

GIVE_WAY: int = 0 if sys.platform == "win32" else ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
"""Where the function is by which a thread that waits long offers its core to others; 0 if there is none."""

_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
"""How a function of the runtime that has no rank is called: by where its arguments stand."""


def count_threads() -> int:
    """How many threads run a program: `GRAPHENGINE_THREADS`, `OMP_NUM_THREADS`, or as many as there are cores."""
    for name in ("GRAPHENGINE_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Job:
    """Arguments of the runtime's `lead`, for one thread and for all, and where they stand."""

    words: Array
    alone: Array
    together: Array
    alone_at: ctypes.c_void_p
    together_at: ctypes.c_void_p


class Team:
    """The workers of this process. One run at a time has them; another at the same time goes alone."""

    def __init__(self, threads: int) -> None:
        self.workers = threads - 1
        self.states: Array = np.zeros(_LINE * (self.workers + 1), np.int64)
        self._wake = [threading.Semaphore(0) for _ in range(self.workers)]
        self._taken = threading.Lock()
        self._run, self._at = runtime_address("run"), self.states.ctypes.data
        blas = find_blas()
        self._blas = (blas.get_threads, blas.set_threads) if blas and blas.get_threads else (0, 0)
        self._serve = _CALL(runtime_address("serve"))
        self._lead = _CALL(runtime_address("lead"))
        for worker in range(self.workers):
            threading.Thread(target=self._work, args=(worker,), daemon=True, name=f"graphengine-{worker}").start()

    def job(self, words: Array) -> Job:
        """What `run` takes: the calls that `words`, arguments of the runtime's `run`, say."""
        sync = int(words[2])
        alone, together = (
            np.array([self._run, words.ctypes.data, sync, self.states.ctypes.data, workers, *self._blas], np.int64)
            for workers in (0, self.workers)
        )
        return Job(words, alone, together, ctypes.c_void_p(alone.ctypes.data), ctypes.c_void_p(together.ctypes.data))

    def run(self, job: Job, shared: bool) -> None:
        """Do a job: with the workers if `shared` and nobody else has them."""
        if not (shared and self.workers and self._taken.acquire(blocking=False)):
            self._lead(job.alone_at)
            return
        try:
            for worker, wake in enumerate(self._wake):
                if self.states[_LINE * worker] == runtime.ASLEEP:
                    self.states[_LINE * worker] = runtime.IDLE
                    wake.release()
            self._lead(job.together_at)
        finally:
            self._taken.release()

    def _work(self, worker: int) -> None:
        arguments = np.array([self.states.ctypes.data, self.workers, worker, _PATIENCE], np.int64)
        while True:
            self._wake[worker].acquire()
            self._serve(arguments.ctypes.data)


@cache
def team() -> Team:
    """The team of this process, made on first use."""
    return Team(count_threads())


def runtime_address(name: str) -> int:
    """Where the machine code of a function of runtime.py is; all are compiled together."""
    requests = {
        each: (Kernel(each, kernel_of(function).source, may_overlap=True), signature)
        for each, (function, signature) in _RUNTIME.items()
    }
    return addresses(requests.values())[requests[name]]


_RUNTIME: dict[str, tuple[Any, tuple[str, ...]]] = {
    "run": (runtime.run, ("int64*", "int", "int64*", "int")),
    "lead": (runtime.lead, ("int", "int", "int64*", "int64*", "int", "int", "int")),
    "serve": (runtime.serve, ("int64*", "int", "int", "int")),
}


def _disband() -> None:
    """In a process forked off, which has none of the threads: leave runs to the one that there is."""
    if team.cache_info().currsize:
        team().workers = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disband)
