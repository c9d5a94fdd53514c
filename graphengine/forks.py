"""The locks that a fork waits for, so that a process forked off finds them free, and whole what they guard."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # see below: its locks must be registered before those of this file
import logging  # noqa: F401  # likewise
import os
import threading
from typing import Any

TYPES = threading.RLock()
"""Held to make a type, of which all threads have the same one."""

BUILDING = threading.RLock()
"""Held to compile, plan and bind: one thread at a time does."""

_LONGEST = 10.0
"""Seconds that a fork waits at most: for a thread that has such a lock, and waits for one that the fork has already."""

_held: list[Any] = []
_missed: list[Any] = []


def _hold() -> None:
    _missed.clear()
    for lock in (BUILDING, TYPES):  # in the order in which a thread takes them
        (_held if lock.acquire(timeout=_LONGEST) else _missed).append(lock)


def _release() -> None:
    while _held:
        _held.pop().release()


def _free() -> None:
    """In a process forked off, which has none of the threads that held what was not waited for any longer."""
    _release()
    for lock in _missed:
        lock._at_fork_reinit()  # as the standard library does


# A fork takes the locks that were registered last first. A thread that builds may wait for one of logging or of
# concurrent.futures: if the fork had that one already, both would wait for each other.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_free)
