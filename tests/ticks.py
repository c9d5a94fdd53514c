"""Signals that come again and again, at moments that nobody chooses."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")


class Ticks:
    """A handler that a timer calls often, in the main thread; afterwards the handler before is back."""

    def __init__(self, handler: Callable[[], object], seconds: float) -> None:
        self._handler, self._seconds = handler, seconds

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, lambda *_: self._handler())
        signal.setitimer(signal.ITIMER_REAL, self._seconds, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
