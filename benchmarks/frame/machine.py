"""What the machine is that a benchmark runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from benchmarks.frame.result import Machine

__all__ = ["this_machine"]


def this_machine() -> Machine:
    """The facts that a figure is worth nothing without."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        memory_bytes=_memory(),
        system=f"{platform.system()} {platform.release()}",
    )


def _processor() -> str:
    """The model's name, for which there is no call that all systems have."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = [line.partition(":") for line in lines]
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    name = fields.get("model name", platform.machine())
    numbered = all(key in fields for key in ("cpu family", "model"))  # a virtual one's name may say little
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if numbered else name


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0  # some systems do not tell
