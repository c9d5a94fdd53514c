"""A machine that has other work to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["others_computing"]


@contextmanager
def others_computing(count: int) -> Iterator[None]:
    """Inside, so many processes of normal priority compute without end, on whatever cores the system gives them."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield
