"""How many threads compute: as many as this process may have cores, or as it has been told."""

from __future__ import annotations

import ctypes
import operator
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from graphengine.backends.native.blas import find_blas
from graphengine.errors import ValueRangeError

__all__ = ["MOST_THREADS", "available_cores", "get_threads", "limit_blas", "release_blas", "set_threads"]

MOST_THREADS = 256
"""More threads than these are never used."""

_told: list[int] = []
"""What `set_threads` was given last. The threads are the process's, so it is too."""


def set_threads(count: int) -> None:
    """Let this process compute with `count` threads: programs of the numba backend, and NumPy's BLAS for both backends.

    count: from 1 to 256. It holds from the next run on, for every executable. A program that has run before is cut for
    the number of threads of that time: it is computed by fewer of them, but not by more. Results depend in their last
    bits on the number of threads that BLAS has.
    Raises ValueRangeError for any other count.
    """
    whole = operator.index(count) if hasattr(count, "__index__") and not isinstance(count, bool) else 0
    if not 1 <= whole <= MOST_THREADS:
        raise ValueRangeError(f"the number of threads is an int from 1 to {MOST_THREADS}, not {count!r}")
    _told[:] = [whole]
    if _blas():
        _blas()[1](whole)


def limit_blas() -> int:
    """Let NumPy's products be computed by one thread; returns what `release_blas` is to be given when they are done."""
    before = _blas()[0]() if _blas() else 1
    if before != 1:
        _blas()[1](1)
    return before


def release_blas(before: int) -> None:
    """Give NumPy's products as many threads as they had."""
    if before != 1:
        _blas()[1](before)


@cache
def _blas() -> tuple[Callable[..., int], ...]:
    """The functions that get and set the number of BLAS's threads; none if it has none."""
    blas = find_blas()
    if blas is None or not (blas.get_threads and blas.set_threads):
        return ()
    number = ctypes.c_int
    return ctypes.CFUNCTYPE(number)(blas.get_threads), ctypes.CFUNCTYPE(None, number)(blas.set_threads)


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
    return max(1, min([cores, *map(int, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of the control groups (version 2 or 1) that this process is in, each as a number of cores."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        version_2 = controllers == ""
        if not version_2 and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("" if version_2 else "cpu")
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):  # in a container the path may be that of the host: its own is the mount
            yield from _quota(mount / group, version_2)


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
