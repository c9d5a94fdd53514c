"""How many bytes a step takes, measured from outside the peer, so alike for all."""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from .case import Unsupported

__all__ = ["allocations", "measure"]

Run = Callable[[int], list[float]]


def measure(run: Run, steps: int) -> dict[str, Any]:
    """The growth of the resident set since now, to its peak: in the first step, and in `steps` after it."""
    _give_back()
    _reset_peak()
    before = _resident("VmRSS")
    run(1)
    first = _resident("VmHWM")
    _give_back()
    _reset_peak()
    run(steps)
    return {"first": first - before, "steady": _resident("VmHWM") - before}


def allocations(run: Run, steps: int) -> dict[str, Any]:
    """What tracemalloc sees of `steps` steps: the peak above the start, and what is left of it afterwards."""
    run(2)
    gc.collect()
    tracemalloc.start()
    try:
        run(1)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        run(steps)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return {"peak": peak - before, "left": after - before}


def _give_back() -> None:
    """Let the system have what is free, where the C library can do that: it would hide what comes after."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reset_peak() -> None:
    """Let the greatest resident set be that of now. Linux alone can do that, and it is what makes peaks comparable."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        raise Unsupported(f"{sys.platform} does not tell the peak of a part of a process' life") from None


def _resident(what: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines[what].split()[0]) * 1024
