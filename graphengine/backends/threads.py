"""How many threads compute: as many as this process may have cores, or as it has been told."""

from __future__ import annotations

import ctypes
import operator
import os
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from graphengine.backends.blas import find_blas
from graphengine.backends.cgroups import groups
from graphengine.backends.undisturbed import undisturbed
from graphengine.errors import ValueRangeError

MOST_THREADS = 256
"""More threads than these are never used."""

WORTH_SHARING = 650_000
"""From how many FLOPs and bytes together the threads share a kernel: what takes one of them some 5 microseconds.

The MLP 64-128-64-10 at batch 32 takes 29 us by one thread, and 48 where its smaller products are shared.
"""

_told: list[int] = []
"""What `set_threads` was given last. The threads are the process's, so it is too."""


def set_threads(count: int) -> None:
    """Let this process compute with `count` threads: programs of the numba backend, and NumPy's BLAS for both backends.

    count: from 1 to 256. It holds from the next run on, for every executable. A program that has run before is cut for
    the number of threads of that time: it is computed by fewer of them, but not by more. Results depend in their last
    bits on the number of threads that BLAS has.
    Returns nothing. Raises ValueRangeError for any other count.
    """
    whole = operator.index(count) if hasattr(count, "__index__") and not isinstance(count, bool) else 0
    if not 1 <= whole <= MOST_THREADS:
        raise ValueRangeError(f"the number of threads is an int from 1 to {MOST_THREADS}, not {count!r}")
    _told[:] = [whole]
    if _blas():
        _blas()[1](whole)


class _OneBlasThread:
    """While programs run inside, BLAS has one thread. When the last has ended, it has as many again as before."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self.forget()

    def forget(self) -> None:
        """In a process forked off: the threads whose programs run are not there."""
        self._lock = threading.RLock()  # a signal handler may run a program when another's is about to begin or end
        self._inside: set[object] = set()

    def during(self, work: Callable[..., object], *arguments: object) -> None:
        """Do work inside."""
        token = object()
        try:
            self._enter(token)
            work(*arguments)
            self._leave(token)
        except BaseException:
            undisturbed(self._leave, token)
            raise

    def _enter(self, token: object) -> None:
        if not _blas():
            return
        get, set_ = _blas()
        with self._lock:
            self._inside.add(token)
            self._before.setdefault("threads", get())
            if get() != 1:
                set_(1)

    def _leave(self, token: object) -> None:
        with self._lock:
            self._inside.discard(token)
            before = None if self._inside else self._before.pop("threads", None)
            if before not in (None, 1):
                _blas()[1](before)


ONE_BLAS_THREAD = _OneBlasThread()
"""That of this process, for all programs and backends."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ONE_BLAS_THREAD.forget)


@cache
def _blas() -> tuple[Callable[..., int], ...]:
    """The functions that get and set the number of BLAS's threads; none if it has none."""
    blas = find_blas()
    if blas is None or not (blas.get_threads and blas.set_threads):
        return ()
    number = ctypes.c_int  # the first returns at once, so that it need not let other threads have Python
    return ctypes.PYFUNCTYPE(number)(blas.get_threads), ctypes.CFUNCTYPE(None, number)(blas.set_threads)


def get_threads() -> int:
    """The number of threads that programs of the numba backend are computed by, at most.

    It is what `set_threads` was given, else GRAPHENGINE_THREADS, else OMP_NUM_THREADS, else the number of cores that
    this process may use: by its affinity, and by the quota of its control groups (cgroups), rounded down.
    """
    return _told[0] if _told else _at_first()


@cache
def _at_first() -> int:
    for name in ("GRAPHENGINE_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return min(int(value), MOST_THREADS)
    return min(available_cores(), MOST_THREADS)


def available_cores(root: Path = Path("/")) -> int:
    """How many cores this process may use; `root` is where the files of the system begin."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for group in groups(root, "cpu") for quota in _quota(*group))]))


def _quota(group: Path, version_2: bool) -> Iterator[float]:
    try:
        if version_2:
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return
    if quota.isdecimal() and period.isdecimal() and int(period):  # none is "max", or -1
        yield int(quota) / int(period)
