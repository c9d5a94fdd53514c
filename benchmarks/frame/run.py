"""Around every run of a benchmark: the machine it is on, other processes that compute, and the result at its end."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.frame.benchmark import Request
from benchmarks.frame.result import Machine, PeerFacts, Record, Result

__all__ = ["others_computing", "result_of", "this_machine"]


def result_of(benchmark: str, request: Request, peers: Mapping[str, PeerFacts], records: Iterable[Record]) -> Result:
    """The result of a run that just ended."""
    return Result(
        benchmark=benchmark,
        day=datetime.date.today().isoformat(),
        machine=this_machine(),
        seconds=request.seconds,
        threads=request.threads,
        busy=request.busy,
        peers=dict(peers),
        records=tuple(records),
    )


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


@contextmanager
def others_computing(count: int) -> Iterator[None]:
    """Inside, so many processes of normal priority compute without end, on whatever cores the system gives them."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield
