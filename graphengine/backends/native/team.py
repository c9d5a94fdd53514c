"""The threads that run programs: workers that look for a job for a while, and then wait in Python for the next."""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from typing import Any

import numpy as np

from graphengine.backends.native import runtime
from graphengine.backends.native.blas import find_blas
from graphengine.backends.native.code import addresses
from graphengine.ir.kernel import Kernel, kernel_of
from graphengine.ir.op import Array

__all__ = ["Team", "count_threads", "runtime_address", "team"]

_LINE = 8
"""Words to a cache line."""

_PATIENCE = 20_000
"""How often a worker looks for a job, about a millisecond, before it waits in Python, which takes longer to wake."""

_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def count_threads() -> int:
    """How many threads run a program: `GRAPHENGINE_THREADS`, `OMP_NUM_THREADS`, or as many as there are cores."""
    for name in ("GRAPHENGINE_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Team:
    """The workers of this process. One run at a time has them; another at the same time goes alone."""

    def __init__(self, threads: int) -> None:
        self._workers = threads - 1
        self.states: Array = np.zeros(_LINE * (self._workers + 1), np.int64)
        self._wake = [threading.Semaphore(0) for _ in range(self._workers)]
        self._taken = threading.Lock()
        self._run, self._at = runtime_address("run"), self.states.ctypes.data
        blas = find_blas()
        self._blas = (blas.get_threads, blas.set_threads) if blas and blas.get_threads else (0, 0)
        self._serve = _CALL(runtime_address("serve"))
        self._lead = _CALL(runtime_address("lead"))
        for worker in range(self._workers):
            threading.Thread(target=self._work, args=(worker,), daemon=True, name=f"graphengine-{worker}").start()

    def run(self, words: Array, shared: bool) -> None:
        """Run a job, `words` being arguments of the runtime's `run`: with the workers if `shared` and they are free."""
        together = shared and self._workers > 0 and self._taken.acquire(blocking=False)
        workers = self._workers if together else 0
        job = (ctypes.c_int64 * 7)(self._run, words.ctypes.data, int(words[2]), self._at, workers, *self._blas)
        try:
            for worker, wake in enumerate(self._wake[:workers]):
                if self.states[_LINE * worker] == runtime.ASLEEP:
                    self.states[_LINE * worker] = runtime.IDLE
                    wake.release()
            self._lead(job, 0, 1)
        finally:
            if together:
                self._taken.release()

    def _work(self, worker: int) -> None:
        arguments = np.array([self.states.ctypes.data, self._workers, worker, _PATIENCE], np.int64)
        while True:
            self._wake[worker].acquire()
            self._serve(arguments.ctypes.data, 0, 1)


@cache
def team() -> Team:
    """The team of this process, made on first use."""
    return Team(count_threads())


def runtime_address(name: str) -> int:
    """Where the machine code of a function of runtime.py is."""
    function, signature = _RUNTIME[name]
    request = Kernel(name, kernel_of(function).source, may_overlap=True), signature
    return addresses([request])[request]


_RUNTIME: dict[str, tuple[Any, tuple[str, ...]]] = {
    "run": (runtime.run, ("int64*", "int", "int64*", "int")),
    "lead": (runtime.lead, ("int", "int", "int64*", "int64*", "int", "int", "int")),
    "serve": (runtime.serve, ("int64*", "int", "int", "int")),
}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team.cache_clear)
